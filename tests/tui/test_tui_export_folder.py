"""The export dialog's folder: typed, completed, remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import settle, until

from engramcka.tui.screens.export import ExportScreen


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_a_folder_is_completed_used_and_remembered(run, make_app, size):
    """And q is a letter there."""
    Path("for-paper q").mkdir()
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ExportScreen))
        field = app.screen.query_one("#folder")
        field.focus()
        await pilot.press(*"for")
        await pilot.pause(0.3)
        await pilot.press("right")
        assert field.value == "for-paper q/"
        await pilot.press(*"q", "enter")
        await until(pilot, lambda: bool(list(Path("for-paper q/q").glob("*.png"))))
        assert app.browser.current_session().export_folder == "for-paper q/q"
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, ExportScreen))
        assert app.screen.query_one("#folder").value == "for-paper q/q"
