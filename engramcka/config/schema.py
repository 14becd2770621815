"""The tables of config.toml as typed, validated objects.

Each field's description is its documentation: docs/config.md is made from it. A key that is not
here is an error. `engramcka.config.loading` reads the file and says where in it a value stands.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from engramcka.config import baselines
from engramcka.config.analysis_tables import GatesTable, LensTable
from engramcka.config.data_table import DataTable
from engramcka.config.map_tables import CkaTable, ComparisonTable, MapOf, MapTable
from engramcka.config.matrix_table import MatrixTable
from engramcka.config.model_tables import (
    ModelTable,
)
from engramcka.config.robustness_table import RobustnessTable, Way
from engramcka.config.tables import ConfigSource, KeyPath, Name, Place, Seed, Table
from engramcka.config.training_tables import (
    AllocationTable,
    RetrainedTable,
    SlotsTable,
    SweepTable,
    TrainingTable,
)
from engramcka.errors import ConfigError


def same_maps(table: ComparisonTable, other: ComparisonTable) -> bool:
    """Whether two tables make the same map of two models, but for its shuffles."""
    return _made(table) == _made(other)


def _made(table: ComparisonTable) -> dict[str, Any]:
    """All that decides a map of two models but its shuffles."""
    shuffles, batches = ("permutations",), ("batch_size", "batches")
    is_batched = table.inputs.get("estimator") == "minibatch"
    left_out = shuffles if is_batched else (*shuffles, *batches)
    inputs = {key: value for key, value in table.inputs.items() if key not in left_out}
    return {**inputs, "measure": table.measured_by}


def _no_url(place: str) -> str:
    if "://" in place:
        raise ValueError(
            f"found {place!r}; a run is written to a local or shared folder, where files can be "
            "locked and renamed: name one, and copy the finished run (docs/remote.md)"
        )
    return place


class RunTable(Table):
    """``[run]``: where the results go."""

    dir: Annotated[Place, AfterValidator(_no_url)] = Field(
        description="folder that holds the run; made if it is not there", min_length=1
    )
    seed: Seed = Field(0, description="seed of every random choice that has no seed of its own")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models run: auto takes a GPU where there is one"
    )
    compression: Literal["none", "zstd"] = Field(
        "none",
        description="of stored hidden states, lossless; zstd: a little less room, much more time",
    )


class Config(Table):
    """A whole config.toml, checked: names that refer to each other are there."""

    run: RunTable = Field(description="where the results go")
    models: dict[Name, ModelTable] = Field({}, description="the models, a table each")
    data: DataTable = Field(DataTable(), description="the text and the positions in it")
    training: TrainingTable = Field(TrainingTable(), description="how models are trained")
    cka: tuple[CkaTable, ...] = Field((), description="CKA maps")
    map: tuple[MapTable, ...] = Field((), description="maps by any measure")
    robustness: tuple[RobustnessTable, ...] = Field(
        (), description="one pair of models by several measures, estimators and samples"
    )
    matrix: tuple[MatrixTable, ...] = Field((), description="all pairs of a set of models")
    lens: tuple[LensTable, ...] = Field((), description="LogitLens curves")
    gates: tuple[GatesTable, ...] = Field((), description="gates of Engram modules")
    sweep: tuple[SweepTable, ...] = Field((), description="layer sweeps")
    allocation: tuple[AllocationTable, ...] = Field((), description="allocation sweeps")
    slots: tuple[SlotsTable, ...] = Field((), description="sweeps over the size of the memory")

    _source: ConfigSource = PrivateAttr(default_factory=ConfigSource)

    def label(self, model: str) -> str:
        """What a model is called on axes and in tables."""
        return self.all_models[model].label or model

    @cached_property
    def all_models(self) -> dict[str, Any]:
        """The tables of all models: those of the config, then those that only baselines need."""
        found: dict[str, Any] = dict(self.models)
        for _, _, table in self.own_maps:
            for one, baseline in product(table.maps, table.baselines):
                for name in (one.y, one.x):
                    made = name in self.models and baselines.changed(self.models, name, baseline)
                    if made:
                        found.setdefault(*made)
        return found

    @property
    def sweeps(self) -> list[tuple[str, int, RetrainedTable]]:
        """All sweeps over trainings: key of the table, index there, table."""
        return [
            (kind, index, table)
            for kind in ("sweep", "allocation", "slots")
            for index, table in enumerate(getattr(self, kind))
        ]

    @property
    def maps(self) -> list[tuple[str, int, ComparisonTable]]:
        """All tables of maps: key of the table, index there, table.

        Of a robustness table every way that is not the map of a table of its own; of baselines
        every map.
        """
        found = self.own_maps
        for key, index, own in list(found):
            tables = [self.baseline_map(own, *of) for of in product(own.maps, own.baselines)]
            found += [(key, index, table) for table in tables if table is not None]
        for index, robustness in enumerate(self.robustness):
            ways = self.ways(robustness)
            found += [("robustness", index, way.table) for way in ways if way.table.part_of]
        found += [("matrix", index, matrix.table) for index, matrix in enumerate(self.matrix)]
        return found

    @property
    def own_maps(self) -> list[tuple[str, int, ComparisonTable]]:
        """Those of ``[[cka]]`` and ``[[map]]``."""
        return [
            (key, index, table)
            for key in ("cka", "map")
            for index, table in enumerate(getattr(self, key))
        ]

    def baseline_map(
        self, table: ComparisonTable, one: MapOf, baseline: str
    ) -> ComparisonTable | None:
        """The table of the map that is a baseline of another; None where it is in that map."""
        if baseline == baselines.TOKENS:
            return None
        if baseline in baselines.KNOWN:
            y, x = f"{one.y}.{baseline}", f"{one.x}.{baseline}"
        else:
            y, x = one.y, baseline
        changes = {"name": f"{one.name}.by-{baseline}", "y": y, "x": x}
        changed = table.model_copy(update={**changes, "baselines": (), "permutations": 0})
        return changed.made_for(f"baseline/{one.name}")

    def ways(self, robustness: RobustnessTable) -> list[Way]:
        """The ways of a robustness table, each with the table of its map.

        That is the one of ``[[cka]]`` or ``[[map]]`` which makes the same map, where there is one:
        shuffles for a null are nothing that a map differs by.
        """
        return [replace(way, **self._same_map(way)) for way in robustness.ways]

    def _same_map(self, way: Way) -> dict[str, Any]:
        for _, _, table in self.own_maps:
            if same_maps(table, way.table):
                for one in table.maps:
                    if (one.y, one.x) == (way.table.y, way.table.x):
                        return {"table": table, "map": one.name}
        return {}

    def place_of(self, table: ComparisonTable) -> tuple[str, int]:
        """Key and index of a table of maps."""
        kind, _, name = table.part_of.partition("/")
        if kind == "baseline":
            return next(
                (key, index)
                for key, index, own in self.own_maps
                if any(one.name == name for one in own.maps)
            )
        if kind:
            return kind, [one.result_name for one in getattr(self, kind)].index(name)
        key = "map" if isinstance(table, MapTable) else "cka"
        return key, getattr(self, key).index(table)

    def seeds(self, sweep: RetrainedTable) -> tuple[int, ...]:
        """The seeds of a sweep: its own, or the run's."""
        return sweep.seeds or (self.run.seed,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML or JSON, defaults written out, keys without a value left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        for table, known in zip(values["map"], self.map, strict=True):
            for key in known.foreign:
                table.pop(key, None)
        for table, matrix in zip(values["matrix"], self.matrix, strict=True):
            for key in matrix.table.foreign:
                table.pop(key, None)
        for model in values["models"].values():
            if model.get("train", "lora") != "lora":  # lora_rank is refused there
                model.pop("lora_rank", None)
        for kind in ("cka", "map", "robustness", "matrix", "lens"):
            for table in values[kind]:
                if not table["where"]:
                    del table["where"]
        return values

    def error(self, path: KeyPath, problem: str, allowed: str = "") -> ConfigError:
        """An error about the value at ``path``, with the file and line where it stands."""
        return self._source.error(path, problem, allowed)
