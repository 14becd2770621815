"""One finished run for all tests of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import CONFIG, engramcka


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.toml and the run it gives, made once for all tests of a process."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.toml").write_text(CONFIG)
    result = engramcka("run", "config.toml", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout.txt").write_text(result.stdout)
    (folder / "stderr.txt").write_text(result.stderr)
    return folder
