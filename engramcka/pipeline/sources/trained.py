"""``source = "train"``: a model that this run trains from a preset."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Any

from engramcka.config import Config, EngramConfig, TrainedModel
from engramcka.errors import StoreError
from engramcka.models.presets import PRESETS, preset_engram
from engramcka.pipeline.backbones import Backbone, PresetBackbone, check_layers
from engramcka.pipeline.context import Context
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source, step_store
from engramcka.pipeline.trainings import retraining_damaged, training_spec
from engramcka.stores import layout, manifest
from engramcka.stores.manifest import refuse_unlisted_files

_DRAWN_BY = ("engram", "seed")  # inputs of a training that decide what it begins with
_BYTES = 4  # of a hidden-state value and of a parameter: float32


class TrainedSource(Source):
    """A model trained here; with ``training.checkpoints`` a series over its training.

    With ``weights = "random"`` the model that its training begins with, and no training.
    """

    table: TrainedModel
    backbone: Backbone

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.backbone = self._backbone()
        seed = config.run.seed if self.table.seed is None else self.table.seed
        self._spec = training_spec(config, self.backbone, self.table.engram, seed)
        self.training = None if self._is_drawn else self._spec

    @property
    def _is_drawn(self) -> bool:
        return self.table.weights == "random"

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
        if not options.checkpoints or self._is_drawn:
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
        if self._is_drawn:
            made = {key: self._spec.inputs[key] for key in (*self.backbone.inputs, *_DRAWN_BY)}
            return {**made, **self.table.capture}
        kept = {"checkpoint": checkpoint.folder} if checkpoint.folder else {}
        return {**self._spec.inputs, **self.table.capture, **kept}

    def shape(self, checkpoint: Checkpoint) -> Shape:
        """The size of the preset with its Engram modules."""
        return self.backbone.shape(self.table.engram)

    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """Load a checkpoint of the training; see `Source`."""
        from engramcka.models import load_model

        if self._is_drawn:
            return self._draw(device)
        run = Path(self.config.run.dir)
        trained = run / layout.CHECKPOINTS / self._spec.name
        folder = trained / checkpoint.folder
        if not folder.is_dir():
            raise StoreError(
                f"{folder}: model {self.name} is not trained yet; run stage train first"
            )
        with retraining_damaged(trained):
            manifest.require_intact(trained, self._spec.name)
        refuse_unlisted_files(trained)
        load_args: dict[str, Any] = {"path": str(folder), "dtype": "float32"}
        model, tokenizer = load_model(**load_args, device=device)
        return OpenModel(model, tokenizer, load_args)

    def _draw(self, device: str) -> OpenModel:
        """The model that the training begins with."""
        spec = self._spec
        model, tokenizer = self.backbone.build(Context(self.config), spec.engram, spec.seed)
        load_args = {"preset": self.backbone.name, "weights": "random", "seed": spec.seed}
        return OpenModel(model.eval().to(device), tokenizer, load_args)


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
