"""Stage sweep: the same model trained with its Engram module at one block after another.

And with its modules where they are but for one part: the ablations of the paper's Figure 5. Every
point but the baseline has as many Engram parameters as the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import Config, EngramConfig, SweepTable, TrainedModel
from engramcka.errors import ConfigError
from engramcka.models.allocation import ABLATIONS, ablated, with_layers
from engramcka.models.presets import find_preset
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.points import Losses, point_pieces
from engramcka.pipeline.units import Unit, unit_of

BASELINE = "baseline"


@dataclass(frozen=True)
class SweepPoints:
    """The trainings of a sweep, one for each seed."""

    layers: dict[int, list[Unit]]  # by insertion layer
    baseline: list[Unit]  # empty if it is not asked for
    variants: dict[str, list[Unit]]  # ablations by their names in a figure
    references: dict[str, list[Unit]]  # other models by their labels

    def named(self) -> dict[str, list[Unit]]:
        """All of them by what a person calls them, in the order they are trained."""
        return {
            **({BASELINE: self.baseline} if self.baseline else {}),
            **{f"layer {layer}": units for layer, units in self.layers.items()},
            **self.variants,
            **{f"reference {name}": units for name, units in self.references.items()},
        }


def sweep_pieces(config: Config, run: Path, sweep: SweepTable, seen: set[str]) -> Iterator[Piece]:
    """The trainings of a sweep that are not there yet, and the result made of them.

    Raises:
        ConfigError: an ablation that the model cannot have.
    """
    points = sweep_points(config, sweep)
    return point_pieces(
        config,
        run,
        points.named(),
        stage="sweep",
        name=sweep.name,
        label=config.label(sweep.model),
        collect=partial(collect_sweep, sweep=sweep, points=points),
        seen=seen,
    )


def sweep_points(config: Config, sweep: SweepTable) -> SweepPoints:
    """The trainings of a sweep."""
    model, engram = _swept(config, sweep)
    numbers = find_preset(model.preset).numbers
    layers = sweep.layers
    if layers == "all":
        layers = tuple(range(1, numbers["num_hidden_layers"] + 1))

    def units(preset: str, engram: EngramConfig | None) -> list[Unit]:
        return [unit_of(config, preset, engram, seed) for seed in config.seeds(sweep)]

    references: dict[str, list[Unit]] = {}
    for name in sweep.references:
        other = config.models[name]
        assert isinstance(other, TrainedModel), "checked when the config was loaded"
        references[config.label(name)] = units(other.preset, other.engram)
    return SweepPoints(
        {layer: units(model.preset, with_layers(engram, numbers, (layer,))) for layer in layers},
        units(model.preset, None) if sweep.baseline else [],
        {
            ABLATIONS[name]: units(model.preset, _ablated(config, sweep, name))
            for name in sweep.ablations
        },
        references,
    )


def _swept(config: Config, sweep: SweepTable) -> tuple[TrainedModel, EngramConfig]:
    model = config.models[sweep.model]
    assert isinstance(model, TrainedModel)
    assert model.engram is not None, "checked when the config was loaded"
    return model, model.engram


def _ablated(config: Config, sweep: SweepTable, name: str) -> EngramConfig:
    model, engram = _swept(config, sweep)
    numbers = find_preset(model.preset).numbers
    try:
        return ablated(engram, numbers, name, sweep.split or ())
    except ConfigError as error:
        path = ("sweep", config.sweep.index(sweep), "ablations")
        raise config.error(path, f"{name!r} of {sweep.model}: {error}") from error


def collect_sweep(
    context: Context, losses: Losses, *, sweep: SweepTable, points: SweepPoints
) -> Any:
    """The losses of a sweep's trainings as a result."""
    import numpy as np

    from engramcka.results import LossSweep

    found = losses.by_point
    references = {
        name: found[f"reference {name}"]
        for name in points.references
        if np.isfinite(losses.mean(f"reference {name}"))
    }
    ends = {}
    if points.baseline:
        intervals = [losses.interval(f"layer {layer}", BASELINE) for layer in points.layers]
        if np.isfinite(intervals).any():
            ends = dict(
                zip(("difference_low", "difference_high"), np.array(intervals).T, strict=True)
            )
    return LossSweep(
        layers=tuple(points.layers),
        loss=np.array([found[f"layer {layer}"] for layer in points.layers]),
        baseline=np.array(found.get(BASELINE, ())),
        seeds=context.config.seeds(sweep),
        label=context.config.label(sweep.model),
        reference={name: losses.mean(f"reference {name}") for name in references},
        reference_losses=references,
        variants={name: losses.mean(name) for name in points.variants},
        variant_losses={name: found[name] for name in points.variants},
        **ends,
        warnings=losses.warnings,
        provenance=losses.provenance,
    )
