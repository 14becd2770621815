"""LogitLens: how far each block's prediction is from the model's own.

`read_head` takes apart what a model does after its last block: logits can be computed a part of
the vocabulary at a time. What a model does to its logits (a scale, a soft cap) is learnt from its
own forward pass on a few tokens; a model whose logits are not reproduced is refused.

`read_layers` never has the logits of all blocks and many tokens in memory together: it takes a few
thousand vocabulary entries at a time, keeps their sums relative to their own largest logit, and
combines the sums as a running log-sum-exp does.

Letters: R rows (tokens), L blocks, V vocabulary entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models import find_blocks, find_unembedding, take_steps
from engramcka.models.hooks import PassHooks
from engramcka.ram import out_of_memory

READINGS = ("kl_final_layer", "kl_layer_final", "entropy", "top1")
"""What is read of every row and block."""

ELEMENTS = {"cpu": 4 << 20, "cuda": 32 << 20}
"""Logits that stand in memory at once, in three buffers of that many float32."""

PREFIX = "lens_"
"""What the names of its arrays in a store begin with."""

PROBE_TOKENS = 32
"""Tokens on which the head is compared with the model's own logits."""

_SLACK = 4  # roundings of the model's dtype that the two may differ by, root mean square over both
_LEAST = 1e-5  # and at least this share: sums in another order
_COMPARED = 8192  # vocabulary entries compared at once
_LEAST_CHUNK = 2048  # vocabulary entries of a chunk at least


