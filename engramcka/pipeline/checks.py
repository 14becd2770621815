"""What is refused of a valid config before anything is written, and what is only remarked.

Each model checks itself, see `engramcka.pipeline.sources`; here is what concerns several tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from engramcka.config import Config
from engramcka.pipeline.backbones import check_layers
from engramcka.pipeline.sources.hf import is_only_local
from engramcka.pipeline.spec import RunSpec


def check(spec: RunSpec) -> None:
    """Refuse models, text, sweeps, maps, lenses and gates that cannot be.

    Raises:
        ConfigError: names the key and what is allowed.
    """
    for source in spec.models.values():
        source.check()
    _check_sweeps(spec)
    _check_data(spec)
    _check_pairs(spec)
    _check_lens(spec)
    _check_memory(spec)


def _check_sweeps(spec: RunSpec) -> None:
    """A sweep moves a module of the config over the layers of a plain backbone."""
    config = spec.config
    for kind, index, sweep in config.sweeps:
        backbone = spec.trainings[sweep.model].backbone
        if backbone.brings_engram:
            raise config.error(
                (kind, index, "model"),
                f"{backbone.name} brings Engram modules of its own, so it has no baseline",
                "allowed: a model whose preset is a plain one, with an engram table",
            )
        for key in ("layers", "split"):
            layers = getattr(sweep, key, None)
            if isinstance(layers, tuple):
                check_layers(config, (kind, index, key), backbone, layers)


def _check_pairs(spec: RunSpec) -> None:
    """Both sides of a map must identify samples in the same way: by text, or by row."""
    for key, index, cka in spec.config.maps:
        for one in cka.maps:
            known = {name: spec.models[name].identifies_samples() for name in (one.y, one.x)}
            if None in known.values() or known[one.y] == known[one.x]:
                continue
            side: Literal["y", "x"] = "x" if known[one.y] or cka.y is None else "y"
            name = one.x if known[one.y] else one.y
            raise spec.config.error(
                (key, index, cka.key_of(side)),
                f"the rows of {name!r} do not say which samples they are",
                f"give models.{name} a samples file with document, start and end",
            )


def _check_data(spec: RunSpec) -> None:
    """The text must be there, and leave something to train on.

    Files of rows are opened and their first row is read; a data set on the hub is not asked for.
    """
    from engramcka.data import DataKeyError, load_corpus

    config, data = spec.config, spec.config.data
    if not any(source.runs_here for source in spec.models.values()):
        return
    own = [one.backbone for one in spec.models.values() if one.backbone]
    if data.held_out == 1.0 and (spec.trainings or any(one.own_tokenizer for one in own)):
        raise config.error(
            ("data", "validation_share"),
            "all documents are kept for samples, and models that are trained here have none",
            "allowed: a share below 1",
        )
    if data.source in ("few-nerd", "hf"):
        if is_only_local(data.place) and not Path(data.place).expanduser().is_dir():
            raise config.error(
                ("data", "path"),
                f"no folder {data.place!r}",
                "allowed: a data set's folder or a hub name",
            )
    elif data.source != "python-stdlib":
        try:
            load_corpus(data.model_copy(update={"documents": 1, "validation_share": 1.0}))
        except DataKeyError as error:
            raise config.error(("data", error.key), error.problem, error.allowed) from error


def _check_lens(spec: RunSpec) -> None:
    """A lens reads models that run here."""
    for index, lens in enumerate(spec.config.lens):
        for name in lens.models:
            source = spec.models[name]
            if not source.runs_here:
                raise spec.config.error(
                    ("lens", index, "models"),
                    f"{name!r} has source = {source.table.source!r}, so there is no LM head",
                    "allowed: models that run here",
                )
            if not source.has_head:
                raise spec.config.error(
                    ("lens", index, "models"),
                    f"{name!r} is an encoder, so there is no LM head",
                    "allowed: models that were saved as a causal LM",
                )


def _check_memory(spec: RunSpec) -> None:
    """Gates and memory_off need Engram modules; of a model on the hub that is not known yet."""
    config = spec.config
    asked = [
        *((("lens", i, "memory_off"), lens.memory_off) for i, lens in enumerate(config.lens)),
        *((("gates", i, "models"), gates.models) for i, gates in enumerate(config.gates)),
    ]
    for index, gates in enumerate(config.gates):
        _check_other_text(config, index)
        for name in gates.models if gates.frequency else ():
            if spec.models[name].training is None:
                raise config.error(
                    ("gates", index, "frequency"),
                    f"{name!r} is not trained here, so what it was trained on is not known",
                    "allowed: models with source 'train' or 'graft', in a table of their own",
                )
    having = [name for name, source in spec.models.items() if source.may_have_engram]
    for path, names in asked:
        for name in names:
            if name not in having:
                raise config.error(
                    path,
                    f"{name!r} has no Engram modules",
                    f"allowed: {', '.join(having) or 'none of the models here'}",
                )


def _check_other_text(config: Config, index: int) -> None:
    """The other text of a ``[[gates]]`` table is there."""
    from engramcka.data import PYTHON_MANUAL, DataKeyError, other_documents

    place = config.gates[index].other
    if place is None:
        return
    try:
        other_documents(place, 1)
    except DataKeyError as error:
        allowed = (error.allowed or "allowed: text files") + f"; or {PYTHON_MANUAL!r}"
        raise config.error(("gates", index, "other"), error.problem, allowed) from error


def advice(config: Config) -> Iterator[str]:
    """What `engramcka check` remarks about a valid config: a sentence each."""
    trainings = RunSpec(config).trainings.values()
    if not any(training.backbone.has_experts for training in trainings):
        return
    options = config.training
    if options.balancing == "none":
        yield (
            "training.balancing = 'none': nothing evens out the experts' loads, and small routers "
            "soon send all tokens to the same few experts"
        )
    reach = options.balancing_rate * options.steps
    if options.balancing == "loss-free" and reach < 1.0:
        yield (
            f"training.balancing_rate = {options.balancing_rate:g}: in {options.steps} steps the "
            f"bias moves by at most {reach:g}, and experts' scores differ by up to 1, so their "
            f"loads may stay uneven; {1 / options.steps:.1g} or more reaches that far"
        )


def remarks(config: Config) -> Iterator[str]:
    """What the files of models that are to be loaded say of them, a sentence each.

    Raises:
        StoreError, ConfigError: one cannot be opened.
    """
    models = RunSpec(config).models
    for name in config.models:  # what baselines make of them is remarked no second time
        yield from models[name].remarks()
