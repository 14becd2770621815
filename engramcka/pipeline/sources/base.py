"""A model of the config and its checkpoints: what every source of models has to say of them.

Each value of ``source`` in ``[models.NAME]`` is a subclass of `Source` in a file of this package;
`engramcka.pipeline.sources.SOURCES` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engramcka.config import Config
from engramcka.config.memory_tables import MemoryTable
from engramcka.distributed import ALONE, World
from engramcka.errors import StoreError
from engramcka.pipeline.backbones import Backbone
from engramcka.pipeline.identity import data_inputs
from engramcka.pipeline.tasks import refuse_other_inputs
from engramcka.pipeline.trainings import TrainingSpec
from engramcka.stores import layout
from engramcka.stores.open import stored_attributes

if TYPE_CHECKING:
    from engramcka.models.memory_modules import MemoryModule

DRAWN = "drawn"
"""Attribute of an activation store: the samples that were drawn for it."""

# Keys of [models.NAME] that leave the hidden states as they are, but for rounding.
_WITHOUT_EFFECT = {"label", "parallel", "tables"}
_USUAL = {"weights": "trained", "text": "as-is"}  # inputs say these where they are others


@dataclass(frozen=True)
class Shape:
    """What a model's config says about its size; zeros where only its code knows."""

    layers: int = 0
    width: int = 0
    parameters: int = 0
    active: int = 0  # parameters that one token's forward pass uses
    itemsize: int = 0  # bytes a hidden-state value
    vocabulary: int = 0
    tables: int = 0  # parameters of memory tables
    weights: float = 0.0  # bytes of its weights as they are held
    in_files: bool = False  # whether its tables stay in their files, and are not among these

    @property
    def head(self) -> int:
        """Parameters of the LM head."""
        return self.width * self.vocabulary

    @property
    def body(self) -> int:
        """Parameters that a token's pass through the blocks uses."""
        return self.active - self.head


@dataclass(frozen=True)
class OpenModel:
    """A model in eval mode on the run's device."""

    model: Any
    tokenizer: Any
    load_args: dict[str, Any]  # JSON: the arguments that it was loaded with
    as_one: World = ALONE  # the ranks that hold it as one, and run all passes together
    described: MemoryTable | None = None  # its memory modules, where the config describes them
    blocks: str | None = None  # pattern of its blocks' names; None: they are found
    notes: tuple[str, ...] = ()  # what whoever reads the results should know of it, a sentence each

    @property
    def pad_id(self) -> int:
        """Token id to pad with; padding is masked, so any id will do."""
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def memories(self) -> dict[int, MemoryModule]:
        """Its memory modules by block; see `engramcka.models.memory.find_memories`.

        Raises:
            ConfigError: there is none as the config describes it.
        """
        from engramcka.models.memory import find_memories

        return find_memories(self.model, self.described, self.blocks)

    def require_memories(self, in_stream: bool = False) -> None:
        """Refuse memory modules that do not give what is said of them.

        Args:
            in_stream: whether the stream before and after them is asked for.

        Raises:
            ConfigError: see `engramcka.models.memory.require_memories`.
        """
        from engramcka.models.memory import require_memories

        require_memories(self.model, self.memories, self.blocks, in_stream)


