"""Results are read without zarr, as zarr reads them, and never where they are damaged."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr

from engramcka.errors import StoreError
from engramcka.results import SimilarityMap
from engramcka.results.kinds import KINDS
from engramcka.stores.results import read_result, write_result
from engramcka.tui.catalog import facts, find_runs


def entries(full):
    (place,) = find_runs([full])
    return [entry for entry in facts(place).entries if entry.kind != "log"]


def test_every_kind_is_as_zarr_reads_it(full):
    kinds = set()
    other = SimilarityMap(np.eye(3), measure="rsa", y_components=np.ones(3))
    write_result(full / "results.zarr", "other.rsa", other, {})
    for entry in entries(full):
        stored = read_result(entry.ref.results, entry.kind, entry.name)
        group = zarr.open_group(entry.path, mode="r")
        arrays = {name: array[...] for name, array in group.arrays()}
        packed, _ = stored.pack()
        assert set(packed) == set(arrays), entry.title
        for name, (value, _) in packed.items():
            assert value.dtype == arrays[name].dtype, (entry.title, name)
            np.testing.assert_array_equal(value, arrays[name])
        kinds.add(entry.kind)
    assert kinds == set(KINDS)


@pytest.mark.parametrize("title", ["cka/later", "sweep/insertion-layer", "gates/engram"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_no_damage_is_shown(full, title, how):
    kind, name = title.split("/")
    results = full / "results.zarr"
    for path in sorted((results / title).rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 3] ^= 4
        path.unlink()
        if how != "gone":
            path.write_bytes(changed if how == "bit" else content[: len(content) // 2])
        with pytest.raises(StoreError):
            read_result(results, kind, name)
        path.write_bytes(content)
    read_result(results, kind, name)


def test_what_is_not_ours_is_refused(full):
    results = full / "results.zarr"
    for kind, name, told in (
        ("cka", "nothing", "there is no such store"),
        ("sweep", "../cka/later", "no name of a result"),
        ("cka", "..", "no name of a result"),
    ):
        with pytest.raises(StoreError, match=told):
            read_result(results, kind, name)
    with pytest.raises(StoreError, match="more than are read here"):
        read_result(results, "cka", "later", 1000)
    shutil.rmtree(results / "cka" / "later" / "manifest")  # as of format 1
    meta = results / "cka" / "later" / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["engramcka_version"] = 1
    meta.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="an older one made it"):
        read_result(results, "cka", "later")
