"""Hidden states of a real model against the same, turned, with noise, and shuffled."""

from __future__ import annotations

import made
import numpy as np
import numpy.typing as npt
import pytest
import real_model
from by_pairs import cka_matrix
from commanded import HEAD, Done, RealText, cka, run

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("real-model"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(real_model.missing()), reason=real_model.missing()),
]

LAYERS = slice(0, 30, 3)
NOISE = np.geomspace(0.03, 30, 30)[LAYERS]  # share of each layer's variance


def shuffled(n: int) -> npt.NDArray[np.int64]:
    """Rows in random order. Whole documents in random order would still share something: that a
    word is the first of its passage, or the last, can be read off its hidden states."""
    return np.random.default_rng(0).permutation(n)


@pytest.fixture(scope="module")
def states(words: Done, real_text: RealText) -> made.States:
    return real_text.rows(words, "base", real_text.raw)[LAYERS]


@pytest.fixture(scope="module")
def documents(words: Done) -> npt.NDArray[np.str_]:
    return words.run.activations("base").samples["document"]


@pytest.fixture(scope="module")
def imported(
    words: Done,
    states: made.States,
    documents: npt.NDArray[np.str_],
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    folder = tmp_path_factory.mktemp("imported")
    table = words.run.activations("base").samples
    names = {
        "turned": made.turned(states),
        "noisy": made.noisy(states, NOISE)[0],
        "shuffled": states[:, shuffled(len(documents))],
    }
    return run(
        folder,
        HEAD.partition("[data]")[0]
        + made.store("base", words.folder / "run" / "activations" / "base.zarr")
        + "".join(made.write(folder, name, value, table) for name, value in names.items())
        + "".join(cka(name, "base", name, estimator="debiased") for name in ("turned", "noisy"))
        + cka("shuffled", "base", "shuffled", estimator="debiased", permutations=99)
        + cka("batches", "base", "turned", batch_size=16),
    )


def test_rotation_scale_and_offset_change_nothing(
    imported: Done, states: made.States, documents: npt.NDArray[np.str_]
) -> None:
    found = imported.run.cka["turned"].similarity[LAYERS]
    assert found == pytest.approx(cka_matrix(states, states, documents), abs=1e-4)


def test_smaller_batches_say_the_same_within_their_interval(
    imported: Done, states: made.States, documents: npt.NDArray[np.str_]
) -> None:
    found = imported.run.cka["batches"]
    expected = cka_matrix(states, states, documents)
    inside = (found.ci_low[LAYERS] <= expected) & (expected <= found.ci_high[LAYERS])
    assert inside[expected < 0.999].mean() > 0.8
    assert "batches drawn at random, of 16 samples" in imported.caption("batches")


def test_noise_of_known_variance(
    imported: Done, states: made.States, documents: npt.NDArray[np.str_]
) -> None:
    _, deviation = made.noisy(states, NOISE)
    expected = np.array(
        [made.with_noise(layer, s, documents) for layer, s in zip(states, deviation, strict=True)]
    )
    found = imported.run.cka["noisy"]
    diagonal = np.diag(found.similarity[LAYERS])
    assert expected[0] - expected[-1] > 0.3
    assert diagonal == pytest.approx(expected, abs=0.03)
    low, high = np.diag(found.ci_low[LAYERS]), np.diag(found.ci_high[LAYERS])
    assert ((low <= expected) & (expected <= high)).mean() >= 0.9


def test_shuffled_samples_share_nothing(
    imported: Done, states: made.States, documents: npt.NDArray[np.str_]
) -> None:
    found = imported.run.cka["shuffled"]
    rows = shuffled(len(documents))
    expected = cka_matrix(states, states[:, rows], documents)
    assert found.similarity[LAYERS] == pytest.approx(expected, abs=1e-5)
    inside = (found.ci_low <= 0) & (found.ci_high >= 0)
    assert inside.mean() > 0.8
    assert (found.p_value > 0.05).mean() > 0.8
    assert "nearest depth not determined" in imported.line("shuffled")
