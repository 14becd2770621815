"""What can be refused about a config before anything is written, beyond its schema."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from engramcka.config import (
    Config,
    DataTable,
    ImportedModel,
    LoadedModel,
    PythonModel,
    TrainedModel,
)
from engramcka.config.model_tables import ModelTable
from engramcka.models.presets import PRESETS, preset_engram, preset_layers
from engramcka.pipeline.members import members
from engramcka.pipeline.stages.importing import tells_samples

ENGRAM_TYPE = "engramcka"  # model_type of a saved model with Engram modules


def check_models(config: Config) -> None:
    """Refuse presets, layers and paths that do not exist.

    Raises:
        ConfigError: names the key and what is allowed.
    """
    for name, model in config.models.items():
        if isinstance(model, LoadedModel):
            _check_loaded(config, name, model)
        if not isinstance(model, TrainedModel):
            continue
        if model.preset not in PRESETS:
            raise config.error(
                ("models", name, "preset"),
                f"no preset {model.preset!r}",
                f"allowed: {', '.join(PRESETS)}",
            )
        layers = model.engram.layers if model.engram else ()
        _check_layers(config, ("models", name, "engram", "layers"), model.preset, layers)
    for kind in ("sweep", "allocation"):
        for index, sweep in enumerate(getattr(config, kind)):
            swept = config.models[sweep.model]
            if isinstance(swept, TrainedModel) and preset_engram(swept.preset) is not None:
                raise config.error(
                    (kind, index, "model"),
                    f"preset {swept.preset} brings Engram modules of its own, so it has no "
                    "baseline",
                    "allowed: a model whose preset is a plain one, with an engram table",
                )
            for key in ("layers", "split"):
                named = getattr(sweep, key, None)
                if isinstance(named, tuple) and isinstance(swept, TrainedModel):
                    _check_layers(config, (kind, index, key), swept.preset, named)


def _check_loaded(config: Config, name: str, model: LoadedModel) -> None:
    for member in members(config, name):
        assert isinstance(member.table, LoadedModel)
        _check_path(config, ("models", name, "path"), member.table.path)
        _check_causal(config, ("models", name, "path"), member.table.path)
    for key, value, package in (
        ("quantization", model.quantization in ("8bit", "4bit"), "bitsandbytes"),
        ("attn_implementation", model.attn_implementation == "flash_attention_2", "flash_attn"),
    ):
        if value and find_spec(package) is None:
            raise config.error(
                ("models", name, key),
                f"found {getattr(model, key)!r}, {package} is not installed here",
                f"install it, or leave {key} out",
            )


def check_pairs(config: Config) -> None:
    """Refuse maps whose sides tell samples apart in different ways.

    Raises:
        ConfigError: names the map and the model.
    """
    for index, cka in enumerate(config.cka):
        told = {
            name: tells_samples(config, name, model) if isinstance(model, ImportedModel) else True
            for name in (cka.y, cka.x)
            for model in [config.models[name]]
        }
        if None not in told.values() and told[cka.y] != told[cka.x]:
            side = "x" if told[cka.y] else "y"
            raise config.error(
                ("cka", index, side),
                f"the rows of {getattr(cka, side)!r} do not say which samples they are",
                f"give models.{getattr(cka, side)} a samples file with document, start and end",
            )


def check_data(config: Config) -> None:
    """Refuse text that is not there, and a corpus with nothing left to train on.

    Files of rows are opened and their first row is read; a data set on the hub is not asked for.

    Raises:
        ConfigError: names the key and what is allowed.
    """
    from engramcka.data import DataKeyError, load_corpus

    data = config.data
    if all(isinstance(model, ImportedModel) for model in config.models.values()):
        return
    if data.held_out == 1.0 and any(isinstance(m, TrainedModel) for m in config.models.values()):
        raise config.error(
            ("data", "validation_share"),
            "all documents are kept for samples, and a model with source = 'train' has none",
            "allowed: a share below 1",
        )
    if data.source in ("few-nerd", "hf"):
        if _only_local(data.place) and not Path(data.place).expanduser().is_dir():
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


def is_local(data: DataTable) -> bool:
    """Whether the text is on this machine, as far as its path says."""
    return data.source not in ("few-nerd", "hf") or Path(data.place).expanduser().is_dir()


def _only_local(path: str) -> bool:
    """Whether a path can be no hub name."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1


def check_memory(config: Config) -> None:
    """Refuse what a lens cannot read: models that do not run here, gates and memory that are none.

    Raises:
        ConfigError: names the key; a model on the hub is only known when it is loaded.
    """
    for index, lens in enumerate(config.lens):
        for name in lens.models:
            if isinstance(config.models[name], ImportedModel):
                raise config.error(
                    ("lens", index, "models"),
                    f"{name!r} has source = 'activations', so there is no LM head",
                    "allowed: models that run here",
                )
    asked = [
        (("lens", index, "memory_off"), lens.memory_off) for index, lens in enumerate(config.lens)
    ]
    asked += [
        (("gates", index, "models"), gates.models) for index, gates in enumerate(config.gates)
    ]
    for path, names in asked:
        for name in names:
            if not _may_have_engram(config.models[name]):
                having = [one for one, model in config.models.items() if _may_have_engram(model)]
                raise config.error(
                    path,
                    f"{name!r} has no Engram modules",
                    f"allowed: {', '.join(having) or 'none of the models here'}",
                )


def _may_have_engram(model: ModelTable) -> bool:
    if isinstance(model, PythonModel):
        return True
    if isinstance(model, ImportedModel):
        return False
    if isinstance(model, TrainedModel):
        return model.engram is not None or preset_engram(model.preset) is not None
    file = Path(model.path) / "config.json"
    if not file.is_file():
        return True
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["model_type"] == ENGRAM_TYPE)
    except (OSError, ValueError, LookupError, TypeError):
        return True  # whoever loads it says what is wrong with it


def _check_path(config: Config, path: tuple[str | int, ...], model: str) -> None:
    """A path that can only be a local one must be a saved model's folder."""
    if _only_local(model) and not (Path(model) / "config.json").is_file():
        raise config.error(
            path, f"no model in {model!r}", "allowed: a folder with a config.json, or a hub name"
        )


def _check_causal(config: Config, path: tuple[str | int, ...], folder: str) -> None:
    """A local model must have been saved as a causal LM; the loader says so too, but later."""
    file = Path(folder).expanduser() / "config.json"
    try:
        names = json.loads(file.read_text(encoding="utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return  # a hub name, or a file that the loader has its own words for
    if not names or any("CausalLM" in name or "LMHead" in name for name in names):
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not set(names) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise config.error(
            path,
            f"{folder!r} was saved as {', '.join(names)}, which is not a causal LM",
            "allowed: a decoder that was saved with its LM head",
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
