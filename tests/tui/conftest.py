"""The app on small runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import make_full_run, make_run

from engramcka.tui.app import BrowseApp
from engramcka.tui.catalog import find_runs
from engramcka.tui.session import Session
from engramcka.tui.terminal import Capabilities

MakeApp = Callable[..., BrowseApp]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with no session saved, in UTC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual run, written once."""
    return make_run(tmp_path_factory.mktemp("template") / "paper")


@pytest.fixture(scope="session")
def full_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a result of every kind, written once."""
    return make_full_run(tmp_path_factory.mktemp("template") / "full")


@pytest.fixture
def full(apart: None, full_template: Path) -> Path:
    """A copy of it, by a relative path."""
    return Path(shutil.copytree(full_template, "full"))


@pytest.fixture
def run(apart: None, template: Path) -> Path:
    """A copy of the usual run, by a relative path so that screens are the same everywhere."""
    return Path(shutil.copytree(template, "paper"))


@pytest.fixture
def make_app() -> MakeApp:
    """An app on paths; looks at the disk once, or every ``pause`` seconds."""

    def make(
        *paths: Path,
        capabilities: Capabilities | None = None,
        session: Session | None = None,
        pause: float = 30.0,
    ) -> BrowseApp:
        known = capabilities or Capabilities()
        return BrowseApp(list(paths), find_runs(paths), known, session, pause=pause)

    return make
