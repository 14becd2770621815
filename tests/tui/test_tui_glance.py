from __future__ import annotations

import json

import numpy as np
import pytest

from engramcka.stores import read_cka
from engramcka.tui.catalog import Entry, find_places
from engramcka.tui.glance import glance


@pytest.fixture
def entry(run):
    return Entry(find_places([run])[0], "cka", "engram-vs-moe")


def test_it_reads_what_zarr_reads(entry):
    seen, stored = glance(entry), read_cka(entry.place.results, entry.name)
    assert seen is not None
    np.testing.assert_array_equal(seen.similarity, stored.similarity)
    for name in (
        "y_label",
        "x_label",
        "y_layers",
        "x_layers",
        "n_samples",
        "warnings",
        "estimator",
    ):
        assert getattr(seen, name) == getattr(stored, name)


def test_a_flipped_bit_is_not_shown(entry):
    chunk = entry.path / "similarity" / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    assert glance(entry) is None


@pytest.mark.parametrize("change", [{"zarr_format": 2}, {"codecs": []}, {"data_type": "float32"}])
def test_another_layout_is_left_to_zarr(entry, change):
    meta = entry.path / "similarity" / "zarr.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **change}))
    assert glance(entry) is None


def test_another_version_is_left_to_zarr(entry):
    meta = entry.path / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["engramcka_version"] = 99
    meta.write_text(json.dumps(content))
    assert glance(entry) is None
