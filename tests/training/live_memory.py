"""Memory of the tensors that operations make, counted as they come and go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """A context manager; what was there before is not counted, nor what a kernel needs inside.

    Attributes:
        most: bytes of tensors made inside that were alive at once, at most.
        largest: bytes of the largest of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self.largest = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_storage(one).data_ptr() for one in _dense((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for one in _dense(result):
            storage = _storage(one)
            if storage.data_ptr() not in before:
                self._live[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
        self._live = {key: one for key, one in self._live.items() if not one[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return result


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _dense(tree: Any) -> list[Tensor]:
    leaves = tree_leaves(tree)
    return [one for one in leaves if isinstance(one, Tensor) and one.layout == torch.strided]
