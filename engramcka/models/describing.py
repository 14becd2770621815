"""What can be told of a checkpoint before its weights are read: its config, its shapes, its names.

transformers reads a checkpoint onto the meta device from the headers of its files, so that what is
missing, of another shape or left over is known in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

import engramcka.models.engram  # noqa: F401  (registers our architectures)
from engramcka.errors import ConfigError, StoreError
from engramcka.models import gguf_files
from engramcka.models.architectures import empty_model, loader, read_config
from engramcka.models.checkpoint_files import (
    ADAPTER,
    check_files,
    check_size,
    in_place_of_a_model,
    in_short,
)
from engramcka.models.kinds import kinds_of
from engramcka.models.loading_report import judge, missing_weights
from engramcka.models.quantized import reading_options


@dataclass(frozen=True)
class Look:
    """What the headers of a checkpoint's files say.

    Attributes:
        opener: what has the ``from_pretrained`` that opens it.
        notes: what is to be known of it, a sentence each.
        elsewhere: names of weights that another class would read, and which text does not need.
    """

    opener: Any
    notes: tuple[str, ...] = ()
    elsewhere: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Described:
    """A checkpoint of which the config was read.

    Attributes:
        name: what it is called in messages: its path, or its name on the hub.
        place: where transformers finds it.
        shared: options of all that is read from there.
        config: its config.
        reading: options with which its weights are read, where they are quantised.
        notes: what is known of it so far, see `engramcka.models.loading.Loaded`.
        trust_remote_code: whether its own code may run.
    """

    name: str
    place: str
    shared: dict[str, Any]
    config: Any
    reading: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trust_remote_code: bool = False

    @cached_property
    def empty(self) -> PreTrainedModel:
        """The model on the meta device; raises as `engramcka.models.architectures.empty_model`."""
        return empty_model(self.name, self.config, self.trust_remote_code)

    @property
    def is_quantized(self) -> bool:
        """Whether its weights are stored in fewer bits."""
        return bool(self.reading) or getattr(self.config, "quantization_config", None) is not None

    @property
    def can_be_looked_at(self) -> bool:
        """Whether the headers of its files tell what reading it would say."""
        folder = Path(self.place)
        has_own_code = self.trust_remote_code and getattr(self.config, "auto_map", None)
        is_whole = bool(self.reading) or not self.is_quantized
        is_safe = folder.is_dir() and any(folder.glob("*.safetensors"))
        return is_safe and is_whole and not has_own_code and "gguf_file" not in self.shared

    @cached_property
    def looked_at(self) -> Look:
        """What opens it, and what is to be known of it.

        Where a checkpoint may be of two classes, it is the first whose weights are all there.

        Raises:
            StoreError: as `engramcka.models.loading_report.judge`, or the files are damaged.
            ConfigError: it is neither a causal LM nor an encoder.
        """
        kinds = kinds_of(self.config)
        if not self.can_be_looked_at:
            return self.not_looked_at
        found: list[tuple[Any, Any, Any]] = []
        for kind in kinds:
            try:
                opener = loader(self.name, self.config, kind, self.trust_remote_code)
                model, report = self._read_headers(opener)
            except (ConfigError, StoreError):
                if not found:
                    raise
                break
            found.append((opener, model, report))
            if not missing_weights(report) and not report["unexpected_keys"]:
                break
        chosen = next((one for one in found if not missing_weights(one[2])), found[0])
        opener, model, report = chosen
        unread = [frozenset(map(str, one["unexpected_keys"])) for _, _, one in found]
        elsewhere = unread[0] - unread[-1] if chosen is found[0] else frozenset()
        notes = judge(self.name, model, report, elsewhere)
        return Look(opener, self.notes + notes, elsewhere)

    @property
    def not_looked_at(self) -> Look:
        """The same without a look at its files."""
        kind = kinds_of(self.config)[0]
        return Look(loader(self.name, self.config, kind, self.trust_remote_code), self.notes)

    def _read_headers(self, opener: Any) -> Any:
        """A model without weights, and transformers' report of what it would read."""
        try:
            return opener.from_pretrained(
                self.place,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **self.shared,
                **self.reading,
            )
        except Exception as error:  # of whatever stands in somebody's files
            raise StoreError(
                f"{self.name}: the model cannot be loaded ({in_short(error)})"
            ) from error

    def tokenizer(self) -> Any:
        """Its fast tokenizer.

        Raises:
            StoreError: it cannot be loaded.
            ConfigError: as `require_offsets`.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.place, use_fast=True, **self.shared)
        except Exception as error:
            raise StoreError(
                f"{self.name}: its tokenizer cannot be loaded ({in_short(error)})"
            ) from error
        require_offsets(self.name, tokenizer)
        return tokenizer


@contextmanager
def described(
    path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization: str = "none",
    device: str | None = "cpu",
) -> Iterator[Described]:
    """Read what a checkpoint says of itself; what is found holds in the `with` block alone.

    Args:
        path, revision, trust_remote_code, quantization: as in
            `engramcka.models.loading.load_checkpoint`.
        device: where its weights are to go; None where they are not read on this machine.

    Raises:
        StoreError: nothing there, or files that no checkpoint should have.
        ConfigError: neither a causal LM nor an encoder, or it needs what is not here.
    """
    if gguf_files.is_gguf(path):
        with gguf_files.alone(path, quantization) as place:
            shared: dict[str, Any] = {"gguf_file": gguf_files.NAME}
            config = gguf_files.read_config(path, place)
            reading, note = gguf_files.reading()
            yield Described(path, place, shared, config, reading, (note,))
        return
    _check_local(path)
    check_files(path, trust_remote_code)
    _check_no_adapter(path, revision)
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_config(path, path, **shared)
    reading, note = reading_options(
        path,
        config,
        device=device,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
    )
    notes = (note,) if note else ()
    found = Described(path, path, shared, config, reading, notes, trust_remote_code)
    if not trust_remote_code:
        check_size(path, found.empty)
    yield found


def require_offsets(where: str, tokenizer: Any) -> None:
    """Refuse a tokenizer that gives no character offsets.

    Raises:
        ConfigError: it is not a fast tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{where}: {type(tokenizer).__name__} is not a fast tokenizer and gives no character "
            "offsets, so tokens cannot be matched to text; convert it to a tokenizer.json"
        )


def _check_local(path: str) -> None:
    """A path that can only be a local one must be there and be a model."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            if (folder / ADAPTER).is_file():
                raise ConfigError(in_place_of_a_model(path, whole=False))
            raise StoreError(f"{path}: no config.json in this folder; give a saved model's folder")
    elif folder.exists():
        raise StoreError(
            f"{path}: a file; give the folder that a model was saved in, or a GGUF file"
        )
    elif folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise StoreError(f"{path}: no such folder; give a saved model's folder or a hub name")


def _check_no_adapter(path: str, revision: str | None) -> None:
    """A hub name must not be of an adapter: transformers would fetch the base that it names."""
    if Path(path).is_dir():
        return
    try:
        found = find_adapter_config_file(path, revision=revision)
    except Exception:  # of the network; reading the config says it
        return
    if found is not None:
        raise ConfigError(in_place_of_a_model(path, whole=False))