@dataclass(frozen=True)
class Head:
    """What one model does after its last block.

    logits = cap tanh(scale (W steps(h) + bias) / cap), without the tanh where there is no cap.
    """

    steps: tuple[nn.Module, ...]  # of most models the final norm alone
    weight: Tensor  # (vocabulary, width), in the model's dtype
    bias: Tensor | None  # (vocabulary,)
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
        taken = take_steps(self.steps, hidden.to(self.weight.device)[:, None])
        return taken[:, 0].to(self.weight.dtype)

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
        ConfigError: the model is no decoder, its LM head is not one matrix, or what runs before it
            and the head, with any scale and cap that its config names, do not give its logits.
    """
    name = type(getattr(model, "inner", model)).__name__
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(
            f"{name} is no model of transformers, so its LM head cannot be found; leave it out of "
            "the lens"
        )
    ids = ids[:PROBE_TOKENS]
    found, blocks = find_unembedding(model, ids), find_blocks(model)
    linear = found.lm_head
    if not isinstance(linear, nn.Linear) or linear.weight.dim() != 2:
        raise ConfigError(
            f"{name}: its LM head is a {type(linear).__name__}, the lens reads Linear"
        )
    if not linear.weight.is_floating_point():
        raise ConfigError(f"{name}: its LM head is quantised, and the lens needs its weights")
    if linear.weight.is_meta:
        raise ConfigError(f"{name}: its LM head is offloaded, and the lens needs it in memory")
    weight, bias = _whole(linear.weight), _whole(linear.bias)
    head = Head(found.steps, weight, bias)
    hidden, logits = _last_hidden_and_logits(model, blocks.modules[-1], ids[None])
    if not logits.isfinite().all():
        raise ConfigError(f"{name}: its logits are NaN or infinite, so no lens can be read off it")
    if logits.shape[-1] < head.vocabulary:  # rows that fill the matrix up
        rows = slice(logits.shape[-1])
        head = replace(head, weight=weight[rows], bias=None if bias is None else bias[rows])
    normed = _projected(name, head, hidden)
    allowed = max(_LEAST, _SLACK * torch.finfo(linear.weight.dtype).eps)
    least = math.inf
    for scale, cap in _candidates(model, found.logit_scale, found.logit_cap):
        candidate = replace(head, scale=scale, cap=cap)
        error = _difference(candidate, normed, logits)
        if error <= allowed:
            return candidate
        least = min(least, error)
    raise ConfigError(
        f"{name}: the modules and LM head after its last block do not give its logits (off by "
        f"{least:.1%}), so LogitLens would read something else; this architecture cannot be used"
    )


def _projected(name: str, head: Head, hidden: Tensor) -> Tensor:
    """What the LM head reads after the last block; refuses steps and heads of another width."""
    try:
        normed = head.project(hidden)
    except Exception as error:  # of whatever runs after somebody's last block
        if out_of_memory(error):
            raise
        raise ConfigError(
            f"{name}: what runs after its last block does not take single tokens of what leaves "
            "it, so no lens can be read off it"
        ) from error
    if normed.dim() != 2 or normed.shape[-1] != head.weight.shape[-1]:
        raise ConfigError(
            f"{name}: its LM head takes {head.weight.shape[-1]} numbers a token and the modules "
            f"before it give {tuple(normed.shape)}, so no lens can be read off it"
        )
    return normed


def _whole(parameter: Any) -> Any:
    """A parameter, gathered where ranks hold parts of it: all of them call this."""
    full = getattr(parameter, "full_tensor", None)
    return parameter if full is None else full()


def _difference(head: Head, normed: Tensor, logits: Tensor) -> float:
    """Root mean square of (our logits - the model's) as a share of the model's."""
    if logits.shape[-1] != head.vocabulary:
        return math.inf
    apart = 0.0
    for start in range(0, head.vocabulary, _COMPARED):
        theirs = logits[:, start : start + _COMPARED].double()
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
    names = (
        "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier_scale",
        "logits_mup_width_multiplier",
    )  # fmt: skip
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


def read_layers(
    hidden: Mapping[int, Tensor], head: Head, elements: int | None = None
) -> dict[str, Tensor]:
    """Divergence from the last block's prediction, entropy and agreement of every block.

    With p the last block's distribution over the vocabulary and q a block's own
    (nostalgebraist 2020): KL(p || q) = sum p (log p - log q), as tuned-lens has it (Belrose et al.
    2023, equation 3), KL(q || p), the entropy of q, all in nats, and whether q's largest entry is
    p's.

    Args:
        hidden: block number -> residual stream after it, (R, width) or (R, streams, width); the
            last block's is the largest number's.
        head: the model's read-out.
        elements: logits that stand in memory at once, of all blocks together.

    Returns:
        The names of `READINGS` -> (R, L) float64 in the order of the block numbers; top1 is 0 or 1.
        Where a block's own stream or the last block's is not finite, all are NaN.
    """
    layers = [hidden[number] for number in sorted(hidden)]
    if elements is None:
        elements = ELEMENTS.get(layers[0].device.type, ELEMENTS["cpu"])
    step = max(1, min(len(layers[0]), elements // (_LEAST_CHUNK * len(layers))))
    size = min(head.vocabulary, max(_LEAST_CHUNK, elements // (step * len(layers))))
    buffers = _Buffers(step * len(layers) * size, head.weight)
    shape = (len(READINGS), len(layers[0]), len(layers))
    found = torch.empty(shape, dtype=torch.float64, device=head.weight.device)
    for start in range(0, len(layers[0]), step):
        normed = torch.stack([head.project(one[start : start + step]) for one in layers], dim=1)
        found[:, start : start + step] = _combine(_read_rows(normed, head, size, buffers))
    return dict(zip(READINGS, found.to(layers[0].device), strict=True))


class _Buffers:
    """Buffers that every chunk uses again: new ones each time would pile up in the allocator."""

    def __init__(self, elements: int, weight: Tensor) -> None:
        wide = torch.promote_types(weight.dtype, torch.float32)
        self._flat = torch.empty(3, elements, dtype=wide, device=weight.device)

    def take(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """The buffer of this number, 0 to 2, in a shape."""
        return self._flat[number, : math.prod(shape)].view(shape)


def _read_rows(normed: Tensor, head: Head, size: int, buffers: _Buffers) -> Tensor:
    """`_chunk_sums` of all chunks, (6, chunks, R, L) float64, for (R, L, width)."""
    starts = range(0, head.vocabulary, size)
    shape = normed.shape[:2]
    sums = torch.empty(6, len(starts), *shape, dtype=torch.float64, device=normed.device)
    for number, start in enumerate(starts):
        stop = min(start + size, head.vocabulary)
        logits = head.logits(normed, start, stop, out=buffers.take(0, (*shape, stop - start)))
        _chunk_sums(logits, sums[:, number], buffers)
    return sums


def _chunk_sums(logits: Tensor, out: Tensor, buffers: _Buffers) -> None:
    """Sums over one chunk of the vocabulary, relative to each block's largest logit in it.

    With a block's logits y, the last block's z, largest my and mz, and weights ey = exp(y - my),
    what is written is my, y at z's largest entry, and the sums of ey, of ey (y - my), of
    ey (z - mz) and of ez (y - my).

    Args:
        logits: (R, L, chunk); overwritten.
        out: (6, R, L), filled.
        buffers: buffers 1 and 2 are used.
    """
    guess = logits[:, -1].argmax(-1)
    out[1] = logits.gather(-1, guess[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    top = logits.amax(-1)
    logits -= top[..., None]
    shape = tuple(logits.shape)
    weights = torch.exp(logits, out=buffers.take(1, shape))
    last, last_weights = logits[:, -1, :, None], weights[:, -1, :, None]
    out[0] = top
    out[2] = weights.sum(-1)
    out[3] = torch.mul(weights, logits, out=buffers.take(2, shape)).sum(-1)
    out[4] = torch.bmm(weights, last)[..., 0]
    out[5] = torch.bmm(logits, last_weights)[..., 0]


def _combine(sums: Tensor) -> Tensor:
    """Readings of the whole vocabulary, (4, R, L), from `_chunk_sums`'s sums, (6, chunks, R, L)."""
    part_top, part_at_guess, part_total, part_own, part_final, part_under_final = sums
    top = part_top.amax(0)
    down = part_top - top  # of each chunk's largest logit below the largest of all
    share = down.exp()
    last_down, last_share, last_total = down[..., -1:], share[..., -1:], part_total[..., -1:]
    total = (share * part_total).sum(0)
    own = (share * (part_own + down * part_total)).sum(0) / total
    final = (share * (part_final + last_down * part_total)).sum(0) / total
    under_final = (last_share * (part_under_final + down * last_total)).sum(0) / total[:, -1:]
    log = total.log()
    # log q = y - top - log. Its mean is own - log under q and under_final - log under p; that of
    # log p is final - log[last] under q and own[last] - log[last] under p.
    forward = (own[:, -1:] - log[:, -1:]) - (under_final - log)
    backward = (own - log) - (final - log[:, -1:])
    forward[:, -1] = backward[:, -1] = 0.0  # the same distribution, summed in two ways
    best = part_top[..., -1].argmax(0)  # the chunk with the last block's largest logit, (R,)
    at_guess = part_at_guess.gather(0, best[None, :, None].expand(1, -1, top.shape[1]))[0]
    readings = torch.stack([forward, backward, log - own, (at_guess == top).double()])
    return readings.where(log.isfinite() & log[:, -1:].isfinite(), torch.nan)


class LensReadout:
    """Readings of every block at the rows of one forward pass.

    Args:
        model: a causal LM in eval mode, on its device.
        ids: (tokens,) of some text, on which the head is compared with the model's own logits.

    Raises:
        ConfigError: as `engramcka.lens.logit_lens.read_head`.
    """

    def __init__(self, model: Any, ids: npt.NDArray[np.int64]) -> None:
        tokens = torch.from_numpy(ids).to(next(model.parameters()).device)
        self._head = read_head(model, tokens)
        self.columns: Mapping[str, int] = {
            f"{PREFIX}{name}": len(find_blocks(model).modules) for name in READINGS
        }

    @torch.no_grad()
    def __call__(self, hidden: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Readings of the rows, name -> (rows, layers) float32.

        Args:
            hidden: block number -> residual stream at the rows, (rows, width) or, of a model with
                several streams, (rows, streams, width).
        """
        found = read_layers(hidden, self._head)
        return {f"{PREFIX}{name}": value.float() for name, value in found.items()}
