"""How far each block's prediction is from the model's own, in pieces over the vocabulary.

The logits of all blocks and many tokens never stand in memory together: a few thousand entries of
the vocabulary at a time leave sums relative to their own largest logit, which are then put
together as a running log-sum-exp would. Knows nothing of models but their `Head`.

Letters: R rows (tokens), L blocks, V vocabulary entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from engramcka.lens.head import Head

READINGS = ("kl_final_layer", "kl_layer_final", "entropy", "top1")
"""What is read of every row and block."""

ELEMENTS = {"cpu": 4 << 20, "cuda": 32 << 20}
"""Logits that stand in memory at once, in three buffers of that many float32."""

_PIECE = 2048  # vocabulary entries a piece at least


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
    step = max(1, min(len(layers[0]), elements // (_PIECE * len(layers))))
    size = min(head.vocabulary, max(_PIECE, elements // (step * len(layers))))
    room = _Room(step * len(layers) * size, head.weight)
    found = torch.empty(len(READINGS), len(layers[0]), len(layers), dtype=torch.float64)
    for start in range(0, len(layers[0]), step):
        normed = torch.stack([head.project(one[start : start + step]) for one in layers], dim=1)
        found[:, start : start + step] = _join(_read_rows(normed, head, size, room))
    return dict(zip(READINGS, found.to(layers[0].device), strict=True))


class _Room:
    """Buffers that every piece uses again: fresh ones each time would pile up in the allocator."""

    def __init__(self, elements: int, weight: Tensor) -> None:
        wide = torch.promote_types(weight.dtype, torch.float32)
        self._flat = torch.empty(3, elements, dtype=wide, device=weight.device)

    def take(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """The buffer of this number, 0 to 2, in a shape."""
        return self._flat[number, : math.prod(shape)].view(shape)


def _read_rows(normed: Tensor, head: Head, size: int, room: _Room) -> Tensor:
    """`_piece` of every piece of the vocabulary for (R, L, width): (6, pieces, R, L) float64."""
    starts = range(0, head.vocabulary, size)
    shape = normed.shape[:2]
    sums = torch.empty(6, len(starts), *shape, dtype=torch.float64, device=normed.device)
    for number, start in enumerate(starts):
        stop = min(start + size, head.vocabulary)
        logits = head.logits(normed, start, stop, out=room.take(0, (*shape, stop - start)))
        _piece(logits, sums[:, number], room)
    return sums


def _piece(logits: Tensor, out: Tensor, room: _Room) -> None:
    """Sums over one piece of the vocabulary, relative to each block's largest logit in it.

    With a block's logits y, the last block's z, largest my and mz, and weights ey = exp(y - my),
    what is written is my, y at z's largest entry, and the sums of ey, of ey (y - my), of
    ey (z - mz) and of ez (y - my).

    Args:
        logits: (R, L, piece); overwritten.
        out: (6, R, L), filled.
        room: buffers 1 and 2 are used.
    """
    guess = logits[:, -1].argmax(-1)
    out[1] = logits.gather(-1, guess[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    top = logits.amax(-1)
    logits -= top[..., None]
    shape = tuple(logits.shape)
    weights = torch.exp(logits, out=room.take(1, shape))
    last, last_weights = logits[:, -1, :, None], weights[:, -1, :, None]
    out[0] = top
    out[2] = weights.sum(-1)
    out[3] = torch.mul(weights, logits, out=room.take(2, shape)).sum(-1)
    out[4] = torch.bmm(weights, last)[..., 0]
    out[5] = torch.bmm(logits, last_weights)[..., 0]


def _join(sums: Tensor) -> Tensor:
    """Readings of the whole vocabulary, (4, R, L), from `_piece`'s sums, (6, pieces, R, L)."""
    part_top, part_at_guess, part_total, part_own, part_final, part_under_final = sums
    top = part_top.amax(0)
    down = part_top - top  # of each piece's largest logit below the largest of all
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
    best = part_top[..., -1].argmax(0)  # the piece with the last block's largest logit, (R,)
    at_guess = part_at_guess.gather(0, best[None, :, None].expand(1, -1, top.shape[1]))[0]
    readings = torch.stack([forward, backward, log - own, (at_guess == top).double()])
    return readings.where(log.isfinite() & log[:, -1:].isfinite(), torch.nan)
