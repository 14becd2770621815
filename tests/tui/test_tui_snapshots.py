"""Every screen after real keys, at the three sizes of the specification."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from small_runs import settle, until
from textual.pilot import Pilot

from engramcka.tui.session import Session
from engramcka.tui.terminal import Capabilities
from engramcka.tui.widgets.preview import Preview

SIZES = [(100, 30), (80, 24), (40, 12)]


def after(*keys: str) -> Callable[[Pilot[None]], object]:
    """Press keys one by one, waiting for what each one asks for."""

    async def press(pilot: Pilot[None]) -> None:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        browser = pilot.app.browser  # type: ignore[attr-defined]
        await until(pilot, lambda: browser.found is not None)
        previews = list(pilot.app.screen.query(Preview))
        await until(pilot, lambda: all(preview.pixels is not None for preview in previews))

    return press


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("right", "right", "up"), id="map"),
        pytest.param(("n", "n", "right"), id="sweep"),
        pytest.param(("n", "n", "n"), id="log"),
        pytest.param(("right", "up", "d"), id="compare"),
    ],
)
def test_screen(snap_compare, run, make_app, size, keys):
    assert snap_compare(make_app(run), terminal_size=size, run_before=after(*keys))


KINDS = {
    "lens": ("lens/engram", "right", "right"),
    "gates": ("gates/engram", "right", "right"),
    "memory": ("memory/engram", "down"),
    "allocation": ("allocation/u", "m"),
    "training": ("training/moe", "L", "L"),
    "series": ("cka/over-training-100", "right_square_bracket", "right"),
}
LAID_OUT_AS_OTHERS = ("series", "training")  # where there is room: as the map and the lens


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        pytest.param(kind, size, id=f"{kind}-{size[0]}x{size[1]}")
        for size in SIZES
        for kind in KINDS
        if size != SIZES[0] or kind not in LAID_OUT_AS_OTHERS
    ],
)
def test_kind(snap_compare, full, make_app, kind, size):
    title, *keys = KINDS[kind]
    results = full / "results.zarr"
    for folder in results.iterdir():  # a short tree: small pictures
        if folder.is_dir() and folder.name != title.split("/")[0]:
            shutil.rmtree(folder)
    left = Session(str(results.absolute()), *title.split("/"))
    app = make_app(full, session=left)
    assert snap_compare(app, terminal_size=size, run_before=after(*keys))


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("v", "right"), id="values"),
        pytest.param(("d", "d", "up"), id="difference"),
        pytest.param(("tab", "j"), id="runs"),
        pytest.param(("question_mark",), id="help"),
        pytest.param(("E", "right"), id="export"),
        pytest.param(("T", "right", "up"), id="light"),
    ],
)
def test_more(snap_compare, run, make_app, keys):
    assert snap_compare(make_app(run), terminal_size=(80, 24), run_before=after(*keys))


@pytest.mark.parametrize(
    "known", [Capabilities("none"), Capabilities("none", ascii=True)], ids=["no-colour", "ascii"]
)
def test_without_colours(snap_compare, run, make_app, known):
    app = make_app(run, capabilities=known)
    assert snap_compare(app, terminal_size=(80, 24), run_before=after("right", "up"))


def test_broken(snap_compare, run, make_app):
    (run / "results.zarr" / "cka" / "engram-vs-moe" / "zarr.json").unlink()
    left = Session(str((run / "results.zarr").absolute()), "cka", "engram-vs-moe")
    app = make_app(run, session=left)
    assert snap_compare(app, terminal_size=(80, 24), run_before=after())
