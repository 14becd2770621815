"""The Engram module: memory, gate and short convolution (paper, section 2).

It takes a residual stream and row numbers and returns what is added to the stream.

Letters: B sequences, T tokens, M residual streams, D hidden size, E = d_mem, P tables,
K kernel taps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from engramcka.config.memory_tables import EngramConfig
from engramcka.models.engram.tables import EngramMemory

SCORE_FLOOR = 1e-6
"""Least size of a score under the signed square root (the authors' code)."""


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last axis, (...), without a copy of x."""
    mean = torch.linalg.vector_norm(x, dim=-1).square() / x.shape[-1]
    return torch.rsqrt(mean + eps)


class EngramGate(nn.Module):
    """How much of a memory is let through: alpha in (0, 1), one for each stream and token.

    s = <RMSNorm(h), RMSNorm(W_K e)> / sqrt(D), alpha = sigmoid(s) (paper, equations 3, 4 and 6);
    with gating "signed-sqrt", s is first replaced by sign(s) sqrt(max(|s|, 1e-6)). The norms are
    factored out of the product, so that no normed copy of either side is made.
    """

    def __init__(
        self, hidden_size: int, d_mem: int, streams: int, signed_sqrt: bool, eps: float
    ) -> None:
        super().__init__()
        self.signed_sqrt = signed_sqrt
        self.eps = eps
        self.keys = nn.ModuleList(nn.Linear(d_mem, hidden_size, bias=False) for _ in range(streams))
        self.query_norm = nn.Parameter(torch.ones(streams, hidden_size))
        self.key_norm = nn.Parameter(torch.ones(streams, hidden_size))

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """Alpha, (B, T, M) in float32 or float64, from (B, T, M, D) and (B, T, E)."""
        keys = [project(memory) for project in self.keys]
        key = wide(keys[0].unsqueeze(-2) if len(keys) == 1 else torch.stack(keys, dim=-2))
        hidden = wide(hidden)
        weight = wide(self.query_norm) * wide(self.key_norm)
        norms = inverse_rms(hidden, self.eps) * inverse_rms(key, self.eps)
        score = (hidden * weight * key).sum(-1) * norms * hidden.shape[-1] ** -0.5
        if self.signed_sqrt:
            score = score.sign() * score.abs().clamp_min(SCORE_FLOOR).sqrt()
        return score.sigmoid()


class ConstantGate(nn.Module):
    """One learned number a stream in the gate's place, the same at every token; 1/2 at first."""

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(streams))

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """Alpha, (B, T, M), from (B, T, M, D) and (B, T, E), of which the sizes count."""
        return wide(self.logit).sigmoid().expand(*memory.shape[:2], len(self.logit))


class StreamProjection(nn.Module):
    """SiLU(W h) in the memory's place: as many parameters, and nothing is looked up."""

    def __init__(self, hidden_size: int, d_mem: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, d_mem, bias=False)

    def forward(self, streams: Tensor) -> Tensor:
        """(B, T, E) from the residual streams (B, T, M, D), of which it takes the mean."""
        return F.silu(self.project(streams.mean(2)))


