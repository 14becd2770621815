"""One process trains on one GPU, its own, however many it sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from engramcka.training.loop import _Arguments


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with four GPUs, on which the third is this process's; devices that are set."""
    told = [2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: told[-1])
    monkeypatch.setattr(
        torch.cuda,
        "set_device",
        lambda device: told.append(device if isinstance(device, int) else device.index),
    )
    return told


def test_a_batch_is_not_shared_out_over_the_others(told: list[int], tmp_path: Path) -> None:
    theirs = TrainingArguments(str(tmp_path))
    assert (theirs.n_gpu, theirs.device) == (4, torch.device("cuda:0"))  # what must not be
    told[:] = [2]
    ours = _Arguments(str(tmp_path))
    assert (ours.n_gpu, ours.device) == (1, torch.device("cuda:2"))
    assert ours.train_batch_size == ours.per_device_train_batch_size
    assert told[-1] == 2
