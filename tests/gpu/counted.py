"""Counts of what a training step would start on a GPU, taken on the CPU.

A pretended GPU (`pretended.py`) has no backward pass: autograd asks CUDA for streams. The
operations of a step are the same ones on both devices, so that they are counted where they are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from pretended import NO_KERNEL, WAITS, place_of
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("_grouped_mm", "mm", "bmm", "addmm")


class CountedStep(TorchDispatchMode):
    """A context manager around a step.

    Attributes:
        kernels: operations that are no views.
        waits: times that the host would wait for a number, by what for and where.
        products: dtypes of the first two factors of matrix products, by (operation, dtypes).
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.waits: Counter[str] = Counter()
        self.products: Counter[tuple[str, torch.dtype, torch.dtype]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        self.kernels += name not in NO_KERNEL
        if name in WAITS:
            self.waits[place_of(name)] += 1
        if name in PRODUCTS:
            factors = [one.dtype for one in args if isinstance(one, torch.Tensor)][-2:]
            if name == "_grouped_mm":
                factors = [args[0].dtype, args[1].dtype]
            self.products[(name, factors[0], factors[1])] += 1
        return func(*args, **(kwargs or {}))
