"""Files read by several threads hold what one would find, and no error gets lost between them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from engramcka.errors import StoreError
from engramcka.stores.layer_arrays import ShardedArray
from engramcka.stores.shards import Grid, local_threads, parallel_map, shard_path, write_shard

ROWS, PART, WIDTH = 64, 8, 5000  # a part is 160 kB: seven of them are worth another thread


@pytest.fixture
def array(tmp_path: Path) -> tuple[ShardedArray, np.ndarray]:
    """An array of three shards, the last one short, read by three threads."""
    values = np.random.default_rng(0).normal(size=(150, WIDTH)).astype(np.float32)
    grid = Grid(len(values), WIDTH, values.dtype, ROWS, PART, compressed=False)
    for shard in range(3):
        rows = values[shard * ROWS : (shard + 1) * ROWS]
        write_shard(shard_path(tmp_path, shard), rows, grid)
    return ShardedArray(tmp_path, grid, threads=3), values


def test_any_slice_by_several_threads(array: tuple[ShardedArray, np.ndarray]) -> None:
    sharded, values = array
    for start, stop in ((0, 150), (1, 149), (60, 70), (64, 128), (3, 5), (20, 20), (127, 150)):
        assert np.array_equal(sharded.rows(start, stop), values[start:stop])
    random = np.random.default_rng(1)
    for picked in ([149, 0, 63, 64, 7], [], [5, 5, 5], random.integers(0, 150, 200).tolist()):
        rows = np.array(picked, dtype=np.int64)
        assert np.array_equal(sharded.take(rows), values[rows])


@pytest.mark.parametrize("row", [2, 70, 140])
def test_a_damaged_part_is_told_whichever_thread_reads_it(
    array: tuple[ShardedArray, np.ndarray], row: int
) -> None:
    sharded, _ = array
    path = shard_path(sharded.folder, row // ROWS)
    content = bytearray(path.read_bytes())
    content[row % ROWS * WIDTH * 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"c/{row // ROWS}/0: cannot be read"):
        sharded.rows(0, 150)


@given(
    part=st.integers(1, 9),
    parts=st.integers(1, 9),
    threads=st.integers(1, 8),
    edges=st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_spans_join_up_and_no_part_is_read_twice(
    part: int, parts: int, threads: int, edges: tuple[int, int]
) -> None:
    start, stop = sorted(edges)
    grid = Grid(400, 1 << 20, np.dtype(np.float32), part * parts, part, compressed=False)
    spans = ShardedArray(Path(), grid, threads).spans(start, stop)
    assert [row for low, high in spans for row in range(low, high)] == list(range(start, stop))
    assert all(low % part == 0 for low, _ in spans[1:])
    assert len(spans) <= threads


@pytest.mark.parametrize("size", [0, 1, 4, 1023, (1 << 16) + 3])
def test_checksums_are_those_of_the_castagnoli_polynomial(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    remainder = 0xFFFFFFFF
    for byte in data.tolist():
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    assert crc32c(data) == crc32c(data.tobytes()) == remainder ^ 0xFFFFFFFF
    assert crc32c(data[size // 3 :], crc32c(data[: size // 3])) == crc32c(data)


def test_all_jobs_end_before_an_error_is_raised() -> None:
    started, ended = threading.Event(), []

    def job(number: int) -> int:
        if number == 0:
            started.wait(5)
            raise ValueError("the first")
        started.set()
        ended.append(number)
        return number

    with pytest.raises(ValueError, match="the first"):
        parallel_map(job, range(6), threads=3)
    assert sorted(ended) == [2, 3, 4, 5]  # 1 was this thread's own, after 0
    assert parallel_map(lambda n: n * n, range(7), threads=3) == [n * n for n in range(7)]
    assert local_threads() >= 1
