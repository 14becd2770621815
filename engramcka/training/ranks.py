"""The ranks that train one model together: torch.distributed where it runs, else one process."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor

from engramcka.errors import ConfigError


def join(device: str) -> None:
    """Join the process group that the environment names, by gloo on a CPU; nothing without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")  # the state that Trainer will find


def is_distributed() -> bool:
    """Whether several processes train this model."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """(rank, ranks) of this process."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum over the ranks, the same on all of them; the tensor itself where there is one rank."""
    if is_distributed():
        values = values.clone()
        dist.all_reduce(values)
    return values


def first_ranks(values: Tensor, device: torch.device) -> Tensor:
    """The first rank's values, on the given device, by which the ranks talk."""
    sent = values.to(device, copy=True)
    if is_distributed():
        dist.broadcast(sent, 0)
    return sent


def gather_rows(values: Tensor, device: torch.device) -> list[Tensor]:
    """Every rank's (rows, ..) values, by rank, on the values' own device; rows may differ.

    Args:
        values: of one dtype, and of one shape but for the rows, on all ranks.
        device: by which the ranks talk.
    """
    if not is_distributed():
        return [values]
    size = dist.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(size)]
    dist.all_gather(counts, torch.tensor([len(values)], device=device))
    numbers = [int(count) for count in counts]
    sent = torch.zeros(max(numbers), *values.shape[1:], dtype=values.dtype, device=device)
    sent[: len(values)] = values.to(device)
    found = [torch.empty_like(sent) for _ in range(size)]
    dist.all_gather(found, sent)
    pairs = zip(found, numbers, strict=True)
    return [one[:number].to(values.device) for one, number in pairs]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if not is_distributed():
        return flag
    return bool(sum_over_ranks(torch.tensor(int(flag), device=device)))


def barrier() -> None:
    """Wait for the other ranks."""
    if is_distributed():
        dist.barrier()


def batch_size_per_rank(batch_size: int) -> int:
    """Sequences of a batch that each rank takes, so that the whole batch keeps its size.

    Raises:
        ConfigError: the ranks cannot share it out evenly.
    """
    _, count = rank_and_size()
    if batch_size % count:
        raise ConfigError(
            f"training.batch_size = {batch_size} cannot be shared out over {count} ranks; allowed: "
            "a multiple of their number"
        )
    return batch_size // count
