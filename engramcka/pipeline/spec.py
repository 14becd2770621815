"""A config as a run: its folder, its models with their checkpoints, and what is compared.

Everything is worked out once and loads no model. Tasks are made from this, see
`engramcka.pipeline.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from engramcka.config import ComparisonTable, Config, LensTable, PairTable
from engramcka.config.map_tables import MapOf
from engramcka.config.matrix_table import FEWEST, pair_name
from engramcka.config.schema import same_maps
from engramcka.config.tables import plain_name
from engramcka.pipeline.context import Context, is_local
from engramcka.pipeline.sources import Checkpoint, Source, make_source
from engramcka.pipeline.sources.base import step_store
from engramcka.pipeline.trainings import TrainingSpec
from engramcka.stores import layout, results

_SHOWN = 8  # checkpoints of a series that are named at most


@dataclass(frozen=True)
class CheckpointPair:
    """Two checkpoints that are compared, and what the map is called."""

    name: str
    map: str  # name of the map, or of the series that it is a step of
    y: Checkpoint
    x: Checkpoint
    step: int | None = None  # in a series of maps
    steps_named: bool = False  # whether labels say the step of what is not the last checkpoint

    @property
    def models(self) -> tuple[str, str]:
        """Names of the two models, y and x."""
        return self.y.model, self.x.model

    @property
    def labels(self) -> tuple[str, str]:
        """What the two are called on axes, y and x."""
        if self.steps_named:
            return label_of(self.y), label_of(self.x)
        return self.y.source.label, self.x.source.label


def label_of(checkpoint: Checkpoint) -> str:
    """Label of the model, with the step of what is not its last checkpoint."""
    step = "" if checkpoint.is_last else f", step {checkpoint.step}"
    return checkpoint.source.label + step


@dataclass(frozen=True)
class MatrixPair:
    """Two checkpoints of a matrix, and the table and the pair that their map is of."""

    members: tuple[Checkpoint, Checkpoint]
    table: ComparisonTable
    pair: CheckpointPair


@dataclass(frozen=True)
class CurveSpec:
    """A lens curve: what it is called, and of which checkpoint, with its memory or without."""

    name: str
    checkpoint: Checkpoint
    memory: bool

    @property
    def label(self) -> str:
        """Name of the curve in figures: the model's, with the step before the last one."""
        return label_of(self.checkpoint)


