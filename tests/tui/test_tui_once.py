"""`--once` in the width it promises, and into a pipe whose reader goes away."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from small_runs import diagonal_map

from engramcka.results import CkaMap
from engramcka.stores import write_cka
from engramcka.stores.results import open_root

KINDS = ("cka/engram-vs-moe", "series/over-training", "lens/engram", "gates/engram",
         "memory/engram", "sweep/insertion-layer", "allocation/u", "slots/tables", "training/moe",
         "robustness/engram-vs-moe", "baseline/engram-vs-moe", "matrix/cka",
         "cka/wide")  # fmt: skip


def once(path: Path, columns: str = "", then: str = "") -> subprocess.CompletedProcess[str]:
    """`browse --once PATH`, and what reads it."""
    environ = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    if columns:
        environ["COLUMNS"] = columns
    command = f"{shlex.quote(sys.executable)} -m engramcka browse --once {shlex.quote(str(path))}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}{then}"],
        capture_output=True, text=True, timeout=120, env=environ, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("columns", "width"), [("", 80), ("60", 60)])
def test_no_line_is_longer_than_the_width(full, kind, columns, width):
    wide = diagonal_map(200, 120, warnings=("a warning that takes more than a line " * 4,))
    write_cka(full / "results.zarr", "wide", wide, {})
    done = once(full / "results.zarr" / kind, columns)
    assert done.returncode == 0, done.stderr
    longest = max(done.stdout.splitlines(), key=cell_len)
    assert cell_len(longest) <= width, longest


def test_nothing_of_a_sentence_is_lost_by_wrapping(tmp_path):
    Path("one").mkdir()
    open_root(Path("one/results.zarr"))
    values = np.random.default_rng(0).random((30, 30))
    write_cka(Path("one/results.zarr"), "m", CkaMap(values), {})
    printed = " ".join(once(Path("one")).stdout.split())
    numbers = " ".join(f"{value:.1f}" for value in CkaMap(values).soft_alignment())
    assert f"soft alignment of the columns, k = 5: {numbers}" in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_reader_that_goes_away_is_no_error(full):
    for kind in ("gates/engram", "cka/engram-vs-moe"):
        done = once(full / "results.zarr" / kind, then=" | head -1")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 1
    done = once(full / "results.zarr" / "gates/engram", then=" | true")
    assert (done.returncode, done.stderr) == (0, "")