class Source(ABC):
    """A model of the config. The defaults are those of a model that runs here, on one device."""

    runs_here: ClassVar[bool] = True  # it reads the text
    training: TrainingSpec | None = None  # of a model trained in this run
    backbone: Backbone | None = None  # what its training starts from
    is_shared_out: bool = False  # whether all ranks hold it as one (tensor parallelism)
    is_spread: bool = False  # whether its blocks are spread over the GPUs that one process sees
    blocks: str | None = None  # pattern of its blocks' names; None: they are found
    import_states: Callable[..., None] | None = None  # fills its store where no model runs

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name = config, name
        self.table: Any = config.all_models[name]

    @cached_property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Its checkpoints, by training step; one where it is no series.

        Raises:
            ConfigError: a series without checkpoints, or without a number to order them by.
        """
        return (Checkpoint(self, self.table, self.name),)

    @property
    def last(self) -> Checkpoint:
        """The last checkpoint, which stands for the model wherever one is asked for."""
        return self.checkpoints[-1]

    def name_of(self, checkpoint: Checkpoint) -> str:
        """What a checkpoint of a series is called where it comes from."""
        return str(checkpoint.step)

    @property
    def label(self) -> str:
        """What it is called on axes and in tables."""
        return self.config.label(self.name)

    @property
    def has_head(self) -> bool:
        """Whether it has an LM head, which a lens reads."""
        return True

    @property
    def may_have_engram(self) -> bool:
        """Whether it has Engram modules, as far as can be known before it is loaded."""
        return True

    def check(self) -> None:  # noqa: B027  (most sources have nothing to refuse)
        """Refuse what can be refused before anything is written.

        Raises:
            ConfigError: names the key and what is allowed.
        """

    def identifies_samples(self) -> bool | None:
        """Whether the rows of its store say which samples they are; None: not known yet."""
        return True

    def samples(self, checkpoint: Checkpoint) -> int | None:
        """How many samples a checkpoint's store is to hold; None: those drawn from the text.

        Raises:
            ConfigError: its files cannot be read.
        """
        if self.config.data.count is not None or not checkpoint.path.exists():
            return None
        drawn = stored_attributes(checkpoint.path).get(DRAWN)  # the text need not be read for it
        return drawn if isinstance(drawn, int) else None

    def sample_table(self) -> Mapping[str, Any] | None:
        """Its samples, column name -> (samples,) array, as far as files tell before it is read.

        Raises:
            StoreError: its files cannot be read.
            DataError: as there.
        """
        return None

    def inputs(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What a checkpoint's hidden states are made from, as JSON; see `Checkpoint.inputs`."""
        return {
            "model": self.made_from(checkpoint),
            "data": data_inputs(self.config.data),
            "seed": self.config.run.seed,
            **{
                key: found
                for key, usual in _USUAL.items()
                if (found := getattr(checkpoint.table, key, usual)) != usual
            },
        }

    def made_from(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The model's part of the inputs: all that decides what it computes."""
        table: dict[str, Any] = checkpoint.table.model_dump(
            mode="json", exclude=_WITHOUT_EFFECT | set(_USUAL)
        )
        return {key: value for key, value in table.items() if key != "engram" or value is not None}

    def refuse_other_states(self, checkpoint: Checkpoint) -> None:
        """Refuse to go on where the store there was made from something else.

        Raises:
            StoreError: names what differs.
        """
        found = stored_attributes(checkpoint.path)[layout.INPUTS]
        refuse_other_inputs(str(checkpoint.path), found, checkpoint.inputs)

    @abstractmethod
    def shape(self, checkpoint: Checkpoint) -> Shape:
        """The size of a checkpoint.

        Raises:
            ConfigError: the config of a model that is to be loaded cannot be read.
        """

    @abstractmethod
    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """Load a checkpoint onto a device, "cpu" or "cuda".

        Raises:
            StoreError: it is not there, or damaged.
        """

    def remarks(self) -> Iterator[str]:
        """What can be told of it before its weights are read, and whoever runs it should know.

        Raises:
            StoreError, ConfigError: it cannot be opened.
        """
        yield from ()

    def sharing(self) -> str:
        """A line that says what each of several ranks holds of it; empty if it is not shared.

        Raises:
            ConfigError: it cannot be shared out.
        """
        return ""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One checkpoint of a model: the model itself, or a step of a series over training."""

    source: Source
    table: Any  # the model's table in the config, of this checkpoint alone
    store: str  # name of its activation store
    step: int | None = None  # training step, in a series
    folder: str = ""  # within the folder of a model trained here; empty for the trained model

    @property
    def model(self) -> str:
        """The model's name in the config."""
        return self.source.name

    @property
    def is_last(self) -> bool:
        """Whether it stands for the model."""
        return self is self.source.last

    @cached_property
    def path(self) -> Path:
        """Its activation store."""
        return Path(self.source.config.run.dir) / layout.ACTIVATIONS / f"{self.store}.zarr"

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What its hidden states are made from, as JSON: equal inputs, equal hidden states."""
        return self.source.inputs(self)

    @property
    def stored_inputs(self) -> Mapping[str, Any]:
        """What its store says it was made from; empty where there is no store."""
        try:
            return dict(stored_attributes(self.path)[layout.INPUTS])
        except (StoreError, KeyError, TypeError, ValueError):
            return {}


def step_store(name: str, step: int) -> str:
    """Name of a checkpoint's store, and of the map of a step: NAME.step-000025."""
    return f"{name}.{layout.step_name(step)}"
