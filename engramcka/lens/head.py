"""A model's own read-out, final norm and LM head, taken apart so that it can be done in pieces.

What a model does to its logits (a scale, a soft cap) is learnt from its own forward pass on a few
tokens, and a model whose logits are not found again is refused. Knows nothing of divergences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models import find_blocks
from engramcka.models.hooks import PassHooks

PROBE_TOKENS = 32
"""Tokens on which the read-out is held against the model's own logits."""

_SLACK = 4  # roundings of the model's dtype that the two may be apart, root mean square over both
_LEAST = 1e-5  # and at least this share: sums in another order
_PIECE = 8192  # entries compared at once


@dataclass(frozen=True)
class Head:
    """Final norm and LM head of one model.

    logits = cap tanh(scale (W norm(h) + bias) / cap), without the tanh where there is no cap.
    """

    norm: nn.Module
    weight: Tensor  # (vocabulary, width), in the model's dtype
    bias: Tensor | None  # (vocabulary,)
    collapse: nn.Module | None = None  # makes one of several residual streams
    scale: float = 1.0
    cap: float | None = None

    @property
    def vocabulary(self) -> int:
        """Entries of the vocabulary."""
        return int(self.weight.shape[0])

    def project(self, hidden: Tensor) -> Tensor:
        """What the LM head reads, (rows, width), of a residual stream after any block.

        Args:
            hidden: (rows, width), or (rows, streams, width) of a model with several streams.
        """
        hidden = hidden.to(self.weight.device)
        if self.collapse is not None:
            hidden = self.collapse(hidden[:, None])[:, 0]
        normed: Tensor = self.norm(hidden)
        return normed.to(self.weight.dtype)

    def logits(self, normed: Tensor, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Logits of the vocabulary's entries start to stop, (..., stop - start).

        Products of 16-bit operands are exact in float32 and are summed in it; the result is not
        rounded to 16 bits, as the model's own is. float64 stays float64.

        Args:
            normed: (..., width), from `project`.
            start: first entry.
            stop: one past the last.
            out: where they go, contiguous; a new tensor if None.
        """
        weight = self.weight[start:stop]
        wide = torch.promote_types(weight.dtype, torch.float32)
        shape = (*normed.shape[:-1], stop - start)
        if out is None:
            out = torch.empty(shape, dtype=wide, device=weight.device)
        rows, flat = normed.flatten(0, -2), out.view(-1, stop - start)
        if weight.is_cuda and weight.dtype != wide:
            torch.mm(rows, weight.T, out_dtype=wide, out=flat)
        else:
            torch.mm(rows.to(wide), weight.to(wide).T, out=flat)
        if self.bias is not None:
            out += self.bias[start:stop].to(wide)
        if self.scale != 1.0:
            out *= self.scale
        return out if self.cap is None else out.div_(self.cap).tanh_().mul_(self.cap)


@torch.no_grad()
def read_head(model: Any, ids: Tensor) -> Head:
    """The read-out of a causal LM, checked against the model's own logits on a few tokens.

    Args:
        model: a causal LM in eval mode.
        ids: (tokens,) int64 on the model's device, at least one; the first 32 are used.

    Raises:
        ConfigError: the model is no decoder, its LM head is not one matrix, or norm and head,
            with any scale and cap that its config names, do not give its logits.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(f"{name} is no model of transformers, so its LM head cannot be found")
    blocks = find_blocks(model)
    linear = blocks.lm_head
    if not isinstance(linear, nn.Linear) or linear.weight.dim() != 2:
        raise ConfigError(
            f"{name}: its LM head is a {type(linear).__name__}, the lens reads Linear"
        )
    if not linear.weight.is_floating_point():
        raise ConfigError(f"{name}: its LM head is quantised, and the lens needs its weights")
    if linear.weight.is_meta:
        raise ConfigError(f"{name}: its LM head is offloaded, and the lens needs it in memory")
    weight, bias = _whole(linear.weight), _whole(linear.bias)
    head = Head(blocks.final_norm, weight, bias, blocks.collapse)
    hidden, logits = _last_hidden_and_logits(model, blocks.modules[-1], ids[None, :PROBE_TOKENS])
    if not logits.isfinite().all():
        raise ConfigError(f"{name}: its logits are NaN or infinite, so no lens can be read off it")
    normed = head.project(hidden)
    allowed = max(_LEAST, _SLACK * torch.finfo(linear.weight.dtype).eps)
    least = math.inf
    for scale, cap in _candidates(model, blocks.logit_scale, blocks.logit_cap):
        candidate = replace(head, scale=scale, cap=cap)
        error = _difference(candidate, normed, logits)
        if error <= allowed:
            return candidate
        least = min(least, error)
    raise ConfigError(
        f"{name}: final norm and LM head after its last block do not give its logits (off by "
        f"{least:.1%}), so LogitLens would read something else; this architecture cannot be used"
    )


def _whole(parameter: Any) -> Any:
    """A parameter, gathered where ranks hold parts of it: all of them call this."""
    full = getattr(parameter, "full_tensor", None)
    return parameter if full is None else full()


def _difference(head: Head, normed: Tensor, logits: Tensor) -> float:
    """Root mean square of (our logits - the model's) as a share of the model's."""
    if logits.shape[-1] != head.vocabulary:
        return math.inf
    apart = 0.0
    for start in range(0, head.vocabulary, _PIECE):
        theirs = logits[:, start : start + _PIECE].double()
        ours = head.logits(normed, start, start + theirs.shape[1])
        apart += float((ours.double() - theirs).square().sum())
    size = float(logits.double().square().sum())
    return math.sqrt(apart / size) if size > 0 else math.inf


def _last_hidden_and_logits(model: Any, block: nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The last block's output at every token, (tokens, ..., width), and the model's logits."""
    with PassHooks({"last": block}, lambda _, hidden: cast(Tensor, hidden)) as hooks:
        logits = model(input_ids=ids, use_cache=False).logits[0]
    return hooks.found["last"][0], logits


def _candidates(
    model: Any, scale: float, cap: float | None
) -> Iterator[tuple[float, float | None]]:
    """Scales and caps a model may use: what is known of its family, then all its config names.

    The same name divides in one family and multiplies in another, so each is tried.
    """
    yield scale, cap
    config = model.config.get_text_config(decoder=True)
    names = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier_scale")
    numbers = [getattr(config, key, None) for key in names]
    scales = [1.0]
    for number in numbers:
        if isinstance(number, int | float) and number not in (0, 1):
            scales += [float(number), 1.0 / number]
    caps = [None] + [
        float(value)
        for key in ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
        if isinstance(value := getattr(config, key, None), int | float) and value > 0
    ]
    yield from ((scale, cap) for scale in scales for cap in reversed(caps))
