"""Which layers imported arrays are taken for: said aloud where their names do not tell it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import here
from run_fixtures import config_text
from small_sources import RunConfig

MODELS = """
[models.a]
source = "activations"
path = "a.npz"

[models.b]
source = "activations"
label = "Other"
{table}
"""
EMBEDDING = "array 'arr_0' is taken for the embedding, 'arr_2' for layer 2; first_layer = 1 if it"
BLOCK = "array 'arr_0' is taken for layer 1, 'arr_2' for layer 3; first_layer = 0 if it is the emb"
STACK = "array 's, layer 1' is taken for layer 1, 's, layer 3' for layer 3; first_layer = 0 if it"


@pytest.mark.parametrize(
    ("table", "says", "is_guessed"),
    [
        ('path = "zero.npz"\nfirst_layer = 0', EMBEDDING, False),
        ('path = "zero.npz"\nfirst_layer = 1', BLOCK, False),
        ('path = "zero.npz"\nlayers = ["arr_0", "arr_1", "arr_2"]', BLOCK, True),
        ('path = "s.npy"\nlayer_axis = 0', STACK, True),
        ('path = "s.npy"\nlayer_axis = 0\nfirst_layer = 1', STACK, False),
        ('path = "a.npz"', "", False),
        ('path = "a.npz"\nlayers = ["layer1", "layer2"]', "", False),
    ],
)
def test_layers_that_names_do_not_tell_are_said_aloud(
    run: RunConfig, tmp_path: Path, table: str, says: str, is_guessed: bool
) -> None:
    states = np.random.default_rng(0).standard_normal((3, 50, 6))
    np.savez(tmp_path / "zero.npz", *states)
    np.savez(tmp_path / "a.npz", layer1=states[0], layer2=states[1])
    np.save(tmp_path / "s.npy", states)
    text = config_text(tmp_path, MODELS.format(table=table))
    (tmp_path / "c.toml").write_text(text)
    for _ in range(2):  # before the run, and after it
        said = " ".join(here("check", "c.toml", cwd=tmp_path).stdout.split())
        assert (f"models.b: {says}" in said) == bool(says), said
        assert "models.a: array" not in said
        done = run(text)
    events = [event for event in done.log() if event["event"] == "numbering"]
    assert [event["name"] for event in events] == (["b"] if says else [])
    sentences = [
        *(event["info"] for event in events),
        *([done.activations("b").attributes["numbering"]] if says else []),
        *([done.cka["map"].provenance["x"]["numbering"]] if says else []),
    ]
    assert all(sentence.startswith(says) for sentence in sentences)
    assert "numbering" not in done.cka["map"].provenance["y"]
    warnings = [one for one in done.cka["map"].warnings if "is taken for" in one]
    assert len(warnings) == is_guessed
    if is_guessed:
        assert warnings[0] == f"Other: {sentences[0]} (models.b)"
        summary = " ".join(here("run", "c.toml", cwd=tmp_path).stdout.split())
        assert f"warning: Other: {says}" in summary