@dataclass(frozen=True, eq=False)
class RunSpec:
    """The run that a config describes."""

    config: Config
    context: Context | None = None  # whose text is read where samples are to be counted

    @cached_property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.config.run.dir)

    @cached_property
    def models(self) -> dict[str, Source]:
        """Every model by its name: those of the config, and those that its baselines need."""
        return {name: make_source(self.config, name) for name in self.config.all_models}

    @cached_property
    def trainings(self) -> dict[str, TrainingSpec]:
        """The training of every model that has one, by the model's name."""
        found = {name: self.models[name].training for name in self.config.models}
        return {name: training for name, training in found.items() if training}

    @cached_property
    def samples(self) -> int:
        """Samples that are drawn from the text; 0 where only the run can count them.

        That is so of all samples of a text that is to be fetched, and of all tokens, which each
        model's tokenizer makes.

        Raises:
            ConfigError: the text is not what ``[data]`` says.
        """
        data = self.config.data
        if data.count is not None:
            return data.count
        if data.positions == "all" or not is_local(data):
            return 0
        return len((self.context or Context(self.config)).samples)

    def drawn(self, checkpoint: Checkpoint) -> int:
        """Samples that a checkpoint's store is to hold, but for those left out; 0: see above."""
        found = checkpoint.source.samples(checkpoint)
        return self.samples if found is None else found

    def is_stored(self, kind: str, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a result is there that was made from these inputs."""
        return bool(results.read_inputs(self.run / layout.RESULTS, kind, name) == inputs)

    def notes(self) -> Iterator[str]:
        """What a user should know of the models before they run: the order of every series."""
        for name in self.config.models:
            source = self.models[name]
            names = [source.name_of(checkpoint) for checkpoint in source.checkpoints]
            if len(names) > 1:
                shown = names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "..", names[-1]]
                yield f"models.{name}: {len(names)} checkpoints, by step: {', '.join(shown)}"

    def pairs(self, cka: ComparisonTable) -> list[CheckpointPair]:
        """What the maps of a table compare: in a series, one pair a step, the last of them under
        the map's own name; of a map that another result is made from the last alone, of a matrix
        all that no other table makes.

        Raises:
            ConfigError: two series that share no step.
        """
        if isinstance(cka, PairTable):
            return [one.pair for one in self.matrix_pairs(cka) if one.table.part_of]
        if cka.part_of.startswith("baseline/"):
            (one,) = cka.maps
            y, x = (self.models[name].last for name in (one.y, one.x))
            return [CheckpointPair(one.name, one.name, y, x)]
        pairs = [pair for one in cka.maps for pair in self._pairs(cka, one)]
        return pairs[-1:] if cka.part_of else pairs

    def stored(self, name: str) -> tuple[Checkpoint, ...]:
        """The checkpoints of a model whose hidden states are stored: of a baseline's the last."""
        source = self.models[name]
        return source.checkpoints if name in self.config.models else (source.last,)

    def members(self, table: PairTable) -> list[Checkpoint]:
        """The checkpoints of a matrix, in the order of its models.

        Raises:
            ConfigError: they are too few.
        """
        found = [
            checkpoint
            for name in table.models("x")
            for checkpoint in self.models[name].checkpoints
            if table.checkpoints or checkpoint.is_last
        ]
        if len(found) < FEWEST:
            raise self.config.error(
                (*self.config.place_of(table), "models"),
                f"found {len(found)} checkpoint{'s' * (len(found) != 1)} in all",
                f"a matrix has at least {FEWEST}",
            )
        return found

    def matrix_pairs(self, table: PairTable) -> list[MatrixPair]:
        """Every pair of a matrix, the first with each of the others first.

        A map that a table of maps makes of the two, whichever is on the rows, is taken from there.

        Raises:
            ConfigError: too few checkpoints, or names too long for a map of two.
        """
        made = {
            frozenset((pair.y.store, pair.x.store)): (own, pair)
            for _, _, own in reversed(self.config.own_maps)
            if same_maps(own, table)
            for pair in self.pairs(own)
        }
        found = []
        for y, x in combinations(self.members(table), 2):
            name = pair_name(table.matrix, y.store, x.store)
            try:
                plain_name(name)
            except ValueError as error:
                place = (*self.config.place_of(table), "models")
                raise self.config.error(
                    place, f"a map would be called {name!r}", str(error)
                ) from error
            own = table, CheckpointPair(name, name, y, x, steps_named=True)
            found.append(MatrixPair((y, x), *made.get(frozenset((y.store, x.store)), own)))
        return found

    def _pairs(self, cka: ComparisonTable, one: MapOf) -> list[CheckpointPair]:
        ys, xs = self.models[one.y].checkpoints, self.models[one.x].checkpoints
        if len(ys) == len(xs) == 1 and ys[0].step is None and xs[0].step is None:
            return [CheckpointPair(one.name, one.name, ys[0], xs[0])]
        y_steps = {checkpoint.step: checkpoint for checkpoint in ys}
        x_steps = {checkpoint.step: checkpoint for checkpoint in xs}
        if None in y_steps:
            y_steps = dict.fromkeys(x_steps, ys[0])
        elif None in x_steps:
            x_steps = dict.fromkeys(y_steps, xs[0])
        steps = [step for step in y_steps if step in x_steps and step is not None]
        if not steps:
            raise self.config.error(
                (*self.config.place_of(cka), "x"),
                f"{one.y!r} has steps {_listed(y_steps)}, {one.x!r} has {_listed(x_steps)}",
                "two series are paired by step and need one in common",
            )
        return [
            CheckpointPair(
                one.name if step == steps[-1] else step_store(one.name, step),
                one.name,
                y_steps[step],
                x_steps[step],
                step,
            )
            for step in steps
        ]

    def curves(self, lens: LensTable) -> list[CurveSpec]:
        """The curves of a table; of a series that of the last checkpoint, or of all if asked."""
        found = []
        for name, (model, memory) in lens.curves.items():
            *before, last = self.models[model].checkpoints
            for checkpoint in before if lens.checkpoints else ():
                assert checkpoint.step is not None, "a series has steps"
                found.append(CurveSpec(step_store(name, checkpoint.step), checkpoint, memory))
            found.append(CurveSpec(name, last, memory))
        return found


def _listed(steps: Mapping[int | None, Checkpoint]) -> str:
    return ", ".join(map(str, steps)) or "none"
