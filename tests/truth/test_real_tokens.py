"""Every token of real text: massive ones decide a map, and the run says so and which they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pytest
import real_model
from by_pairs import cka_matrix
from commanded import TOKENS, Done, RealText

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("real-model"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(real_model.missing()), reason=real_model.missing()),
]


@dataclass(frozen=True)
class EveryToken:
    """The raw states of the tokens that a run compared."""

    states: npt.NDArray[np.float32]  # (blocks, samples, width)
    documents: npt.NDArray[np.str_]

    @cached_property
    def distance(self) -> npt.NDArray[np.float64]:
        """(samples,) largest distance from a layer's centre, in those of its median sample."""
        far = self.states - np.median(self.states, axis=1, keepdims=True)
        lengths = np.linalg.norm(far, axis=2)
        return (lengths / np.median(lengths, axis=1, keepdims=True)).max(axis=0)

    def cka(self, rows: npt.ArrayLike = slice(None), *, rms: bool = False) -> npt.NDArray:
        """The map of some of them."""
        states = self.states[:, rows].astype(np.float64)
        if rms:
            states /= np.sqrt((states**2).mean(axis=2, keepdims=True))
        return cka_matrix(states, states, self.documents[rows])


@pytest.fixture(scope="module")
def every(tokens: Done, real_text: RealText) -> EveryToken:
    table = tokens.run.activations("base").samples
    return EveryToken(real_text.rows(tokens, "base", real_text.raw), table["document"])


def test_the_map_of_all_tokens(tokens: Done, every: EveryToken) -> None:
    found = tokens.run.cka["kept"]
    assert found.n_samples == TOKENS
    expected = every.cka()
    assert found.similarity == pytest.approx(expected, abs=1e-5)
    # The case of the issue: layers that share little are one, for their massive tokens are.
    assert expected[14, 24] > 0.999
    assert expected[0, 14] < 0.3


def test_massive_tokens_are_found_and_named(tokens: Done, every: EveryToken) -> None:
    found = tokens.run.cka["kept"]
    massive = np.zeros(TOKENS, dtype=bool)
    massive[list(found.massive_samples)] = True
    # The limit is 10 times a median that is taken over a part of the samples.
    assert massive[every.distance > 13].all()
    assert not massive[every.distance < 8].any()
    table = tokens.run.activations("base").samples
    first = table["token_index"] == 0
    assert (every.distance[first] > 100).all()
    (warning,) = [one for one in found.warnings if "samples are massive" in one]
    assert warning.startswith(
        f"{massive.sum()} of {TOKENS} samples are massive (first of a passage"
    )
    assert warning in tokens.caption("kept")
    assert re.search("samples are massive", "\n".join(tokens.warnings("kept")))


def test_without_them_layers_are_what_they_are(tokens: Done, every: EveryToken) -> None:
    kept, dropped = tokens.run.cka["kept"], tokens.run.cka["dropped"]
    left = np.setdiff1d(np.arange(TOKENS), kept.massive_samples)
    assert dropped.n_massive_dropped == kept.n_massive
    assert dropped.n_samples == len(left)
    expected = every.cka(left)
    assert dropped.similarity == pytest.approx(expected, abs=1e-5)
    assert 0.5 < expected[14, 24] < 0.8
    assert expected[0, 14] > 0.5
    assert f"n = {len(left)} of" in tokens.line("dropped")
    said = " ".join(dropped.warnings)
    assert f"{kept.n_massive} samples dropped from both models: massive" in said
    assert 'massive = "drop"' not in said  # it is on


def test_a_saturated_map_is_called_so_and_rms_shows_its_diagonal(
    tokens: Done, every: EveryToken
) -> None:
    assert "saturated" in " ".join(tokens.run.cka["kept"].warnings)
    found = tokens.run.cka["rms"]
    expected = every.cka(rms=True)
    assert found.similarity == pytest.approx(expected, abs=1e-5)
    said = " ".join(found.warnings)
    assert "saturated" not in said
    assert 'normalize = "rms"' not in said
    off = ~np.eye(len(expected), dtype=bool)
    assert (found.similarity[off] > 0.99).mean() < 0.05
    assert (every.cka()[off] > 0.99).mean() > 0.25
    assert "Each sample divided by its root mean square; linear kernel" in tokens.caption("rms")


def test_skip_first_leaves_the_first_tokens_out(behind_first: Done, real_text: RealText) -> None:
    table = behind_first.run.activations("base").samples
    assert table["token_index"].min() == 1
    rows = real_text.rows(behind_first, "base", real_text.raw)
    found = behind_first.run.cka["behind"]
    assert found.similarity == pytest.approx(cka_matrix(rows, rows, table["document"]), abs=1e-5)
    assert "first of a passage" not in " ".join(found.warnings)
