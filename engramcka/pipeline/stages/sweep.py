"""Stage sweep: the same model trained with its Engram module at one block after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import Config, EngramConfig, SweepTable, TrainedModel
from engramcka.errors import StoreError
from engramcka.models.presets import preset_layers
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.train import unit_piece
from engramcka.pipeline.units import Unit, unit_of
from engramcka.progress import Task
from engramcka.stores import layout, provenance, results


def sweep_pieces(config: Config, run: Path, sweep: SweepTable, seen: set[str]) -> Iterator[Piece]:
    """The trainings of a sweep that are not there yet, and the result made of them."""
    points = sweep_points(config, sweep)
    for layer, units in points.items():
        for unit in units:
            where = f"layer {layer}" if layer else "baseline"
            seed = f", seed {unit.seed}" if len(units) > 1 else ""
            yield from unit_piece(config, run, unit, "sweep", f"{where}{seed}", seen)
    inputs = {
        "points": {str(layer): [unit.name for unit in units] for layer, units in points.items()},
        "label": config.label(sweep.model),
    }
    path = run / layout.RESULTS
    yield Piece(
        stage="sweep",
        name=sweep.name,
        total=len(points),
        unit="points",
        inputs=inputs,
        is_done=lambda: results.read_inputs(path, "sweep", sweep.name) == inputs,
        work=partial(collect_sweep, sweep=sweep, points=points, inputs=inputs),
    )


def sweep_points(config: Config, sweep: SweepTable) -> dict[int, list[Unit]]:
    """Insertion layer -> its training for each seed; layer 0 stands for the baseline."""
    model = config.models[sweep.model]
    assert isinstance(model, TrainedModel)
    assert model.engram is not None, "checked when the config was loaded"
    layers = sweep.layers
    if layers == "all":
        layers = tuple(range(1, preset_layers(model.preset) + 1))
    variants: dict[int, EngramConfig | None] = {0: None} if sweep.baseline else {}
    for layer in layers:
        variants[layer] = model.engram.model_copy(update={"layers": (layer,)})
    return {
        layer: [unit_of(config, model.preset, engram, seed) for seed in config.seeds(sweep)]
        for layer, engram in variants.items()
    }


def collect_sweep(
    context: Context,
    task: Task,
    *,
    sweep: SweepTable,
    points: Mapping[int, list[Unit]],
    inputs: Mapping[str, Any],
) -> None:
    """Gather the validation losses of a sweep's trainings and store them."""
    import numpy as np

    from engramcka.results import LossSweep
    from engramcka.stores import write_sweep
    from engramcka.training import read_record

    losses: dict[int, list[float]] = {}
    facts: dict[str, Any] = {}
    for layer, units in points.items():
        losses[layer] = []
        for unit in units:
            record = read_record(context.run / layout.CHECKPOINTS / unit.name)
            if record is None:
                raise StoreError(f"sweep {sweep.name}: {unit.name} is not trained yet")
            losses[layer].append(record.validation_loss)
            facts[unit.name] = {
                "parameters": record.parameters,
                "tokens": record.tokens,
                "device": record.device,
                "training_loss": record.training_loss,
            }
        task.advance()
    baseline = losses.pop(0, [])
    write_sweep(
        context.results,
        sweep.name,
        LossSweep(
            layers=tuple(losses),
            loss=np.array(list(losses.values())),
            baseline=np.array(baseline),
            seeds=context.config.seeds(sweep),
            label=context.config.label(sweep.model),
            provenance={"trainings": facts, "versions": provenance.versions()},
        ),
        inputs,
    )
