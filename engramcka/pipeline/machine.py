"""What a run asks of a machine: GPUs that hold the weights of its models, and hours.

From shapes alone, before any weights are read. Hours are those of an H100 at rates that it reaches
in practice; a pass takes as long as its operations and as reading all weights once, one GPU after
the other, which is how ``parallel = "auto"`` works.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engramcka.config import Config
from engramcka.pipeline.estimate import Cost
from engramcka.pipeline.sources import Shape
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.tasks import Task

_GPUS = (24, 48, 80, 141)  # GB of memory
_ROOM = 1.2  # of the weights: activations beside them
_FLOPS = 4e14  # a second, 40 % of an H100's in bfloat16
_BANDWIDTH = 3.35e12  # bytes a second of its memory
_DISK = 1e9  # bytes a second, to read the weights once
_PASS = 65536  # tokens
_LEAST = 60  # seconds; less is not worth a line


def machine(config: Config, tasks: Sequence[Task], costs: Sequence[Cost]) -> Iterator[str]:
    """A line for each model that is loaded, and one for the hours of what is left to do.

    Args:
        config: the run's.
        tasks: its plan.
        costs: of every task, in order.
    """
    spec = RunSpec(config)
    shapes: dict[str, Shape] = {}
    for name, source in spec.models.items():
        shape = source.shape(source.last)
        if shape.weights and not source.training:
            shapes[name] = shape
            yield f"{name}: {_size(shape)}"
    seconds = 0.0
    stores = {
        checkpoint.store: name for name in shapes for checkpoint in spec.models[name].checkpoints
    }
    for task, cost in zip(tasks, costs, strict=True):
        model = stores.get(task.name) or stores.get(task.makes.partition("/")[2])
        if model is not None and cost.flops and not task.is_done():
            seconds += _seconds(shapes[model], cost.flops)
    if seconds >= _LEAST:
        yield (
            f"hours: about {seconds / 3600:.2g} on H100 GPUs for passes through these models, to "
            "read their weights included"
        )


def _size(shape: Shape) -> str:
    held = shape.weights
    text = f"{_count(shape.parameters)} parameters, {_count(shape.active)} active"
    if shape.tables:
        text += f", {_count(shape.tables)} in memory tables"
    text += f"; {_bytes(held)} of weights"
    if shape.in_files:
        text += " beside the tables, which stay in their files"
    return f"{text}: {_gpus(held)}"


def _gpus(held: float) -> str:
    """How many GPUs of which memory hold so many bytes."""
    needed = held * _ROOM / 1e9
    one = next((size for size in _GPUS if needed <= size), None)
    if one is not None:
        return f"one GPU of {one} GB"
    return " or ".join(f"{math.ceil(needed / size)} GPUs of {size} GB" for size in _GPUS[-2:])


def _seconds(shape: Shape, flops: float) -> float:
    passes = math.ceil(flops / (2.0 * max(shape.body, 1) * _PASS))
    return flops / _FLOPS + passes * shape.weights / _BANDWIDTH + shape.weights / _DISK


def _count(parameters: float) -> str:
    size, unit = (1e9, "B") if parameters >= 1e9 else (1e6, "M")
    return f"{parameters / size:.3g}{unit}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
