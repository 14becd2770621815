"""``source = "hf"``: causal LMs and encoders of transformers, from folders or the hub."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.config import Config, LoadedModel
from engramcka.errors import ConfigError, EngramckaError, StoreError
from engramcka.models.checkpoint_files import ADAPTER, GGUF, check_adapter, in_place_of_a_model
from engramcka.models.kinds import Kind, opens_as
from engramcka.pipeline.identity import content_digest
from engramcka.pipeline.sources.base import Checkpoint, OpenModel, Shape, Source, step_store
from engramcka.pipeline.sources.revisions import NotListed, matching, step_of
from engramcka.pipeline.sources.trained import shape_of

if TYPE_CHECKING:
    from engramcka.models.describing import Described

_MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model", "*.py")
_LOAD_KEYS = (
    "path",
    "revision",
    "dtype",
    "trust_remote_code",
    "parallel",
    "attn_implementation",
    "quantization",
    "tables",
    "adapter",
)
_RANKS_NAMED = 5  # numbers of ranks for which a model's memory is printed


class HfSource(Source):
    """A model that transformers loads; a glob or several revisions are a series over training."""

    table: LoadedModel

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.is_shared_out = self.table.parallel == "tp"
        self.is_spread = self.table.parallel == "auto"
        self._empties: dict[Checkpoint, tuple[Any, int]] = {}

    @property
    def may_have_engram(self) -> bool:
        """Whether its config.json names a model with memory modules; True where it has none."""
        if self.table.engram is not None or not (Path(self.table.path) / "config.json").is_file():
            return True
        from engramcka.models.memory import find_memories

        try:
            return bool(find_memories(self._empty(self.last)[0]))
        except (ConfigError, StoreError):
            return True  # loading says what is wrong with the file

    @cached_property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The one checkpoint, or a series sorted by the last number in their names."""
        if not self.table.is_series:
            return super().checkpoints
        key, names = self._series()
        by_step: dict[int, str] = {}
        for name in names:
            step = step_of(Path(name).name)
            if step is None or step in by_step:
                problem = "has no number" if step is None else f"has the number of {by_step[step]}"
                raise self.config.error(
                    ("models", self.name, key),
                    f"{name} {problem}",
                    "a series is sorted by the number behind 'step' in its names, or the last one",
                )
            by_step[step] = name
        return tuple(
            Checkpoint(
                self,
                self.table.model_copy(update={key: name}),
                step_store(self.name, step),
                step,
            )
            for step, name in sorted(by_step.items())
        )

    def name_of(self, checkpoint: Checkpoint) -> str:
        """Its revision, or its folder's name."""
        return str(checkpoint.table.revision or Path(checkpoint.table.path).name)

    def _series(self) -> tuple[str, list[str]]:
        """The key of the table that names a series, and its value for each checkpoint."""
        if self.table.revisions:
            try:
                return "revision", matching(self.table.path, self.table.revisions)
            except NotListed as error:
                raise self.config.error(("models", self.name, "revision"), str(error)) from error
        place = str(Path(self.table.path).expanduser())
        found = [path for path in glob.glob(place) if (Path(path) / "config.json").is_file()]
        if not found:
            raise self.config.error(
                ("models", self.name, "path"),
                f"no checkpoint matches {self.table.path!r}",
                "allowed: a glob of folders with a config.json",
            )
        return "path", found

    def check(self) -> None:
        """Refuse folders without a model that can be compared, and packages not installed."""
        self._check_revision()
        for checkpoint in self.checkpoints:
            self._check_path(checkpoint.table.path)
            self._check_kind(checkpoint.table.path)
        table = self.table
        for key, is_asked, package in (
            ("quantization", table.quantization in ("8bit", "4bit"), "bitsandbytes"),
            ("attn_implementation", table.attn_implementation == "flash_attention_2", "flash_attn"),
        ):
            if is_asked and find_spec(package) is None:
                raise self.config.error(
                    ("models", self.name, key),
                    f"found {getattr(table, key)!r}, {package} is not installed here",
                    f"install it, or leave {key} out",
                )

        if table.adapter is not None:
            self._check_adapter(table.adapter)

    def _check_revision(self) -> None:
        """A revision of a folder would be passed over, and a series be one checkpoint often."""
        if self.table.revision is not None and is_only_local(self.table.path):
            raise self.config.error(
                ("models", self.name, "revision"),
                f"found {self.table.revision!r}, and path = {self.table.path!r} is a local one",
                "a revision is of a hub name; of local checkpoints path names each, or is a glob",
            )

    def _check_adapter(self, adapter: str) -> None:
        """A local adapter must be there, and what applies it installed."""
        path = ("models", self.name, "adapter")
        if find_spec("peft") is None:
            raise self.config.error(
                path,
                f"found {adapter!r}, peft is not installed here",
                "pip install 'engramcka[peft]'",
            )
        if is_only_local(adapter):
            try:
                check_adapter(adapter)
            except EngramckaError as error:
                raise self.config.error(path, str(error)) from error

    def _check_path(self, path: str) -> None:
        """A path that can only be a local one must be a saved model's folder, or a GGUF file."""
        if not is_only_local(path) or (path.endswith(GGUF) and Path(path).is_file()):
            return
        if not (Path(path) / "config.json").is_file():
            adapter = (Path(path) / ADAPTER).is_file()
            raise self.config.error(
                ("models", self.name, "path"),
                in_place_of_a_model(path, whole=False) if adapter else f"no model in {path!r}",
                "allowed: a folder with a config.json, a .gguf file, or a hub name",
            )

    def _opens_as(self, folder: str) -> Kind:
        """What a local model is opened as, see `opens_as`; "causal" where it is not known yet."""
        file = Path(folder).expanduser() / "config.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            names, kind = found.get("architectures") or [], str(found.get("model_type", ""))
        except (OSError, ValueError, AttributeError):
            return "causal"  # a hub name, or a file that the loader refuses in its own words
        return "causal" if not names else opens_as(names, kind)

    @property
    def has_head(self) -> bool:
        """Whether it has an LM head that a lens can read."""
        kinds = {self._opens_as(one.table.path) for one in self.checkpoints}
        return kinds <= {"causal", "multimodal"}

    def _check_kind(self, folder: str) -> None:
        """A local model must be a causal LM or an encoder; the loader says so too, but later."""
        if not self._opens_as(folder):
            file = Path(folder).expanduser() / "config.json"
            names = json.loads(file.read_text(encoding="utf-8"))["architectures"]
            raise self.config.error(
                ("models", self.name, "path"),
                f"{folder!r} was saved as {', '.join(names)}, neither a causal LM nor an encoder",
                "allowed: a decoder that was saved with its LM head, or an encoder",
            )

    def made_from(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The table and a digest of local files; as stored where the files are gone."""
        made = super().made_from(checkpoint)
        if made["adapter"] is None:
            del made["adapter"]  # stores that were made before there were any do not name it
        stored = checkpoint.stored_inputs.get("model", {})
        digests = {
            "content": content_digest(_files(checkpoint.table.path)),
            "adapter_content": content_digest(_files(checkpoint.table.adapter)),
        }
        known = {key: found or stored.get(key) for key, found in digests.items()}
        return {**made, **{key: found for key, found in known.items() if found}}

    def shape(self, checkpoint: Checkpoint) -> Shape:
        """The size that its config.json says."""
        from engramcka.models.quantized import held_bits

        empty, itemsize = self._empty(checkpoint)
        found = shape_of(empty, itemsize)
        in_files = self.table.tables == "file"
        held = found.parameters - (found.tables if in_files else 0)
        bits = held_bits(empty.config, itemsize, self.table.quantization)
        found = replace(found, weights=held * bits / 8, in_files=in_files)
        return found if self.has_head else replace(found, vocabulary=0)

    def remarks(self) -> Iterator[str]:
        """What its files say of it before its weights are read, those of every checkpoint."""
        from engramcka.models.vocabulary import unknown_ids

        for checkpoint in self.checkpoints:
            with self._described(checkpoint) as found:
                if not Path(found.place).is_dir():
                    continue  # on the hub
                more = unknown_ids(found.empty, found.tokenizer())
                is_whole = self.table.tables == "memory" and self.table.weights == "trained"
                notes = (found.looked_at if is_whole else found.not_looked_at).notes
            for note in (*notes, *more):
                yield f"models.{self.name}: {note}"

    def open(self, checkpoint: Checkpoint, device: str) -> OpenModel:
        """Load it with transformers; see `engramcka.models.loading.load_checkpoint`."""
        from engramcka.models.loading import load_checkpoint

        load_args = {key: getattr(checkpoint.table, key) for key in _LOAD_KEYS}
        if self.table.weights == "random":
            return self._draw(load_args, device)
        found = load_checkpoint(**load_args, device=device)
        return OpenModel(
            found.model,
            found.tokenizer,
            load_args,
            described=self.table.engram,
            notes=found.notes,
        )

    def _draw(self, load_args: dict[str, Any], device: str) -> OpenModel:
        """The same model with weights as before a training."""
        from engramcka.models.drawn import DRAWN_KEYS, draw_checkpoint

        named = f"{self.config.run.seed} {self.name}".encode()
        seed = int.from_bytes(blake2b(named, digest_size=4).digest(), "big")
        load_args = {**{key: load_args[key] for key in DRAWN_KEYS}, "seed": seed}
        found = draw_checkpoint(**load_args, device=device)
        load_args["weights"] = "random"
        described = self.table.engram
        return OpenModel(found.model, found.tokenizer, load_args, described=described)

    def open_for_training(self, checkpoint: Checkpoint) -> OpenModel:
        """Load it whole, in float32, on the CPU, from where a training takes it."""
        from engramcka.models import load_model

        load_args = {key: getattr(checkpoint.table, key) for key in _LOAD_KEYS}
        load_args |= {"dtype": "float32", "parallel": "none", "tables": "memory"}
        model, tokenizer = load_model(**load_args, device="cpu")
        return OpenModel(model, tokenizer, load_args)

    def check_as_base(self, trained: str, lora_rank: int) -> None:
        """Refuse what nothing can be trained from; of a model on the hub that is not known yet.

        Raises:
            ConfigError: as `engramcka.models.build.require_base`.
        """
        from engramcka.models.build import require_base

        with self._described(self.last) as found:
            if Path(found.place).is_dir():
                require_base(found.empty, found.tokenizer(), trained=trained, lora_rank=lora_rank)

    def text_config(self, checkpoint: Checkpoint) -> Any:
        """The config of its decoder.

        Raises:
            ConfigError: it cannot be read.
        """
        return self._empty(checkpoint)[0].config.get_text_config(decoder=True)

    def sharing(self) -> str:
        """With parallel = "tp": how many ranks may hold it, and what each holds of it."""
        if not self.is_shared_out:
            return ""
        from engramcka.models.tensor_parallel import sharding_of

        empty, itemsize = self._empty(self.last)
        try:
            sharding = sharding_of(empty, itemsize)
        except ConfigError as error:
            raise self.config.error(("models", self.name, "parallel"), str(error)) from error
        held = [
            f"{ranks} ranks {sharding.held(ranks) * itemsize / 1e9:.3g} GB"
            for ranks in sharding.allowed[:_RANKS_NAMED]
        ]
        return (
            f"{self.name}: parallel = 'tp', all ranks hold it as one; weights a rank: "
            f"{', '.join(held) or 'it cannot be shared out'} ({sharding.reason})"
        )

    def _empty(self, checkpoint: Checkpoint) -> tuple[Any, int]:
        """A model without weights, made once, and the bytes of one of its numbers."""
        from engramcka.models.loading import weight_bytes

        if checkpoint not in self._empties:
            with self._described(checkpoint) as found:
                itemsize = weight_bytes(found.config, checkpoint.table.dtype)
                self._empties[checkpoint] = found.empty, itemsize
        return self._empties[checkpoint]

    def _described(self, checkpoint: Checkpoint) -> AbstractContextManager[Described]:
        from engramcka.models.describing import described

        table = checkpoint.table
        return described(
            table.path,
            revision=table.revision,
            trust_remote_code=table.trust_remote_code,
            quantization=table.quantization,
            device=None,
        )


def _files(place: str | None) -> list[Path]:
    """The local files of a model or an adapter that decide what it computes."""
    if place is None:
        return []
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    return [file for pattern in _MODEL_FILES for file in path.glob(pattern)]


def is_only_local(path: str) -> bool:
    """Whether a path can be no hub name."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1
