"""Looking into a model with Engram modules: its gates, and what it is without its memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from engramcka.models.engram.module import Engram
from engramcka.models.hooks import PassHooks


def engram_modules(model: nn.Module) -> dict[int, Engram]:
    """The Engram modules of a model by layer, counted from 1; empty if it has none."""
    return {
        int(name.rpartition(".")[2]): module
        for name, module in model.named_modules()
        if isinstance(module, Engram)
    }


@contextmanager
def memory_off(model: nn.Module) -> Iterator[None]:
    """Silence every Engram module: nothing is added to the stream (paper, section 6.3)."""
    modules = engram_modules(model).values()
    before = [module.enabled for module in modules]
    try:
        for module in modules:
            module.enabled = False
        yield
    finally:
        for module, enabled in zip(modules, before, strict=True):
            module.enabled = enabled


@contextmanager
def read_gates(model: nn.Module) -> Iterator[dict[int, list[Tensor]]]:
    """Collect gates: layer (from 1) -> one (B, T, M) float tensor in [0, 1] a forward pass.

    Values at padded positions mean nothing. A module with gating "none" has no gate and is left
    out (paper, figure 7).
    """
    gates: dict[int, list[Tensor]] = defaultdict(list)
    points = {
        layer: module.gate
        for layer, module in engram_modules(model).items()
        if module.gate is not None
    }
    with PassHooks(points, lambda layer, alpha: gates[layer].append(alpha.detach())):
        yield gates
