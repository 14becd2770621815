"""Several processes make the map that one makes, bit for bit, and share the work evenly."""

import numpy as np
import pytest
import torch
from hidden_states import layers

from engramcka import cka_map
from engramcka.errors import ComparisonError
from engramcka.similarity import hsic, reading, routes
from engramcka.similarity.exact import make_problem
from engramcka.similarity.layers import Layers
from engramcka.similarity.minibatch import batch_portions
from engramcka.similarity.parallel import Share, split_balanced, split_consecutive

RANKS = [1, 2, 3, 4, 8]
DOCUMENTS = np.random.default_rng(5).integers(0, 60, 420)  # of each sample, in no order


class Waiting(Exception):
    """A process waits for the others."""


def together(ranks, y, x, **options):
    """The map of each of so many processes, in one: as far as each gets, exchange by exchange."""
    exchanged = []  # what all gave at each exchange
    while True:
        given, finished = [], []
        for rank in range(ranks):
            answers = iter(exchanged)

            def gather(own, answers=answers, given=given):
                answer = next(answers, None)
                if answer is None:
                    given.append(own)
                    raise Waiting
                return answer

            try:
                finished.append(cka_map(y, x, share=Share(rank, ranks, gather), **options))
            except Waiting:
                continue
        if not given:
            return finished
        assert len(given) == ranks  # all make as many exchanges
        exchanged.append(given)


def arrays(found):
    """Everything in a map that is computed."""
    diagnostics = (found.y_diagnostics, found.x_diagnostics)
    return [
        found.similarity,
        found.jackknife,
        found.ci_low,
        found.ci_high,
        found.null,
        found.null_similarity,
        found.all_pairs,
        *(part.top_dimension_share for part in diagnostics),
        *(part.top_component_share for part in diagnostics),
        *(part.effective_rank for part in diagnostics),
        *(part.massive_samples for part in diagnostics),
        *(part.top_samples_share for part in diagnostics),
    ]


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def models(n=420):
    rng = np.random.default_rng(14)
    shared = rng.standard_normal((n, 8))
    return [layers(rng, n, widths, shared=shared) for widths in ((7, 20, 20), (12, 33))]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(
    ("route", "options"),
    [
        ("gram", {"batch_size": 50, "permutations": 3}),
        ("gram", {"batch_size": 150, "kernel": "rbf"}),  # fewer batches than processes
        ("gram", {"batch_size": 5, "standardize": "zscore"}),  # more batches than groups
        ("gram", {"batch_size": 50, "batches": "in-order"}),
        ("gram", {"estimator": "debiased", "permutations": 3}),
        ("feature", {"estimator": "debiased"}),
        ("gram", {"estimator": "biased"}),
        ("feature", {"estimator": "biased", "permutations": 2}),
    ],
)
def test_the_same_bits_for_any_number_of_processes(monkeypatch, ranks, route, options):
    monkeypatch.setattr(routes, "gram_operations", lambda _: 0 if route == "gram" else 2)
    monkeypatch.setattr(routes, "feature_operations", lambda _: 1)
    same_bits(ranks, *models(330), options)


@pytest.mark.parametrize("ranks", [3, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 20, "permutations": 2},
        {"batch_size": 20, "pairs": "all"},
        {"estimator": "debiased", "permutations": 2},
        {"estimator": "debiased", "pairs": "all"},
    ],
)
def test_the_same_bits_with_documents(ranks, options):
    y, x = models(100)
    same_bits(ranks, y[1:], x, options | {"groups": DOCUMENTS[:100] % 20})


def same_bits(ranks, y, x, options):
    expected = cka_map(y, x, **options)
    for found in together(ranks, y, x, **options):
        assert found.warnings == expected.warnings
        for one, other in zip(arrays(found), arrays(expected), strict=True):
            np.testing.assert_array_equal(one, other)


was = hsic.imprecise


