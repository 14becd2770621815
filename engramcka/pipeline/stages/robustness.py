"""Stage robustness: what the maps of one pair of models, made in many ways, say together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from engramcka.config import RobustnessTable
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import CheckpointPair, RunSpec
from engramcka.pipeline.stages.maps import as_input
from engramcka.pipeline.tasks import Task
from engramcka.progress import TaskProgress
from engramcka.stores import provenance, results


def robustness_task(spec: RunSpec, table: RobustnessTable) -> Task:
    """One task, after those of its maps; done again when one of these changes."""
    ways = spec.config.ways(table)
    pairs = [_pair(spec, way) for way in ways]
    inputs = {
        "layer": table.layer,
        "ways": [
            {"title": way.title, **as_input(spec, way.table, pair)}
            for way, pair in zip(ways, pairs, strict=True)
        ],
    }  # fmt: skip
    return Task(
        stage="robustness",
        name=table.result_name,
        total=1,
        unit="parts",
        inputs=inputs,
        is_done=partial(spec.is_stored, "robustness", table.result_name, inputs),
        work=partial(_collect, table=table, inputs=inputs),
        needs=tuple(f"{way.table.kind}/{way.map}" for way in ways),
    )


def _pair(spec: RunSpec, way: Any) -> CheckpointPair:
    """The checkpoints of a way's map; of a series the last ones."""
    return next(pair for pair in spec.pairs(way.table) if pair.name == way.map)


def _collect(
    context: Context,
    progress: TaskProgress,
    *,
    table: RobustnessTable,
    inputs: Mapping[str, Any],
) -> None:
    """Read the maps and store what they say together.

    Raises:
        ConfigError: x has not the layer that the headline is to speak of.
    """
    from engramcka.results import Robustness

    ways = context.config.ways(table)
    maps = {
        way.title: results.read_result(context.results, way.table.kind, way.map) for way in ways
    }
    layers = next(iter(maps.values())).x_layers
    if table.layer is not None and table.layer not in layers:
        place = ("robustness", context.config.robustness.index(table), "layer")
        problem = f"{context.config.label(table.x)} has no layer {table.layer}"
        raise context.config.error(place, problem, f"allowed: {layers[0]} to {layers[-1]}")
    found = Robustness.of(
        maps,
        [f"{way.table.kind}/{way.map}" for way in ways],
        [way.changes["massive"] for way in ways],
        table.layer,
        {"versions": provenance.versions()},
    )
    results.write_result(context.results, table.result_name, found, inputs)
    progress.update(progress.total, info=f"{len(ways)} ways")
