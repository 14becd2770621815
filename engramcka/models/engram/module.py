"""The Engram module: memory, gate and short convolution (paper, section 2).

It takes a residual stream and row numbers and returns what is added to the stream. Knows nothing
of tokens, hashing or the model around it.

Letters: B sequences, T tokens, M residual streams, D hidden size, E = d_mem, P tables,
K kernel taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from engramcka.config.schema import EngramConfig
from engramcka.models.engram.memory import EngramMemory

NORM_EPSILON = 1e-6
SCORE_FLOOR = 1e-6
"""Least size of a score under the signed square root (the authors' code)."""


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + 1e-6) x weight over the last axis, in float32 at least."""
    x = x if x.dtype == torch.float64 else x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPSILON) * weight


class EngramGate(nn.Module):
    """How much of a memory is let through: alpha in (0, 1), one for each stream and token.

    s = <RMSNorm(h), RMSNorm(W_K e)> / sqrt(D), alpha = sigmoid(s) (paper, equations 3, 4 and 6);
    with gating "signed-sqrt", s is first replaced by sign(s) sqrt(max(|s|, 1e-6)).
    """

    def __init__(self, hidden_size: int, d_mem: int, streams: int, signed_sqrt: bool) -> None:
        super().__init__()
        self.signed_sqrt = signed_sqrt
        self.keys = nn.ModuleList(nn.Linear(d_mem, hidden_size, bias=False) for _ in range(streams))
        self.query_norm = nn.Parameter(torch.ones(streams, hidden_size))
        self.key_norm = nn.Parameter(torch.ones(streams, hidden_size))

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """Alpha, (B, T, M) in float32 or float64, from (B, T, M, D) and (B, T, E)."""
        key = torch.stack([project(memory) for project in self.keys], dim=-2)
        product = rms_norm(hidden, self.query_norm) * rms_norm(key, self.key_norm)
        score = product.sum(-1) * hidden.shape[-1] ** -0.5
        if self.signed_sqrt:
            score = score.sign() * score.abs().clamp_min(SCORE_FLOOR).sqrt()
        return score.sigmoid()


class ShortConvolution(nn.Module):
    """Depthwise causal convolution over tokens of the normed values (paper, equation 5).

    Its weights start at zero, so that the module begins as a plain gated lookup.
    """

    def __init__(self, hidden_size: int, streams: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.reach = (kernel_size - 1) * dilation
        self.norm = nn.Parameter(torch.ones(streams, hidden_size))
        self.weight = nn.Parameter(torch.zeros(streams, hidden_size, kernel_size))

    def forward(self, values: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Conv1D(RMSNorm(values)), (B, T, M, D), and the normed values that the next call needs.

        Args:
            values: gated values (B, T, M, D), zero at padded positions.
            tail: normed values of the ``reach`` positions before, (B, reach, M, D); None at the
                start, where they count as zero.
        """
        n_tokens = values.shape[1]
        normed = rms_norm(values, self.norm).to(values.dtype)
        if tail is None:
            tail = normed.new_zeros(normed.shape[0], self.reach, *normed.shape[2:])
        padded = torch.cat([tail.to(normed.dtype), normed], dim=1)
        weight = self.weight.to(normed.dtype)
        total = torch.zeros_like(normed)
        for tap in range(weight.shape[-1]):
            start = tap * self.dilation
            total = torch.addcmul(total, padded[:, start : start + n_tokens], weight[..., tap])
        return total, padded[:, n_tokens:].clone()


class Engram(GradientCheckpointingLayer):
    """One Engram module at the input of one block.

    Y = SiLU(Conv1D(RMSNorm(V))) + V with V = alpha x W_V e (paper, equations 3 to 5). With M
    residual streams the table and W_V are shared and each stream has its own W_K, norms and
    convolution; without ``multi_branch`` one gate on the streams' mean serves all of them.

    Args:
        engram: the module's numbers.
        hidden_size: D.
        streams: M, 1 for an ordinary decoder.
        n_rows: rows of the module's tables together.
    """

    def __init__(self, engram: EngramConfig, hidden_size: int, streams: int, n_rows: int) -> None:
        super().__init__()
        self.pools_streams = streams > 1 and not engram.multi_branch
        self.streams = 1 if self.pools_streams else streams
        self.enabled = True
        row_width = engram.d_mem // (len(engram.orders) * engram.heads)
        self.memory = EngramMemory(n_rows, row_width, engram.host_memory)
        self.value = nn.Linear(engram.d_mem, hidden_size, bias=False)
        self.gate = None
        if engram.gating != "none":
            signed_sqrt = engram.gating == "signed-sqrt"
            self.gate = EngramGate(hidden_size, engram.d_mem, self.streams, signed_sqrt)
        self.convolution = None
        if engram.convolution:
            self.convolution = ShortConvolution(
                hidden_size, self.streams, engram.kernel_size, dilation=max(engram.orders)
            )

    def forward(
        self,
        hidden: Tensor,
        rows: Tensor,
        keep: Tensor | None = None,
        tail: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What is added to the stream, in its shape and dtype, and the convolution's next tail.

        Args:
            hidden: residual stream, (B, T, D) or (B, T, M, D).
            rows: row numbers, (B, T, P) int64.
            keep: False where a position is padding, (B, T); None if none is.
            tail: what the call before returned; None at the start.
        """
        streams = hidden if hidden.dim() == 4 else hidden.unsqueeze(2)
        if self.pools_streams:
            streams = streams.mean(2, keepdim=True)
        memory = self.memory(rows)
        values = self.value(memory).unsqueeze(2)
        if self.gate is not None:
            values = self.gate(streams, memory).unsqueeze(-1).to(values.dtype) * values
        else:
            values = values.expand(-1, -1, self.streams, -1)
        if keep is not None:
            values = values * keep[:, :, None, None].to(values.dtype)
        if self.convolution is not None:
            convolved, tail = self.convolution(values, tail)
            values = F.silu(convolved) + values
        out = values if hidden.dim() == 4 else values.squeeze(2)
        return out.to(hidden.dtype).expand_as(hidden), tail

    def prefetch(self, rows: Tensor) -> None:
        """Send for rows that `forward` will want, where the tables are in host memory."""
        if self.enabled:
            self.memory.prefetch(rows)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start weights: tables and projections normal, norms one, convolution zero.

        Weights that came from a checkpoint stay as they are.
        """
        d_mem = self.value.in_features
        init.normal_(self.memory.weight, std=MEMORY_STD, generator=generator)
        init.normal_(self.value.weight, std=d_mem**-0.5, generator=generator)
        if self.gate is not None:
            for key in self.gate.keys:
                init.normal_(key.get_parameter("weight"), std=d_mem**-0.5, generator=generator)
            init.ones_(self.gate.query_norm)
            init.ones_(self.gate.key_norm)
        if self.convolution is not None:
            init.ones_(self.convolution.norm)
            init.zeros_(self.convolution.weight)


MEMORY_STD = 0.02
"""Standard deviation of a table's entries at the start."""
