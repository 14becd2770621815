"""Few-NERD through two models with tokenizers of their own, to maps of all and of some entities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_sources import ENTITIES, RunConfig

CONFIG = """
[run]
dir = "run"
device = "cpu"

[data]
source = "few-nerd"
path = "{sources}/few-nerd"
samples = 60

[models.first]
source = "hf"
path = "{sources}/first"

[models.second]
source = "hf"
path = "{sources}/second"

[[cka]]
name = "all"
y = "first"
x = "second"
batch_size = 16

[[cka]]
name = "places"
y = "first"
x = "second"
batch_size = 16
where = {{ type = "location-GPE" }}
"""


def test_maps_of_all_entities_and_of_one_type(sources: Path, run: RunConfig) -> None:
    done = run(CONFIG.format(sources=sources))
    tables = [done.activations(model).samples for model in ("first", "second")]
    for table in tables:
        known = {entity for entities in ENTITIES.values() for entity in entities}
        assert set(zip(table["entity"].tolist(), table["type"].tolist(), strict=True)) == known
        assert all(t.startswith(k) for t, k in zip(table["type"], table["kind"], strict=True))
    everything, places = done.cka["all"], done.cka["places"]
    assert (everything.n_samples, everything.where) == (60, "")
    assert places.where == "type = 'location-GPE'"
    rows = np.flatnonzero(tables[0]["type"] == "location-GPE")
    assert places.n_samples == len(rows) < 60
    assert not np.allclose(places.similarity, everything.similarity)
