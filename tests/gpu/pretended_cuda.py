"""What `torch.cuda` says and does where the GPU is pretended; see `pretended.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, Protocol
from unittest.mock import patch

import torch

GPU = torch.device("cuda", 0)


class Counting(Protocol):
    """What waits and emptied caches are told to."""

    total_bytes: int
    emptied: int
    recorded: int
    passed: int

    def wait(self, what: str, event: int | None = None) -> None: ...


class _Stream:
    """Streams of one device, on which everything is done at once."""

    def __init__(self, device: Any = None) -> None:
        self.device = GPU

    def wait_stream(self, other: object) -> None: ...

    def wait_event(self, event: object) -> None: ...

    def record_event(self) -> Any:
        return torch.cuda.Event()

    def synchronize(self) -> None:
        torch.cuda.synchronize()


class _NoGrad:
    """What `torch.inference_mode` does inside: functions that it decorates come here too."""

    @staticmethod
    def enter(mode: Any) -> None:
        mode.before = torch.is_grad_enabled()
        torch.set_grad_enabled(False)

    @staticmethod
    def leave(mode: Any, *error: object) -> None:
        torch.set_grad_enabled(mode.before)


@contextmanager
def pretended_cuda(gpu: Counting) -> Iterator[None]:
    """`torch.cuda` as on a machine with one GPU of this memory, whose waits are counted."""

    class Event:
        """Has passed once the host has waited for it, or for anything that came after it."""

        def __init__(self, **_: object) -> None:
            self.record()

        def record(self, stream: object = None) -> None:
            gpu.recorded += 1
            self._number = gpu.recorded

        def query(self) -> bool:
            return gpu.passed >= self._number

        def synchronize(self) -> None:
            if not self.query():
                gpu.wait("event", self._number)

    def empty_cache() -> None:
        gpu.emptied += 1

    def number(value: Any) -> Callable[..., Any]:
        return lambda *_, **__: value

    properties = SimpleNamespace(
        total_memory=gpu.total_bytes, name="pretended", uuid="pretended", major=9, minor=0,
        multi_processor_count=132,
    )  # fmt: skip
    said = {
        "is_available": True, "current_device": 0, "device_count": 1, "set_device": None,
        "mem_get_info": (gpu.total_bytes, gpu.total_bytes), "memory_reserved": 0,
        "memory_allocated": 0, "max_memory_allocated": 0, "reset_peak_memory_stats": None,
        "get_device_capability": (9, 0), "get_device_name": "pretended",
        "is_bf16_supported": True, "is_initialized": True, "get_device_properties": properties,
        "current_stream": _Stream(), "stream": nullcontext(),
    }  # fmt: skip
    with (
        patch.multiple(torch.cuda, **{name: number(value) for name, value in said.items()}),
        patch.multiple(
            torch.cuda,
            Stream=_Stream,
            Event=Event,
            empty_cache=empty_cache,
            synchronize=lambda *_: gpu.wait("synchronize"),
        ),
        patch.object(torch.inference_mode, "__enter__", _NoGrad.enter),
        patch.object(torch.inference_mode, "__exit__", _NoGrad.leave),
    ):
        yield
