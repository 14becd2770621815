"""Results read without zarr are those that zarr reads, or are left to it."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from engramcka.stores.plain import read_plain
from engramcka.stores.results import read_result
from engramcka.tui.catalog import facts, find_places


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def entries(full):
    (place,) = find_places([full])
    return [entry for entry in facts(place).entries if entry.kind != "log"]


def test_every_kind_is_as_zarr_reads_it(full):
    kinds = set()
    for entry in entries(full):
        found = read_plain(entry.place.results, entry.kind, entry.name)
        stored = read_result(entry.place.results, entry.kind, entry.name)
        assert type(found) is type(stored), entry.title
        assert same(found, stored), entry.title
        kinds.add(entry.kind)
    assert len(kinds) == 7


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
        assert read_plain(results, kind, name) is None, path
        path.write_bytes(content)
    assert read_plain(results, kind, name) is not None


def test_what_is_not_ours_is_left_to_zarr(full):
    results = full / "results.zarr"
    assert read_plain(results, "cka", "nothing") is None
    assert read_plain(results, "cka", "later", max_bytes=1000) is None
    assert read_plain(results, "sweep", "../cka/later") is None
    shutil.rmtree(results / "cka" / "later" / "manifest")  # as of format 1
    meta = results / "cka" / "later" / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["engramcka_version"] = 1
    meta.write_text(json.dumps(content))
    assert read_plain(results, "cka", "later") is None
    assert read_result(results, "cka", "later") is not None
