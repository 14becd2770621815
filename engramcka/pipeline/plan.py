"""A config as pieces of work in the order they are done. Loads neither torch nor models.

Everything that can be refused is refused here, before anything is written: unknown presets,
insertion layers a model has not got, stores of another config in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import CkaTable, Config, EngramConfig, LoadedModel, SweepTable, TrainedModel
from engramcka.data.corpora import corpus_inputs
from engramcka.models.presets import PRESETS, preset_engram, preset_layers
from engramcka.pipeline import work
from engramcka.pipeline.pieces import Piece, refuse_other_inputs
from engramcka.stores import layout, open_activations, results
from engramcka.stores.provenance import digest

FIGURE_FORMATS = ("png", "pdf")


@dataclass(frozen=True)
class Unit:
    """One training: what it is made from and the folder it leaves."""

    preset: str
    engram: EngramConfig | None
    seed: int
    inputs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Folder name: what a person looks for, then a digest of all the rest."""
        module = f"-engram{'+'.join(map(str, self.engram.layers))}" if self.engram else ""
        return f"{self.preset}{module}-seed{self.seed}-{digest(self.inputs)}"


def make_plan(config: Config) -> list[Piece]:
    """The pieces of a run, in order.

    Raises:
        ConfigError: a preset or a layer that does not exist.
        StoreError: something in the run directory was made from another config.
    """
    _check_models(config)
    run = Path(config.run.dir)
    pieces: list[Piece] = []
    if any(isinstance(model, TrainedModel) for model in config.models.values()):
        pieces.append(_tokenizer_piece(config, run))
    units = {
        name: unit_of(config, model.preset, model.engram, config.run.seed)
        for name, model in config.models.items()
        if isinstance(model, TrainedModel)
    }
    seen: set[str] = set()
    for name, unit in units.items():
        pieces += _unit_piece(config, run, unit, "train", name, seen)
    for name in config.models:
        pieces.append(_extract_piece(config, run, name, units.get(name)))
    for cka in config.cka:
        pieces.append(_cka_piece(config, run, cka, units))
    for sweep in config.sweep:
        pieces += _sweep_pieces(config, run, sweep, seen)
    pieces += _figure_pieces(config, run)
    return pieces


def unit_of(config: Config, preset: str, engram: EngramConfig | None, seed: int) -> Unit:
    """The training of one preset, with or without Engram, under one seed."""
    inputs = {
        "tokenizer": tokenizer_inputs(config),
        "preset": preset,
        "engram": engram.model_dump(mode="json") if engram else None,
        "training": config.training.model_dump(mode="json"),
        "seed": seed,
    }
    return Unit(preset, engram, seed, inputs)


def tokenizer_inputs(config: Config) -> dict[str, Any]:
    """What the tokenizer is made from."""
    return {"data": corpus_inputs(config.data), "vocabulary": config.data.vocabulary}


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


def _check_models(config: Config) -> None:
    for name, model in config.models.items():
        if isinstance(model, LoadedModel):
            _check_path(config, ("models", name, "path"), model.path)
            continue
        if model.preset not in PRESETS:
            raise config.error(
                ("models", name, "preset"),
                f"no preset {model.preset!r}",
                f"allowed: {', '.join(PRESETS)}",
            )
        layers = model.engram.layers if model.engram else ()
        _check_layers(config, ("models", name, "engram", "layers"), model.preset, layers)
    for index, sweep in enumerate(config.sweep):
        swept = config.models[sweep.model]
        if isinstance(swept, TrainedModel) and preset_engram(swept.preset) is not None:
            raise config.error(
                ("sweep", index, "model"),
                f"preset {swept.preset} brings Engram modules of its own, so it has no baseline",
                "allowed: a model whose preset is a plain one, with an engram table",
            )
        if sweep.layers != "all" and isinstance(swept, TrainedModel):
            _check_layers(config, ("sweep", index, "layers"), swept.preset, sweep.layers)


def _check_path(config: Config, path: tuple[str | int, ...], model: str) -> None:
    """A path that can only be a local one must be a saved model's folder."""
    is_local = Path(model).exists() or model.startswith((".", "/", "~")) or model.count("/") > 1
    if is_local and not (Path(model) / "config.json").is_file():
        raise config.error(
            path, f"no model in {model!r}", "allowed: a folder with a config.json, or a hub name"
        )


def _check_layers(
    config: Config, path: tuple[str | int, ...], preset: str, layers: tuple[int, ...]
) -> None:
    blocks = preset_layers(preset)
    for layer in layers:
        if layer > blocks:
            raise config.error(
                path,
                f"found layer {layer}, {preset} has {blocks} blocks",
                f"allowed: 1 to {blocks}",
            )


