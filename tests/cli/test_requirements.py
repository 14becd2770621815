"""A package in a version that engramcka does not work with is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import CONFIG

from engramcka.cli.requirements import out_of_bounds


@pytest.mark.parametrize("command", ["models", "check"])
def test_an_older_transformers_is_named_with_what_is_needed(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "transformers"
    folder.mkdir()
    (folder / "__init__.py").write_text('__version__ = "4.57.1"\n')
    facts = tmp_path / "transformers-4.57.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.57.1\n")
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    arguments = [command] + [str(config)] * (command == "check")
    done = subprocess.run(
        [sys.executable, "-m", "engramcka", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert "transformers 4.57.1 is installed, and engramcka needs >=5.23" in lines[-1]
    assert "pip install 'transformers>=5.23" in lines[-1]


def test_other_imports_that_fail_are_not_ours_to_explain() -> None:
    assert out_of_bounds(ImportError("no module", name="nowhere")) is None
    assert out_of_bounds(ImportError("cannot import", name="transformers.nothing")) is None
    assert out_of_bounds(ImportError("no name")) is None
