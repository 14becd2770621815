"""What can be refused about a config before anything is written, beyond its schema."""

from __future__ import annotations

from pathlib import Path

from engramcka.config import Config, LoadedModel, TrainedModel
from engramcka.models.presets import PRESETS, preset_engram, preset_layers


def check_models(config: Config) -> None:
    """Refuse presets, layers and paths that do not exist.

    Raises:
        ConfigError: names the key and what is allowed.
    """
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
