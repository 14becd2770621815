"""A map of trained models with a baseline, through the real command: figures, app and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import here

from engramcka import open_run
from engramcka.config import load_config

TRAINED = """
[run]
dir = "run"

[data]
documents = 60
samples = 32
per_document = 8
vocabulary = 300

[models.a]
source = "train"
preset = "moe-tiny"

[models.b]
source = "train"
preset = "moe-tiny"
seed = 5
engram.layers = [2]

[training]
steps = 1
batch_size = 2
sequence_length = 16
learning_rate = 1e-30
validation_sequences = 2

[[cka]]
y = "a"
x = "b"
batch_size = 16
baselines = ["untrained"]
"""


def states(run, name: str) -> dict[int, np.ndarray]:
    store = run.activations(name)
    return {number: layer[0 : store.n_samples] for number, layer in store.layers.items()}


def test_a_preset_untrained_is_what_its_training_begins_with(tmp_path: Path) -> None:
    """A training whose rate is next to nothing leaves the weights that it began with."""
    (tmp_path / "c.toml").write_text(TRAINED)
    ran = here("run", "c.toml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "baseline/b-vs-a" in ran.stdout
    run = open_run(tmp_path / "run")
    for name in ("a", "b"):
        for layer, rows in states(run, name).items():
            np.testing.assert_array_equal(rows, states(run, f"{name}.untrained")[layer])
    assert list(run.training) == ["a", "b"]
    found = run.baseline["b-vs-a"]
    assert found.above[1] == 0
    assert found.correlation[1] == pytest.approx(1)
    drawn = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"baseline-b-vs-a.png", "cka-b-vs-a.png"} <= drawn
    assert not any("by-untrained" in name for name in drawn)
    shown = here("browse", "--once", "run/results.zarr/baseline/b-vs-a", cwd=tmp_path)
    assert "untrained" in shown.stdout, shown.stderr
    for suffix in ("csv", "tex"):
        out = here("export", "run", "--what", "baseline/b-vs-a", "-o", f"b.{suffix}", cwd=tmp_path)
        assert out.returncode == 0, out.stderr
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    resolved = load_config(tmp_path / "run" / "config.toml")
    assert resolved.to_dict() == load_config(tmp_path / "c.toml").to_dict()
