"""``source = "graft"``: a model that exists, with memory put into it and trained in this run."""

from __future__ import annotations

from functools import cached_property

from engramcka.config import GraftedModel
from engramcka.errors import ConfigError
from engramcka.pipeline.backbones import Backbone, LoadedBackbone, check_layers
from engramcka.pipeline.sources.hf import HfSource
from engramcka.pipeline.sources.trained import TrainedSource


class GraftedSource(TrainedSource):
    """A model trained here that starts from another one of the config."""

    table: GraftedModel  # type: ignore[assignment]

    @cached_property
    def base(self) -> HfSource:
        """The model that it starts from."""
        return HfSource(self.config, self.table.base)

    def _backbone(self) -> Backbone:
        table = self.table
        return LoadedBackbone(self.base, table.train, table.start, table.lora_rank)

    @property
    def _is_drawn(self) -> bool:
        return False

    @property
    def may_have_engram(self) -> bool:
        """Whether the config gives it Engram modules."""
        return self.table.engram is not None

    def check(self) -> None:
        """Refuse a base that cannot be, one with memory of its own, and layers that it has not."""
        self.base.check()
        path = ("models", self.name)
        if not self.base.has_head:
            raise self.config.error(
                (*path, "base"), f"{self.table.base!r} has no LM head to train with",
                "allowed: a causal LM",
            )  # fmt: skip
        if self.base.table.adapter is not None:
            raise self.config.error(
                (*path, "base"),
                f"{self.table.base!r} is applied an adapter while it is loaded",
                "allowed: one model; merge the adapter into it (peft's merge_and_unload), save it, "
                "and give that folder",
            )
        self._check_training(path)
        layers = self.table.engram.layers if self.table.engram else ()
        check_layers(self.config, (*path, "engram", "layers"), self.backbone, layers)

    def _check_training(self, path: tuple[str, ...]) -> None:
        from engramcka.models.lora import require_peft

        train = self.table.train
        if train == "lora":
            try:
                require_peft()
            except ConfigError as error:
                raise self.config.error((*path, "train"), str(error)) from error
        try:
            self.base.check_as_base(train, self.table.lora_rank)
        except ConfigError as error:
            raise self.config.error((*path, "base"), f"{self.table.base!r}: {error}") from error
