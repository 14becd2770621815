"""What a training starts from: a preset with drawn weights, or a model that exists.

A backbone says what of it decides a trained model, how large it is, and how it is built; a
training (`engramcka.pipeline.trainings`) adds Engram modules, data, a schedule and a seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from engramcka.config import Config, EngramConfig
from engramcka.data.corpora import corpus_inputs
from engramcka.models.presets import find_preset, preset_engram

if TYPE_CHECKING:
    from engramcka.pipeline.context import Context
    from engramcka.pipeline.sources.base import Checkpoint, Shape
    from engramcka.pipeline.sources.hf import HfSource

_BYTES = 4  # of a hidden-state value and of a parameter: float32
_NUMBERS = ("hidden_size", "num_hidden_layers", "hc_mult", "vocab_size")
_OF_THE_STATES = {"points", "embedding", "streams", "engram"}  # keys that leave weights as they are


class Backbone(ABC):
    """What a training starts from."""

    name: str
    own_tokenizer: bool  # whether it takes the tokenizer that is trained in this run

    @property
    def in_messages(self) -> str:
        """What a message calls it."""
        return self.name

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """JSON: its part of what decides a trained model, its data's included."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Any]:
        """Fields of its config: hidden_size, num_hidden_layers, and what else it has.

        Raises:
            ConfigError: the config cannot be read.
        """

    @property
    def brings_engram(self) -> bool:
        """Whether it has Engram modules of its own."""
        return False

    @property
    @abstractmethod
    def has_experts(self) -> bool:
        """Whether it is a mixture of experts."""

    @abstractmethod
    def shape(self, engram: EngramConfig | None, experts: int | None = None) -> Shape:
        """Its size with Engram modules, and with other numbers of experts a block."""

    @abstractmethod
    def build(
        self, context: Context, engram: EngramConfig | None, seed: int, experts: int | None = None
    ) -> tuple[Any, Any]:
        """A model on the CPU, in float32 and training mode, and its tokenizer.

        Raises:
            StoreError: the tokenizer or the weights are not there.
            ConfigError: a layer that it does not have.
        """


@dataclass(frozen=True, eq=False)
class PresetBackbone(Backbone):
    """A preset, its weights drawn by the training's seed."""

    config: Config
    preset: str

    own_tokenizer = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """The preset's."""
        return self.preset

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The preset and the tokenizer."""
        return {"tokenizer": tokenizer_inputs(self.config), "preset": self.preset}

    @property
    def numbers(self) -> Mapping[str, Any]:
        """The preset's."""
        return find_preset(self.preset).numbers

    @property
    def brings_engram(self) -> bool:
        """As the preset does."""
        return preset_engram(self.preset) is not None

    @property
    def has_experts(self) -> bool:
        """Whether any block is sparse."""
        return bool(self.numbers["first_k_dense_replace"] < self.numbers["num_hidden_layers"])

    def shape(self, engram: EngramConfig | None, experts: int | None = None) -> Shape:
        """Counted on a model without weights."""
        from engramcka.pipeline.sources.trained import shape_of_preset

        return shape_of_preset(self.preset, self.config.data.vocabulary, engram, experts)

    def build(
        self, context: Context, engram: EngramConfig | None, seed: int, experts: int | None = None
    ) -> tuple[Any, Any]:
        """With start weights from the seed."""
        from engramcka.models import build_model

        tokenizer = context.tokenizer
        return build_model(self.preset, engram, tokenizer, seed, experts=experts), tokenizer


Trained = Literal["memory", "all", "lora"]


@dataclass(frozen=True, eq=False)
class LoadedBackbone(Backbone):
    """A model of the config that transformers loads, with its own tokenizer.

    Attributes:
        base: the model.
        trained: which weights learn: those of the Engram modules, all, or these and low-rank
            updates of the others' (LoRA).
        start: of the modules: "identity" adds nothing at first, so that step 0 is the model itself.
        lora_rank: rank of the updates.
    """

    base: HfSource
    trained: Trained
    start: Literal["identity", "paper"]
    lora_rank: int

    own_tokenizer = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """The base model's, and what learns."""
        return f"{self.base.name}-{self.trained}"

    @property
    def in_messages(self) -> str:
        """The base's name in the config."""
        return f"the base {self.base.name!r}"

    @property
    def checkpoint(self) -> Checkpoint:
        """The base's last."""
        return self.base.last

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The base's weights, the text, and what learns."""
        base = self.base.made_from(self.checkpoint)
        lora = {"lora_rank": self.lora_rank} if self.trained == "lora" else {}
        return {
            "base": {key: value for key, value in base.items() if key not in _OF_THE_STATES},
            "text": corpus_inputs(self.base.config.data),
            "train": self.trained,
            "start": self.start,
            **lora,
        }

    @cached_property
    def numbers(self) -> Mapping[str, Any]:
        """The base's config."""
        config = self.base.text_config(self.checkpoint)
        return {name: getattr(config, name) for name in _NUMBERS if hasattr(config, name)}

    @property
    def has_experts(self) -> bool:
        """Not asked: its loads were evened out before, and a frozen router stays as it is."""
        return False

    def shape(self, engram: EngramConfig | None, experts: int | None = None) -> Shape:
        """The base's, and the modules' parameters beside it."""
        from dataclasses import replace

        from engramcka.models.allocation import engram_parameters, table_parameters

        base = self.base.shape(self.checkpoint)
        if engram is None:
            return replace(base, itemsize=_BYTES)
        more, tables = engram_parameters(engram, self.numbers), table_parameters(engram)
        return replace(
            base,
            parameters=base.parameters + more,
            active=base.active + more - tables + engram.d_mem * len(engram.layers),
            itemsize=_BYTES,
            tables=base.tables + tables,
        )

    def build(
        self, context: Context, engram: EngramConfig | None, seed: int, experts: int | None = None
    ) -> tuple[Any, Any]:
        """The base with modules grafted on, all weights that do not learn frozen."""
        from engramcka.models.build import prepare_base

        opened = self.base.open_for_training(self.checkpoint)
        model = prepare_base(
            opened.model,
            opened.tokenizer,
            engram,
            seed,
            trained=self.trained,
            start=self.start,
            lora_rank=self.lora_rank,
        )
        return model, opened.tokenizer


def tokenizer_inputs(config: Config) -> dict[str, Any]:
    """What the tokenizer of all presets trained in a run is made from."""
    return {"data": corpus_inputs(config.data), "vocabulary": config.data.vocabulary}


def check_layers(
    config: Config, path: tuple[str | int, ...], backbone: Backbone, layers: tuple[int, ...]
) -> None:
    """Refuse layers, counted from 1, that a backbone has not.

    Raises:
        ConfigError: names the layer and what is allowed.
    """
    if not layers:
        return
    blocks = int(backbone.numbers["num_hidden_layers"])
    for layer in layers:
        if layer > blocks:
            raise config.error(
                path,
                f"found layer {layer}, {backbone.in_messages} has {blocks} blocks",
                f"allowed: 1 to {blocks}",
            )