@pytest.mark.parametrize("estimator", ["minibatch", "debiased"])
def test_all_go_over_to_float64_together(monkeypatch, estimator):
    """A sample of huge norm makes sums cancel in float32, in one share only."""
    redone = []
    monkeypatch.setattr(hsic, "imprecise", lambda values: redone.append(was(values)) or redone[-1])
    y, x = models()
    y[1][205] *= 1e4
    options = {"estimator": estimator, "batch_size": 50, "permutations": 2}
    expected = cka_map(y, x, **options)
    assert any(found.any() for found in redone)
    for found in together(3, y, x, **options):
        for one, other in zip(arrays(found), arrays(expected), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_error_in_one_share_is_raised_in_all():
    y, x = models()
    x[1][410, 3] = np.nan
    with pytest.raises(ComparisonError, match="x layer 2, sample 410"):
        together(1, y, x, batch_size=50)
    raised = []

    def gather_of(rank):
        def gather(own):
            raised.append((rank, own[1]))
            return [([], None), ([], ComparisonError("of another"))]

        return gather

    for rank in range(2):
        with pytest.raises(ComparisonError, match="of another"):
            cka_map(y, x, batch_size=50, share=Share(rank, 2, gather_of(rank)))
    assert raised[0] == (0, None)
    assert "sample 410" in str(raised[1][1])


def loads(costs, split, ranks):
    owned = split(costs, ranks)
    assert sorted(number for part in owned for number in part) == list(range(len(costs)))
    assert all(part == sorted(part) for part in owned)
    return np.array([sum(costs[number] for number in part) for part in owned])


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("n", [8192, 20_000, 65_536])
def test_rows_of_tiles_are_shared_evenly(ranks, n):
    side = Layers.from_arrays([np.zeros((n, 1), np.float32)], "y")
    problem = make_problem(side, side, torch.empty(0), hollow=True, max_groups=64)
    costs = routes.row_costs(problem, routes.row_portions(problem, 1000))
    count = len(problem.blocks)
    assert sum(costs) == count * (count + 1) / 2
    load = loads(costs, split_balanced, ranks)
    assert load.max() <= 1.05 * load.mean()


@pytest.mark.parametrize("ranks", RANKS)
def test_panels_whose_rows_are_not_ours_are_not_read(monkeypatch, ranks):
    monkeypatch.setattr(reading, "PANEL_BYTES", 1)  # a panel is a block
    y, x = models()
    problem = make_problem(
        *(Layers.from_arrays(side, "y") for side in (y, x)),
        torch.empty(0),
        hollow=True,
        max_groups=8,
    )
    count, read, was = len(problem.blocks), [], type(problem).read
    monkeypatch.setattr(
        type(problem), "read", lambda self, *edges: read.append(edges) or was(self, *edges)
    )
    portions = routes.row_portions(problem, 1000)
    for mine in split_balanced(routes.row_costs(problem, portions), ranks):
        rows = {block for number in mine for block in portions[number]}
        before = len(read)
        list(routes.each_row(problem, lambda row: row.block, rows))
        assert len(read) - before == sum(count - block for block in rows)
    assert len(read) == count * (count + 1) / 2  # by all together, as by one


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("batches", [64, 100, 1000])
def test_groups_of_batches_are_shared_evenly(ranks, batches):
    costs = [float(len(portion)) for portion in batch_portions(batches, 64)]
    load = loads(costs, split_consecutive, ranks)
    assert load.max() <= 1.05 * load.mean()
    assert [n for part in split_consecutive(costs, ranks) for n in part] == list(range(64))


@pytest.mark.parametrize("ranks", RANKS)
def test_pairs_of_layers_are_shared_evenly(ranks):
    widths = np.repeat([512.0, 768.0], 12)
    costs = [float(a * b) for a in widths for b in widths]
    load = loads(costs, split_consecutive, ranks)
    assert load.max() <= 1.05 * load.mean()
