"""Training of memory tables in host memory, by the rows that a step looks up.

The gradient of such a table is sparse (`engramcka.models.engram.tables`). Ranks that train one
model exchange those rows, clipping goes over them, and AdamW passes over the table in blocks, each
with a dense gradient of its own size: the update is that of a dense gradient, momentum of rows that
were not looked up included, and no tensor of the table's size is made beside the table and its two
moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.adamw import adamw

from engramcka.models.engram.tables import EngramMemory, sum_by_row
from engramcka.training import ranks

BLOCK = 1 << 20
"""Elements of a table that are updated, checked or sent at a time."""

_LINE = 64  # rows that are whole cache lines of any dtype: a block's bits are then the table's


def blocks(table: Tensor, elements: int = BLOCK) -> tuple[Tensor, ...]:
    """Views that together cover a table, each of whole rows, (rows, width)."""
    rows = max(1, elements // (table.shape[1] * _LINE)) * _LINE
    return table.split(rows)


def is_finite(values: Tensor) -> bool:
    """Whether all of a tensor is numbers; on a CPU looked at in pieces, without a copy's memory."""
    pieces = values.reshape(-1).split(BLOCK) if values.is_cpu else [values]
    return all(bool(piece.isfinite().all()) for piece in pieces)


def share_host_tables(model: nn.Module, device: torch.device) -> None:
    """Leave tables in host memory to `gradients_to_clip`, and give all ranks the first one's.

    DistributedDataParallel would do both by the whole table, and wants all of a model on its GPU.
    Does nothing where one process trains.

    Args:
        model: before DistributedDataParallel takes it.
        device: on which the ranks talk: the one that trains.
    """
    if not ranks.is_distributed():
        return
    names = [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, EngramMemory) and module.on_host
    ]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    for name in names:
        for block in blocks(model.get_parameter(name).detach()):
            block.copy_(ranks.first_ranks(block, device))


def gradients_to_clip(model: nn.Module, device: torch.device) -> Iterator[nn.Parameter]:
    """The parameters of a model, for clipping; of a table by rows, its rows that have gradients.

    These are summed over the ranks first, as DistributedDataParallel does it with all others: their
    mean, the same bits on every rank.

    Args:
        model: after the backward pass of the step's last micro-batch.
        device: on which the ranks talk.
    """
    for parameter in model.parameters():
        if parameter.grad is None or not parameter.grad.is_sparse:
            yield parameter
            continue
        parameter.grad = _mean_over_ranks(parameter.grad.coalesce(), device)
        values = parameter.grad.values()
        rows = nn.Parameter(values, requires_grad=False)
        rows.grad = values  # clipped in place, in the memory of the gradient
        yield rows


def _mean_over_ranks(gradient: Tensor, device: torch.device) -> Tensor:
    """The mean of a coalesced gradient over the ranks, coalesced; summed in the ranks' order."""
    _, count = ranks.rank_and_size()
    if count == 1:
        return gradient
    numbers = ranks.gather_rows(gradient.indices()[0], device)
    values = ranks.gather_rows(gradient.values() / count, device)
    return sum_by_row(torch.cat(numbers), torch.cat(values), gradient.shape)


class TableAdamW(torch.optim.AdamW):
    """torch's AdamW, which also takes the sparse gradients of matrices, and gives the same bits.

    Its state is AdamW's: the number of steps and two moments of the parameter's shape, so that a
    state that was saved by one is loaded by the other.

    Args:
        params: parameters or groups of them.
        elements: of a matrix with a sparse gradient that are updated at a time.
        **options: those of torch's but ``amsgrad``.
    """

    def __init__(self, params: Any, elements: int = BLOCK, **options: Any) -> None:
        super().__init__(params, **options)
        self._elements = elements

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step: matrices with sparse gradients by blocks, then all others as torch does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = {
            parameter: parameter.grad
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        }
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in sparse:
                    self._step_by_blocks(parameter, group)
                    parameter.grad = None  # for torch, which passes it over then
        super().step()
        for parameter, gradient in sparse.items():
            parameter.grad = gradient
        return loss

    def _step_by_blocks(self, table: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=table.device)
            state["exp_avg"] = torch.zeros_like(table, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(table, memory_format=torch.preserve_format)
        assert table.grad is not None
        gradient = table.grad.coalesce()
        numbers, values = gradient.indices()[0], gradient.values()
        parts = [
            blocks(one, self._elements) for one in (table, state["exp_avg"], state["exp_avg_sq"])
        ]
        dense = torch.empty_like(parts[0][0])
        start = 0
        for weight, first, second in zip(*parts, strict=True):
            end = start + len(weight)
            low, high = torch.searchsorted(numbers, torch.tensor([start, end])).tolist()
            grad = dense[: len(weight)].zero_()
            grad.index_copy_(0, numbers[low:high] - start, values[low:high])
            adamw(
                [weight],
                [grad],
                [first],
                [second],
                [],
                [state["step"].clone()],  # which it counts up
                fused=group["fused"],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )
            start = end
        state["step"] += 1
