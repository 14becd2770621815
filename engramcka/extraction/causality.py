"""Whether a token's hidden states depend on nothing behind it, so that what is behind need not run.

Seen in the model itself and not taken from its name: other tokens are put behind the same ones. The
shapes are the same, so a causal model gives the same bits. A mixture of experts may not, since its
experts get other numbers of tokens and products of another shape round otherwise; there a
difference of roundings is allowed, if it is a causal LM by name too. What is not clear is run
whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError, DataError
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.models.stream import run_probe

_BEFORE, _BEHIND = 7, 9  # tokens
_APART = {2: 0.03, 4: 1e-4, 8: 1e-8}  # share that roundings may change a state by
_BY_LENGTH = {"dynamic", "longrope"}  # rotary embeddings whose angles depend on a batch's length


@torch.no_grad()
def is_causal(
    model: Any,
    points: Mapping[Any, CapturePoint | nn.Module],
    ids: Sequence[npt.NDArray[np.int64]],
) -> bool:
    """Whether states at these points are the same whatever stands behind a token.

    Args:
        model: in eval mode, on its device.
        points: where states are taken.
        ids: (tokens,) of each passage; some tokens of theirs are run.

    Returns:
        False where it is not so, and where it cannot be told: the pass itself says what is wrong.
    """
    tokens = np.unique(np.concatenate([one[: _BEFORE + _BEHIND] for one in ids[:64]]))
    if len(tokens) < 2 or _depends_on_length(model):
        return False
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(tokens), (2, _BEFORE + _BEHIND))
    changed = chosen.copy()
    changed[:, _BEFORE:] = (chosen[:, _BEFORE:] + 1) % len(tokens)
    one, other = (_states(model, points, tokens[places]) for places in (chosen, changed))
    if one is None or other is None or not one:
        return False
    if all(torch.equal(state, other[point]) for point, state in one.items()):
        return True
    first = next(iter(one))
    return _is_mixture(model) and _apart(one[first], other[first]) < _APART.get(
        one[first].dtype.itemsize, 0.0
    )


@torch.no_grad()
def needs_no_mask(model: Any, points: Mapping[Any, CapturePoint | nn.Module], pad_id: int) -> bool:
    """Whether a causal model gives the same bits without attention_mask, padding id or not.

    Then nothing has to be masked: padding stands on the right. A few models take the padding id
    for padding where they are given no mask, and models of one's own may want one.

    Args:
        model: one for which `is_causal`.
        points: where states are taken.
        pad_id: token id that passages are padded with.
    """
    if not isinstance(getattr(model, "inner", model), PreTrainedModel):
        return False
    ids = pad_id + np.arange(2 * _BEFORE).reshape(2, -1) % 2 * (1 if pad_id == 0 else -1)
    one, other = (_states(model, points, ids, is_masked=given) for given in (True, False))
    if not one or not other:
        return False
    return all(torch.equal(state, other[point]) for point, state in one.items())


def _states(
    model: Any,
    points: Mapping[Hashable, CapturePoint | nn.Module],
    ids: npt.NDArray[np.int64],
    is_masked: bool = True,
) -> dict[Hashable, Tensor] | None:
    """States of the tokens before, by point in the order they are passed; None if some has none."""
    batch = torch.from_numpy(ids).to(next(model.parameters()).device)
    hooks: PassHooks[Hashable, Any] = PassHooks(points, lambda _, passing: passing)
    try:
        run_probe(model, hooks, batch, torch.ones_like(batch) if is_masked else None)
    except (ConfigError, DataError):
        return None
    found = hooks.found
    if len(found) < len(points):
        return None
    if any(
        not isinstance(state, Tensor) or state.shape[:2] != ids.shape for state in found.values()
    ):
        return None
    return {point: state[:, :_BEFORE] for point, state in found.items()}


def _apart(one: Tensor, other: Tensor) -> float:
    """Median over the tokens of how far their states are apart, as a share of their length."""
    ours, theirs = one.flatten(2).double(), other.flatten(2).double()
    return float(((ours - theirs).norm(dim=2) / ours.norm(dim=2)).median())


def _is_mixture(model: Any) -> bool:
    named = [getattr(model, part, model) for part in ("inner", "backbone")]
    is_lm = all(type(one).__name__.endswith("ForCausalLM") for one in named)
    return is_lm and any("experts" in key for key, _ in _settings(model))


def _depends_on_length(model: Any) -> bool:
    kinds = {value for key, value in _settings(model) if key in ("rope_type", "type")}
    return bool(kinds & _BY_LENGTH)


def _settings(model: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of a model's config at any depth, of values that are single ones."""
    config: Any = getattr(getattr(model, "inner", model), "config", None)
    left = [config.to_dict()] if hasattr(config, "to_dict") else []
    while left:
        for key, value in left.pop().items():
            if isinstance(value, dict):
                left.append(value)
            elif isinstance(value, str | int | float):
                yield str(key), value
