"""``source = "train"``: a model that this run trains from a preset."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Any

from engramcka.config import Config, EngramConfig, TrainedModel
from engramcka.errors import StoreError
from engramcka.models.presets import PRESETS, preset_engram
from engramcka.pipeline.backbones import Backbone, PresetBackbone, check_layers
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source, step_store
from engramcka.pipeline.trainings import TrainingSpec, retraining_damaged, training_spec
from engramcka.stores import layout, manifest
from engramcka.stores.manifest import refuse_unlisted_files

_BYTES = 4  # of a hidden-state value and of a parameter: float32


class TrainedSource(Source):
    """A model trained here; with ``training.checkpoints`` a series over its training."""

    table: TrainedModel
    backbone: Backbone
    training: TrainingSpec

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.backbone = self._backbone()
        self.training = training_spec(config, self.backbone, self.table.engram, config.run.seed)

    def _backbone(self) -> Backbone:
        return PresetBackbone(self.config, self.table.preset)

    @property
    def may_have_engram(self) -> bool:
        """Whether the config or the preset gives it Engram modules."""
        return self.table.engram is not None or preset_engram(self.table.preset) is not None

    @cached_property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """One for each of ``training.checkpoints``, then the trained model."""
        options = self.config.training
        if not options.checkpoints:
            return super().checkpoints
        steps = [
            Checkpoint(self, self.table, step_store(self.name, step), step, layout.step_name(step))
            for step in options.checkpoints
        ]
        return (*steps, Checkpoint(self, self.table, self.name, options.steps))

    def check(self) -> None:
        """Refuse a preset that there is not, and Engram layers that it has not."""
        path, preset = ("models", self.name), self.table.preset
        if preset not in PRESETS:
            raise self.config.error(
                (*path, "preset"), f"no preset {preset!r}", f"allowed: {', '.join(PRESETS)}"
            )
        layers = self.table.engram.layers if self.table.engram else ()
        check_layers(self.config, (*path, "engram", "layers"), self.backbone, layers)

    def made_from(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What it is trained from, and where hidden states are taken."""
        kept = {"checkpoint": checkpoint.folder} if checkpoint.folder else {}
        return {**self.training.inputs, **self.table.capture, **kept}

    def shape(self, checkpoint: Checkpoint) -> Shape:
        """The size of the preset with its Engram modules."""
        return self.backbone.shape(self.table.engram)

    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """Load a checkpoint of the training; see `Source`."""
        from engramcka.models import load_model

        run = Path(self.config.run.dir)
        trained = run / layout.CHECKPOINTS / self.training.name
        folder = trained / checkpoint.folder
        if not folder.is_dir():
            raise StoreError(
                f"{folder}: model {self.name} is not trained yet; run stage train first"
            )
        with retraining_damaged(trained):
            manifest.require_intact(trained, self.training.name)
        refuse_unlisted_files(trained)
        load_args: dict[str, Any] = {"path": str(folder), "dtype": "float32"}
        model, tokenizer = load_model(**load_args, device=device)
        return OpenModel(model, tokenizer, load_args)


@cache
def shape_of_preset(
    preset: str, vocabulary: int, engram: EngramConfig | None, experts: int | None = None
) -> Shape:
    """The size of a preset with Engram modules, or with other numbers of experts a block."""
    from engramcka.models.build import meta_model

    return shape_of(meta_model(preset, vocabulary, engram, experts=experts), _BYTES)


def shape_of(model: Any, itemsize: int) -> Shape:
    """The size of a model of transformers, which may be without weights."""
    from engramcka.models.build import count_parameters

    count = count_parameters(model)
    text = model.config.get_text_config(decoder=True)
    return Shape(
        text.num_hidden_layers,
        text.hidden_size,
        count.total,
        count.active,
        itemsize,
        text.vocab_size,
        count.tables,
        float(count.total * itemsize),
    )
