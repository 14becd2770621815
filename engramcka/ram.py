"""How much memory there is, so that work which needs more is refused before it begins.

The kernel kills a process that takes more than there is, without a message. The machine's memory
and the process's own come from psutil; the limits of its control groups (a batch job's, a
container's) are read here.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

GIB = float(1 << 30)

_NO_MEMORY = (
    "allocate memory",  # of torch's allocator of host memory
    "out of memory",  # of CUDA and HIP, also as an AcceleratorError
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)

CGROUPS = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def total_bytes(device: Any = None) -> float:
    """Memory that this process could ever have, in bytes.

    Args:
        device: a torch device; None for the host.
    """
    if _is_gpu(device):
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    machine = float(psutil.virtual_memory().total)
    return min([machine, *(limit for limit, _ in _cgroups()), _address_space()])


def free_bytes(device: Any = None) -> float:
    """Memory that this process can still have, in bytes."""
    if _is_gpu(device):
        import torch

        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + held)
    import psutil

    machine = float(psutil.virtual_memory().available)
    in_groups = [limit - used for limit, used in _cgroups()]
    addresses = _address_space() - float(psutil.Process().memory_info().vms)
    return max(0.0, min([machine, *in_groups, addresses]))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on a GPU or in the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch's CPU allocator, CUDA libraries and asynchronous errors raise plain RuntimeErrors
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _is_gpu(device: Any) -> bool:
    return device is not None and str(device) != "cpu"


def _cgroups() -> list[tuple[float, float]]:
    """(limit, used) of the control groups that this process is in: a batch job's, a container's.

    What the kernel would drop to make room (files read) does not count as used.
    """
    try:
        mine = CGROUPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in mine:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        second = controllers == ""
        root = CGROUP_ROOT if second else CGROUP_ROOT / "memory"
        names = ("memory.max", "memory.current") if second else (
            "memory.limit_in_bytes", "memory.usage_in_bytes"
        )  # fmt: skip
        here = root / path.lstrip("/")
        for folder in (here, *here.parents):
            limit = _number(folder / names[0])
            if limit is not None:
                used = _number(folder / names[1]) or 0.0
                found.append((limit, max(0.0, used - _droppable(folder))))
            if folder == root:
                break
    return found


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):  # "max"
        return None


def _droppable(folder: Path) -> float:
    try:
        lines = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
    except OSError:
        return 0.0
    facts = {line[0]: float(line[1]) for line in lines if len(line) == 2}
    return facts.get("inactive_file", 0.0) + facts.get("active_file", 0.0)


def _address_space() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return float("inf") if limit == resource.RLIM_INFINITY else float(limit)
