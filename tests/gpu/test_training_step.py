"""Waits and kernels of a training step under bf16 autocast, and the dtype of its products.

docs/scaling.md states the bounds.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from counted import CountedStep
from families import tiny
from test_pretended_gpu import GRAFTED, grafted
from torch import nn

from engramcka.config import TrainingTable
from engramcka.training.balancing import ExpertLoads
from engramcka.training.experts import experts_in_autocast
from engramcka.training.optimizer import make_optimizer

KERNELS = {
    "llama": 170,
    "qwen3_moe": 255,
    "deepseek_v3": 340,
    "engramcka_hyper_deepseek": 1310,
    GRAFTED: 1310,
}
"""Most that a step may start, a block, forward and backward, with the optimiser's."""

ON_A_CPU = "engram/documents.py"  # which looks where documents begin where that costs nothing


def step(model: Any, ids: torch.Tensor) -> CountedStep:
    """What the second step of a training counts."""
    options = TrainingTable(steps=10, batch_size=2, balancing="none")
    optimizer, schedule = make_optimizer(model, options)
    loads = ExpertLoads(model, "none", 0.0)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    counted = CountedStep()
    with experts_in_autocast(model):
        for _ in range(2):
            counted = CountedStep()
            with counted:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = model(ids, position_ids=positions, labels=ids, use_cache=False).loss
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                loads.end_step()
    loads.close()
    return counted


@pytest.mark.parametrize("family", KERNELS)
def test_a_training_step_waits_once_and_its_products_are_in_16_bits(family: str) -> None:
    """For where transformers looks whether positions are packed."""
    model: Any = grafted() if family == GRAFTED else tiny(family, 300)
    ids = torch.randint(3, 280, (2, 16), generator=torch.Generator().manual_seed(0))
    counted = step(model.train(), ids)
    blocks = model.config.get_text_config().num_hidden_layers
    waits = {place: count for place, count in counted.waits.items() if ON_A_CPU not in place}
    assert waits == {place: 1 for place in waits if "masking_utils" in place}
    assert counted.kernels <= KERNELS[family] * blocks
    grouped = [dtypes for name, *dtypes in counted.products if name == "_grouped_mm"]
    assert grouped == [[torch.bfloat16] * 2] * bool(family != "llama")