class ShortConvolution(nn.Module):
    """Depthwise causal convolution over tokens of the normed values (paper, equation 5).

    Its weights start at zero, so that the module begins as a plain gated lookup. The norm's weight
    is taken into the kernel's, so that the values are only scaled once.
    """

    def __init__(
        self, hidden_size: int, streams: int, kernel_size: int, dilation: int, eps: float
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.eps = eps
        self.reach = (kernel_size - 1) * dilation
        self.norm = nn.Parameter(torch.ones(streams, hidden_size))
        self.weight = nn.Parameter(torch.zeros(streams, hidden_size, kernel_size))

    def forward(
        self, values: Tensor, tail: Tensor | None, since: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Conv1D(RMSNorm(values)), (B, T, M, D), and what of it the next call needs.

        Args:
            values: gated values (B, T, M, D), zero at padded positions.
            tail: values over their root mean square, of the ``reach`` positions before,
                (B, reach, M, D); None at the start, where they count as zero.
            since: tokens of its document before each, (B, T): taps further back see zero. None if
                nothing is cut.
        """
        n_tokens = values.shape[1]
        scale = inverse_rms(wide(values), self.eps).unsqueeze(-1)
        scaled = (wide(values) * scale).to(values.dtype)
        if tail is None:
            tail = scaled.new_zeros(scaled.shape[0], self.reach, *scaled.shape[2:])
        padded = torch.cat([tail.to(scaled.dtype), scaled], dim=1)
        taps = (wide(self.weight) * wide(self.norm).unsqueeze(-1)).to(scaled.dtype)
        total: Tensor = CausalTaps.apply(padded, taps, self.dilation, since)
        return total, padded[:, n_tokens:].clone()


class CausalTaps(torch.autograd.Function):
    """Depthwise convolution as shifted multiply-adds; its gradient is made the same way.

    Left to autograd, every shift would cost a zero-filled copy of the whole input.
    """

    @staticmethod
    def forward(
        ctx: Any, padded: Tensor, taps: Tensor, dilation: int, since: Tensor | None
    ) -> Tensor:
        """Sum over taps k of padded[:, t + k dilation] x taps[..., k].

        Args:
            ctx: autograd's.
            padded: (B, (K - 1) dilation + T, M, D).
            taps: (M, D, K).
            dilation: positions between two taps.
            since: how far back the taps of a position reach, (B, T); None: all the way.

        Returns:
            (B, T, M, D).
        """
        ctx.save_for_backward(padded, taps)
        ctx.dilation = dilation
        ctx.seen = seen = _seen(since, taps.shape[-1], dilation, padded.dtype)
        parts = _shifted(padded, taps, dilation)
        if seen is not None:
            parts = [*(part * one for part, one in zip(parts, seen, strict=False)), parts[-1]]
        first, rest = parts[0], parts[1:]
        total = first * taps[..., 0]
        for tap, part in enumerate(rest, start=1):
            total.addcmul_(part, taps[..., tap])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradients of ``padded`` and ``taps``."""
        padded, taps = ctx.saved_tensors
        (grad,) = grads
        to_padded, to_taps = torch.zeros_like(padded), torch.empty_like(taps)
        parts = _shifted(padded, taps, ctx.dilation)
        targets = _shifted(to_padded, taps, ctx.dilation)
        for tap, (part, target) in enumerate(zip(parts, targets, strict=True)):
            is_cut = ctx.seen is not None and tap + 1 < len(parts)
            through = grad * ctx.seen[tap] if is_cut else grad
            target.addcmul_(through, taps[..., tap])
            to_taps[..., tap] = (through * part).sum((0, 1))
        return to_padded, to_taps, None, None


def _seen(
    since: Tensor | None, kernel_size: int, dilation: int, dtype: torch.dtype
) -> list[Tensor] | None:
    """1 where a tap's token is of the same document, 0 elsewhere, (B, T, 1, 1) each.

    For all taps but the last, which is the token itself.
    """
    if since is None:
        return None
    lags = range((kernel_size - 1) * dilation, 0, -dilation)
    return [(since >= lag)[..., None, None].to(dtype) for lag in lags]


def _shifted(padded: Tensor, taps: Tensor, dilation: int) -> list[Tensor]:
    """The stretch of ``padded`` that each tap sees, as views (B, T, M, D)."""
    kernel_size = taps.shape[-1]
    n_tokens = padded.shape[1] - (kernel_size - 1) * dilation
    starts = range(0, kernel_size * dilation, dilation)
    return [padded[:, start : start + n_tokens] for start in starts]


class Engram(GradientCheckpointingLayer):
    """One Engram module at the input of one block.

    Y = SiLU(Conv1D(RMSNorm(V))) + V with V = alpha x W_V e (paper, equations 3 to 5). With M
    residual streams the table and W_V are shared and each stream has its own W_K, norms and
    convolution (``fusion`` "streams"). With "mean" one gate on their mean serves all of them; with
    "pre-mapping" the module is given one stream, what the block's attention reads of them.

    Args:
        engram: the module's numbers.
        hidden_size: D.
        streams: M, 1 for an ordinary decoder.
        n_rows: rows of the module's tables together.
    """

    def __init__(self, engram: EngramConfig, hidden_size: int, streams: int, n_rows: int) -> None:
        super().__init__()
        self.pools_streams = streams > 1 and engram.fusion == "mean"
        self.streams = streams if engram.fusion == "streams" else 1
        self.enabled = True
        row_width = engram.d_mem // (len(engram.orders) * engram.heads)
        self.memory: EngramMemory | StreamProjection
        if engram.control == "no-table":
            self.memory = StreamProjection(hidden_size, engram.d_mem)
        else:
            self.memory = EngramMemory(n_rows, row_width, engram.host_memory)
            self.memory.weight.requires_grad_(engram.control != "random-rows")
        self.value = nn.Linear(engram.d_mem, hidden_size, bias=False)
        self.gate: EngramGate | ConstantGate | None = None
        if engram.gating == "constant":
            self.gate = ConstantGate(self.streams)
        elif engram.gating != "none":
            signed_sqrt = engram.gating == "signed-sqrt"
            self.gate = EngramGate(
                hidden_size, engram.d_mem, self.streams, signed_sqrt, engram.gate_eps
            )
        self.convolution = None
        if engram.convolution:
            self.convolution = ShortConvolution(
                hidden_size,
                self.streams,
                engram.kernel_size,
                dilation=max(engram.orders),
                eps=engram.convolution_eps,
            )

    def forward(
        self,
        hidden: Tensor,
        rows: Tensor,
        keep: Tensor | None = None,
        tail: Tensor | None = None,
        since: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What is added to the stream, in its shape and dtype, and the convolution's next tail.

        Args:
            hidden: residual stream, (B, T, D) or (B, T, M, D).
            rows: row numbers, (B, T, P) int64.
            keep: False where a position is padding, (B, T); None if none is.
            tail: what the call before returned; None at the start.
            since: where documents begin, as `NgramHash.since` gives it; None if nothing is cut.
        """
        streams = hidden if hidden.dim() == 4 else hidden.unsqueeze(2)
        if self.pools_streams:
            streams = streams.mean(2, keepdim=True)
        memory = self.memory(rows if isinstance(self.memory, EngramMemory) else streams)
        values = self.value(memory).unsqueeze(2)
        if self.gate is not None:
            values = self.gate(streams, memory).unsqueeze(-1).to(values.dtype) * values
        else:
            values = values.expand(-1, -1, self.streams, -1)
        if keep is not None:
            values = values * keep[:, :, None, None].to(values.dtype)
        if self.convolution is not None:
            convolved, tail = self.convolution(values, tail, since)
            values = F.silu(convolved) + values
        out = values if hidden.dim() == 4 else values.squeeze(2)
        return out.to(hidden.dtype).expand_as(hidden), tail

    def prefetch(self, rows: Tensor) -> None:
        """Start fetching the rows that `forward` will use, where the tables are in host memory."""
        if self.enabled and isinstance(self.memory, EngramMemory):
            self.memory.prefetch(rows)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start weights: tables and projections normal, norms one, convolution zero.

        Weights that came from a checkpoint stay as they are.
        """
        d_mem = self.value.in_features
        if isinstance(self.memory, EngramMemory):
            init.normal_(self.memory.weight, std=MEMORY_STD, generator=generator)
        else:
            project = self.memory.project
            init.normal_(project.weight, std=project.in_features**-0.5, generator=generator)
        init.normal_(self.value.weight, std=d_mem**-0.5, generator=generator)
        if isinstance(self.gate, ConstantGate):
            init.zeros_(self.gate.logit)
        elif self.gate is not None:
            for key in self.gate.keys:
                init.normal_(key.get_parameter("weight"), std=d_mem**-0.5, generator=generator)
            init.ones_(self.gate.query_norm)
            init.ones_(self.gate.key_norm)
        if self.convolution is not None:
            init.ones_(self.convolution.norm)
            init.zeros_(self.convolution.weight)


MEMORY_STD = 0.02
"""Standard deviation of a table's entries at the start."""
