"""Layers that are not in memory: the same bits, and blocks read from one end to the other."""

from itertools import pairwise

import numpy as np
import pytest
from hidden_states import KINDS, Blocks, huge_samples, layers
from test_shares import arrays, together

from engramcka import cka_map
from engramcka.similarity import layers as layers_module
from engramcka.similarity import minibatch
from engramcka.similarity.layers import Layers

N, BLOCK = 1000, 300
GROUPS = np.random.default_rng(5).integers(0, 250, N)
LOOKED_AT = 128  # samples of a layer, for its scale, centre and direction; see look
PAIRS = 512  # of samples of one document that are looked at; see within


class Told(Blocks):
    """Remembers what was read, in order."""

    def __init__(self, values):
        super().__init__(values)
        self.read = []

    def __getitem__(self, index):
        assert index.step in (None, 1)
        start, stop, _ = index.indices(len(self._values))
        self.read.append((start, stop))
        return super().__getitem__(index)

    def sweeps(self):
        """How often it was read from one end to the other, in whole blocks; and what is left."""
        blocks = list(pairwise([0, *STOPS]))
        held = [edges for edges in self.read if edges in blocks]
        starts = [start for start, _ in held]
        assert starts == [0, *STOPS[:-1]] * (len(held) // len(STOPS))
        return len(held) / len(STOPS), [edges for edges in self.read if edges not in held]


STOPS = [min(start + BLOCK, N) for start in range(0, N, BLOCK)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(layers_module, "READ_SAMPLES", BLOCK)
    monkeypatch.setattr(layers_module, "HELD_BLOCK_BYTES", 1)  # of so many samples


def models(kind=lambda x: x):
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((N, 8))
    return [[kind(a) for a in layers(rng, N, w, shared=shared)] for w in ((9, 20), (7,))]


def stored(*sides):
    return [[Told(a) for a in side] for side in sides]


def check_same(found, expected):
    assert found.warnings == expected.warnings
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def free(monkeypatch, samples, *sides):
    """Leave room for so many samples of all layers."""
    needed = sum(a.shape[1] * a.dtype.itemsize for side in sides for a in side)
    for module in (layers_module, minibatch):
        monkeypatch.setattr(module, "free_bytes", lambda *_: 2 * samples * needed)


OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 100},
        {"batch_size": 400, "kernel": "rbf"},
        {"batch_size": 100, "groups": GROUPS},
        {"batch_size": 100, "groups": GROUPS, "pairs": "all"},
        {"batch_size": 100, "batches": "in-order"},
    ],
)


@OPTIONS
def test_the_same_bits_and_each_part_is_read_once(options):
    y, x = models()
    expected = cka_map(y, x, **options)
    sides = stored(y, x)
    check_same(cka_map(*sides, **options), expected)
    for array in (*sides[0], *sides[1]):
        sweeps, others = array.sweeps()
        assert sweeps == 1
        most = LOOKED_AT + (1024 if "kernel" in options else 0)  # for the median distance
        most += 2 * PAIRS if expected.all_pairs is not None else 0
        assert sum(stop - start for start, stop in others) <= most


@pytest.mark.parametrize("samples", [1, 200, 500])
@OPTIONS
def test_where_only_a_part_of_it_fits_into_memory(options, samples, monkeypatch):
    y, x = models()
    expected = cka_map(y, x, **options)
    sides = stored(y, x)
    free(monkeypatch, samples, y, x)
    held = []
    hold = Layers.hold
    monkeypatch.setattr(
        Layers, "hold", lambda self, rows: held.append(len(rows)) or hold(self, rows)
    )
    check_same(cka_map(*sides, **options), expected)
    windows = held[::2]
    assert sum(windows) == N  # every sample is held once
    assert max(windows) <= max(samples, options["batch_size"] + 1)
    for array in (*sides[0], *sides[1]):
        if options.get("batches") == "in-order":  # a part is read where a batch needs it
            assert all(stop - start <= BLOCK for start, stop in array.read)
        else:
            assert array.sweeps()[0] == len(windows)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("samples", [200, 10**6])
def test_for_any_number_of_ranks(ranks, samples, monkeypatch):
    y, x = models()
    options = {"batch_size": 100, "groups": GROUPS, "permutations": 2}
    expected = cka_map(y, x, **options)
    free(monkeypatch, samples, y, x)
    for found in together(ranks, *stored(y, x), **options):
        check_same(found, expected)


def test_ranks_share_the_memory(monkeypatch):
    y, x = models()
    free(monkeypatch, 600, y, x)
    hold = Layers.hold
    for ranks, most in ((1, 600), (3, 200)):
        held = []
        with monkeypatch.context() as here:

            def note(self, rows, held=held):
                held.append(len(rows))
                hold(self, rows)

            here.setattr(Layers, "hold", note)
            together(ranks, *stored(y, x), batch_size=100)
        assert most - 100 < max(held) <= most


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_again_in_float64_is_not_read_again(kind):
    y, x = models(kind)
    options = {"batch_size": 100, "groups": GROUPS}
    expected = cka_map(y, x, **options)
    sides = stored(y, x)
    check_same(cka_map(*sides, **options), expected)
    for array in (*sides[0], *sides[1]):
        sweeps, others = array.sweeps()
        assert sweeps == 1
        assert sum(stop - start for start, stop in others) <= LOOKED_AT + 2 * PAIRS


def test_shuffles_read_no_more_than_the_map(monkeypatch):
    y, x = models(huge_samples)
    options = {"batch_size": 30, "permutations": 3}
    expected = cka_map(y, x, **options)
    sides = stored(y, x)
    check_same(cka_map(*sides, **options), expected)
    for array in (*sides[0], *sides[1]):
        assert array.sweeps()[0] == 1  # all of it is held
    sides = stored(y, x)
    free(monkeypatch, 500, y, x)
    check_same(cka_map(*sides, **options), expected)
    assert sides[0][0].sweeps()[0] <= 9


@pytest.mark.parametrize("options", [{}, {"estimator": "debiased"}])
@pytest.mark.parametrize("changed", [{"nonfinite": "drop"}, {"massive": "drop"}])
def test_of_the_samples_that_are_kept(options, changed):
    y, x = models()
    y[1][[5, 800], 3] = np.nan if "nonfinite" in changed else 1e4
    options = {**options, **changed, "batch_size": 100, "groups": GROUPS}
    expected = cka_map(y, x, **options)
    assert expected.n_samples == N - 2
    check_same(cka_map(*stored(y, x), **options), expected)


def test_memory_maps_are_not_in_memory(tmp_path):
    y, x = models()
    expected = cka_map(y, x, batch_size=100)
    for number, array in enumerate(y):
        np.save(tmp_path / f"{number}.npy", array)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(len(y))]
    check_same(cka_map(mapped, x, batch_size=100), expected)


def test_a_value_that_is_not_finite_is_named_by_its_sample():
    y, x = models()
    y[1][745, 3] = np.inf
    with pytest.raises(Exception, match="y layer 2, sample 745: a value is NaN or infinite"):
        cka_map(*stored(y, x), batch_size=100, groups=GROUPS)