def _tokenizer_piece(config: Config, run: Path) -> Piece:
    folder = run / layout.CHECKPOINTS / "tokenizer"
    inputs = tokenizer_inputs(config)
    found = work.read_tokenizer_inputs(folder)
    if found is not None:
        refuse_other_inputs(str(folder), found, inputs, _MEND)
    return Piece(
        stage="tokenizer",
        name=config.data.source,
        total=1,
        unit="tokenizer",
        inputs=inputs,
        is_done=lambda: work.read_tokenizer_inputs(folder) is not None,
        work=partial(work.make_tokenizer, folder=folder, inputs=inputs),
    )


def _unit_piece(
    config: Config, run: Path, unit: Unit, stage: Any, name: str, seen: set[str]
) -> Iterator[Piece]:
    """The piece that trains a unit, unless one before it does."""
    if unit.name in seen:
        return
    seen.add(unit.name)
    folder = run / layout.CHECKPOINTS / unit.name
    yield Piece(
        stage=stage,
        name=name,
        total=config.training.steps,
        unit="steps",
        inputs=unit.inputs,
        is_done=lambda: (folder / "training.json").is_file(),
        work=partial(work.train_unit, unit=unit, folder=folder),
    )


def _extract_piece(config: Config, run: Path, name: str, unit: Unit | None) -> Piece:
    path = run / layout.ACTIVATIONS / f"{name}.zarr"
    inputs = extract_inputs(config, name, unit)
    if path.exists():
        refuse_other_inputs(str(path), open_activations(path).inputs, inputs, _MEND)
    return Piece(
        stage="extract",
        name=name,
        total=config.data.samples,
        unit="samples",
        inputs=inputs,
        is_done=lambda: path.exists() and not open_activations(path).missing(),
        work=partial(work.extract_model, name=name, unit=unit, path=path, inputs=inputs),
    )


def extract_inputs(config: Config, name: str, unit: Unit | None) -> dict[str, Any]:
    """What a model's hidden states are made from."""
    model = config.models[name]
    if isinstance(model, LoadedModel):
        made_from: Mapping[str, Any] = model.model_dump(mode="json", exclude={"label"})
    else:
        assert unit is not None
        made_from = unit.inputs
    data = config.data.model_dump(mode="json", exclude={"vocabulary"})
    return {
        "model": dict(made_from),
        "data": {**data, **corpus_inputs(config.data)},
        "seed": config.run.seed,
    }


def _cka_piece(config: Config, run: Path, cka: CkaTable, units: Mapping[str, Unit]) -> Piece:
    inputs = {
        "y": extract_inputs(config, cka.y, units.get(cka.y)),
        "x": extract_inputs(config, cka.x, units.get(cka.x)),
        **cka.model_dump(mode="json", exclude={"name", "y", "x"}),
        "labels": [config.label(cka.y), config.label(cka.x)],
    }
    path = run / layout.RESULTS
    return Piece(
        stage="cka",
        name=cka.name,
        total=1,
        unit="parts",
        inputs=inputs,
        is_done=lambda: results.read_inputs(path, "cka", cka.name) == inputs,
        work=partial(work.compute_map, cka=cka, inputs=inputs),
    )


def _sweep_pieces(config: Config, run: Path, sweep: SweepTable, seen: set[str]) -> Iterator[Piece]:
    points = sweep_points(config, sweep)
    for layer, units in points.items():
        for unit in units:
            where = f"layer {layer}" if layer else "baseline"
            seed = f", seed {unit.seed}" if len(units) > 1 else ""
            yield from _unit_piece(config, run, unit, "sweep", f"{where}{seed}", seen)
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
        work=partial(work.collect_sweep, sweep=sweep, points=points, inputs=inputs),
    )


def _figure_pieces(config: Config, run: Path) -> Iterator[Piece]:
    wanted = [("cka", cka.name) for cka in config.cka]
    wanted += [("sweep", sweep.name) for sweep in config.sweep]
    for kind, name in wanted:
        source = run / layout.RESULTS / kind / name / "zarr.json"
        targets = [run / layout.FIGURES / f"{kind}-{name}.{form}" for form in FIGURE_FORMATS]
        yield Piece(
            stage="figures",
            name=f"{kind}-{name}",
            total=len(targets),
            unit="files",
            inputs={},
            is_done=partial(_newer, source, targets),
            work=partial(work.draw, kind=kind, name=name, targets=targets),
        )


def _newer(source: Path, targets: list[Path]) -> bool:
    """Whether every target is there and no older than its source."""
    if not source.is_file() or not all(target.is_file() for target in targets):
        return False
    return min(target.stat().st_mtime_ns for target in targets) >= source.stat().st_mtime_ns


_MEND = "choose another run.dir, or delete it to make it anew"
