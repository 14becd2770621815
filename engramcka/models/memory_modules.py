"""The memory modules of any model, behind one interface.

What the analyses ask of a memory module: where it sits in the stream, its gate, its table and the
rows that are looked up, which token ids the rows depend on, and how it is switched off. The
answers for one kind of module each are in `engramcka.models.memory_adapters`;
`engramcka.models.memory` finds the modules of a model.

Letters: B sequences, T tokens, M residual streams, D hidden size, P rows a token looks up, E width
of all of them together, N the longest n-gram order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engramcka.errors import ConfigError
from engramcka.models.engram.module import SCORE_FLOOR
from engramcka.models.hooks import CapturePoint, entering, first_of

Ints = npt.NDArray[np.int64]

BEFORE_START = -1
"""Stands in a window of hashed ids for a position that is not there."""

_ROUNDING = 0.05  # of what a quantised layer gives for twice the input
_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class MemoryModule(ABC):
    """One memory module of a model.

    Attributes:
        layer: the block that it stands in or before, from 1.
        name: of the module in its model.
        module: takes the residual stream first, where it takes it at all.
        root: the model, where the hash may live.
    """

    layer: int
    name: str
    module: nn.Module
    root: nn.Module

    is_ours: ClassVar[bool] = False

    @property
    def gives(self) -> Literal["addition", "stream"]:
        """Whether its output is added to the stream by others, or is the stream itself."""
        return "addition"

    @property
    def before(self) -> CapturePoint:
        """The stream before the memory is added."""
        return CapturePoint(self.module, "input")

    @property
    def after(self) -> CapturePoint:
        """The stream with the memory added."""
        return CapturePoint(self.module, "output" if self.gives == "stream" else "sum")

    def stands_before(self, block: nn.Module) -> bool:
        """Whether it changes what enters a block, and not what goes on inside."""
        return self.module not in set(block.modules())

    @property
    @abstractmethod
    def gate_points(self) -> Mapping[str, CapturePoint]:
        """What a pass must show for `alpha`; empty where there is no gate that can be read."""

    @abstractmethod
    def alpha(self, seen: Mapping[str, Tensor]) -> Tensor:
        """The gates (B, T, M) in [0, 1], from what passed the gate points."""

    @property
    @abstractmethod
    def table(self) -> nn.Module | None:
        """Row numbers (B, T, P) in, rows out; None where it is not known."""

    @property
    @abstractmethod
    def orders(self) -> tuple[int, ...]:
        """N-gram orders, ascending: equal parts of what the table gives; empty: not known."""

    @property
    @abstractmethod
    def value_layer(self) -> nn.Module | None:
        """Linear layer from the rows to the value; None where the rows are the value."""

    @property
    def value_outputs(self) -> slice:
        """Which of the layer's outputs are the value."""
        return slice(None)

    def value(self, looked_up: Tensor) -> Tensor:
        """The value, (B, T, D) float32, as a linear function of the rows (B, T, E), no bias."""
        if self.value_layer is None:
            return looked_up.float()
        return linear(self.value_layer, looked_up, self.value_outputs)

    def hashed(self, ids: Ints) -> Ints | None:
        """What the rows of each token are a function of, oldest first, (T, N).

        Args:
            ids: token ids of one sequence, (T,).

        Returns:
            ids as they are hashed, `BEFORE_START` where a position counts as none; None where it is
            not known how this module hashes.
        """
        return None

    def ngrams(self, ids: Ints) -> Ints | None:
        """The ids that a token's n-grams are made of, as `hashed` gives them.

        Known of our own modules also where a control looks rows up by something else, or by
        nothing.
        """
        return self.hashed(ids)

    @property
    def table_parameters(self) -> int:
        """Parameters of its table; 0 where that is not known."""
        return sum(p.numel() for p in self.table.parameters()) if self.table is not None else 0

    @property
    def row_width(self) -> int:
        """E: numbers in the rows of a token together; 0 where that is not known."""
        return int(getattr(self.value_layer, "in_features", 0)) if self.table is not None else 0

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Without the memory: what it gives is zero, or the stream as it came."""

        def hush(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            given = first_of(output)
            instead = entering(args, kwargs) if self.gives == "stream" else given.new_zeros(())
            instead = instead.to(given.device, given.dtype).expand_as(given)
            if not isinstance(output, tuple | list):
                return instead
            rest = (instead, *output[1:])
            return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)

        handle = self.module.register_forward_hook(hush, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _part(self, name: str) -> nn.Module:
        return self.module.get_submodule(name)


def gate_of(key: Tensor, query: Tensor, width: int | None, signed_sqrt: bool) -> Tensor:
    """Alpha (B, T, M) of normed keys and queries (Engram paper, equations 3 and 4), float32.

    Args:
        key: (B, T, M, D), or flattened (B, T, M x D).
        query: the same.
        width: D; None for the last axis of the keys.
        signed_sqrt: replace a score s by sign(s) sqrt(max(|s|, 1e-6)), as the authors' code does.

    Raises:
        ConfigError: they are no keys and queries of whole streams.
    """
    width = width or key.shape[-1]
    flat = [side.float().flatten(2) for side in (key, query)]
    if flat[0].shape != flat[1].shape or flat[0].shape[-1] % width:
        raise ConfigError(
            f"a gate is made of keys and queries (batch, tokens, streams x {width}), found "
            f"{tuple(key.shape)} and {tuple(query.shape)}"
        )
    sides = [side.unflatten(-1, (-1, width)) for side in flat]
    score = (sides[0] * sides[1]).sum(-1) * width**-0.5
    if signed_sqrt:
        score = score.sign() * score.abs().clamp_min(SCORE_FLOOR).sqrt()
    return score.sigmoid()


def windows_of(
    ids: Ints, longest: int, cut_at: int | None = None, before: int = BEFORE_START
) -> Ints:
    """The ``longest`` ids up to each token, oldest first, (T, longest).

    Args:
        ids: (T,).
        longest: how many.
        cut_at: an id that no window reaches back over.
        before: stands for what is before the start, or before a cut.
    """
    padded = np.concatenate([np.full(longest - 1, before, dtype=np.int64), ids])
    windows = np.lib.stride_tricks.sliding_window_view(padded, longest).copy()
    if cut_at is not None:
        past = windows[:, :-1] == cut_at  # the token itself does not cut its own window
        is_cut = np.logical_or.accumulate(past[:, ::-1], axis=1)[:, ::-1]
        windows[:, :-1][is_cut] = before
    return windows


def linear(layer: nn.Module, inputs: Tensor, outputs: slice = slice(None)) -> Tensor:
    """A linear layer without its bias, in float32: chosen outputs of it.

    Where the weight is quantised, the layer itself is run, and its value at zero taken off.
    """
    weight = getattr(layer, "weight", None)
    if type(layer) is nn.Linear and isinstance(weight, Tensor) and weight.dtype in _PLAIN:
        return F.linear(inputs.float(), weight.float()[outputs])
    nothing = first_of(layer(torch.zeros_like(inputs[:1, :1])))
    given, twice = (
        cast(Tensor, first_of(layer(x))).float() - nothing for x in (inputs, 2 * inputs)
    )
    if not torch.allclose(
        twice, 2 * given, rtol=_ROUNDING, atol=_ROUNDING * float(given.abs().max())
    ):
        raise ConfigError(
            f"a {type(layer).__name__} is no linear layer, so the parts of the orders in a value "
            "are not known; name the one that makes the value of the rows (engram.value)"
        )
    return given[..., outputs]


def unit(x: Tensor, eps: float) -> Tensor:
    """A tensor over its root mean square along the last axis, with eps inside the root."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def has_parts(module: nn.Module, parts: tuple[str, ...]) -> bool:
    """Whether a module has submodules of all these dotted names."""
    for part in parts:
        found: Any = module
        for name in part.split("."):
            found = getattr(found, name, None)
        if not isinstance(found, nn.Module):
            return False
    return True


def stream_width(root: Any) -> int | None:
    """D: the width of a token's embedding, where the model can be asked for it."""
    find = getattr(root, "get_input_embeddings", None)
    embedding = None if find is None else find()
    return None if embedding is None else int(embedding.weight.shape[-1])


def integer_tensor(root: nn.Module, name: str) -> Ints | None:
    """A buffer, parameter or plain attribute of that name, of the model or of a module in it."""
    owner, _, leaf = name.rpartition(".")
    for path, module in root.named_modules():
        if owner and path != owner:
            continue
        found = getattr(module, leaf, None)
        if isinstance(found, Tensor) and found.dim() == 1 and not found.is_floating_point():
            return cast(Ints, found.cpu().numpy().astype(np.int64))
    return None
