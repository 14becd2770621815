"""Whether a token's hidden states depend on nothing behind it, so that what is behind need not run.

Seen in the model itself and not taken from its name: other tokens are put behind the same ones. The
shapes are the same, so a causal model gives the same bits. A mixture of experts may not, since its
experts get other numbers of tokens and products of another shape round otherwise; there a
difference of roundings is allowed, if it is a causal LM by name too. What is not clear is run
whole. In the same way it is seen whether passages that stand in one row, told apart by their
position ids alone, know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError, DataError
from engramcka.models.blocks import find_blocks
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.models.memory import find_memories
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
    return _is_mixture(model) and _apart(one[first], other[first]) < _most(one[first])


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


@torch.no_grad()
def keeps_apart(
    model: Any,
    points: Mapping[Any, CapturePoint | nn.Module],
    ids: Sequence[npt.NDArray[np.int64]],
) -> bool:
    """Whether a passage's states are the same behind another in a row as by itself.

    Position ids alone begin again with it. Other tokens before it must leave the bits of its states
    alone; of a mixture of experts, whose products round otherwise then, every block must be given
    a mask that hides them, and nothing but attention may look back.

    Args:
        model: one for which `is_causal` and `needs_no_mask`.
        points: where states are taken.
        ids: (tokens,) of each passage; some tokens of theirs are run.
    """
    tokens = np.unique(np.concatenate([one[: _BEFORE + _BEHIND] for one in ids[:64]]))
    if len(tokens) < 2 or not isinstance(getattr(model, "inner", model), PreTrainedModel):
        return False
    chosen = np.random.default_rng(1).integers(0, len(tokens), (2, _BEFORE + _BEHIND))
    own, others = chosen[:, :_BEFORE], chosen[:, _BEFORE:]
    behind, changed, alone = (
        tokens[np.concatenate(parts, axis=1)]
        for parts in (
            (others, own), ((others + 1) % len(tokens), own), (own, others)
        )
    )  # fmt: skip
    places = np.concatenate([np.arange(_BEHIND), np.arange(_BEFORE)])[None].repeat(2, axis=0)
    try:
        masks = _MasksSeen(model)
    except ConfigError:
        return False
    with masks:
        one = _states(model, points, behind, False, places, part=slice(_BEHIND, None))
    other = _states(model, points, changed, False, places, part=slice(_BEHIND, None))
    by_itself = _states(model, points, alone, False)
    if not one or other is None or by_itself is None:
        return False
    near = [_apart(one[point], by_itself[point]) < _most(one[point]) for point in one]
    if all(torch.equal(state, other[point]) for point, state in one.items()):
        return all(near)
    return near[0] and _is_mixture(model) and masks.hide_what_is_before() and _only_attends(model)


class _MasksSeen(AbstractContextManager["_MasksSeen"]):
    """The masks that modules of every block are given in a pass."""

    def __init__(self, model: Any) -> None:
        self._blocks = find_blocks(model).modules
        self._seen: list[list[Tensor]] = [[] for _ in self._blocks]

    def __enter__(self) -> _MasksSeen:
        self._handles = [
            part.register_forward_pre_hook(partial(self._see, number), with_kwargs=True)
            for number, block in enumerate(self._blocks)
            for part in block.modules()
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _see(self, number: int, _module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        for given in (*args, *kwargs.values()):
            shape = (_BEFORE + _BEHIND,) * 2
            if isinstance(given, Tensor) and given.dim() == 4 and given.shape[2:] == shape:
                self._seen[number].append(given)

    def hide_what_is_before(self) -> bool:
        """Whether every block saw masks, and all of them hide the passage before the last."""
        return all(
            masks and all(_hides(mask[..., _BEHIND:, :_BEHIND]) for mask in masks)
            for masks in self._seen
        )


def _hides(mask: Tensor) -> bool:
    """Whether nothing is seen: all False, or numbers that no score makes up for."""
    if mask.dtype == torch.bool:
        return not bool(mask.any())
    return mask.is_floating_point() and bool((mask <= torch.finfo(mask.dtype).min / 2).all())


def _only_attends(model: Any) -> bool:
    """Whether no convolution and no memory of n-grams looks back past a mask."""
    return not find_memories(model) and not any(
        isinstance(part, nn.Conv1d) for part in model.modules()
    )


def _most(state: Tensor) -> float:
    return _APART.get(state.dtype.itemsize, 0.0)


def _states(
    model: Any,
    points: Mapping[Hashable, CapturePoint | nn.Module],
    ids: npt.NDArray[np.int64],
    is_masked: bool = True,
    positions: npt.NDArray[np.int64] | None = None,
    part: slice = slice(_BEFORE),
) -> dict[Hashable, Tensor] | None:
    """States of the tokens before, by point in the order they are passed; None if some has none.

    Args:
        model, points: as above.
        ids: (batch, tokens).
        is_masked: give a mask of ones.
        positions: (batch, tokens) to give as position ids.
        part: of the tokens whose states are wanted.
    """
    device = next(model.parameters()).device
    batch = torch.from_numpy(ids).to(device)
    given = {} if positions is None else {"position_ids": torch.from_numpy(positions).to(device)}
    hooks: PassHooks[Hashable, Any] = PassHooks(points, lambda _, passing: passing)
    try:
        run_probe(model, hooks, batch, torch.ones_like(batch) if is_masked else None, **given)
    except (ConfigError, DataError):
        return None
    found = hooks.found
    if len(found) < len(points):
        return None
    if any(
        not isinstance(state, Tensor) or state.shape[:2] != ids.shape for state in found.values()
    ):
        return None
    return {point: state[:, part] for point, state in found.items()}


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
