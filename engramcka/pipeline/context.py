"""What the tasks of one run share: its folder, its device, and text that is read once.

Heavy things are made when they are first asked for. The parts of a run directory are made where
they are missing, and refused where something else is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.atomic import remove_scratch
from engramcka.config import Config, DataTable
from engramcka.distributed import ALONE, World
from engramcka.errors import StoreError, code_of
from engramcka.pipeline.trainings import TOKENIZER
from engramcka.stores import layout, manifest
from engramcka.stores.manifest import refuse_unlisted_files
from engramcka.stores.run import check_frame

if TYPE_CHECKING:
    from engramcka.data import Corpus, Samples


@dataclass(frozen=True)
class Context:
    """What the tasks of a run share: its folder, device, ranks, corpus and samples."""

    config: Config
    world: World = ALONE

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.config.run.dir)

    @property
    def results(self) -> Path:
        """The run's results.zarr."""
        return self.run / layout.RESULTS

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer of the models trained here is."""
        return self.run / layout.CHECKPOINTS / TOKENIZER

    @cached_property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        import torch

        wanted = self.config.run.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise self.config.error(("run", "device"), "found 'cuda', torch sees no GPU here")
        return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted

    @cached_property
    def corpus(self) -> Corpus:
        """The text.

        Raises:
            ConfigError: it is not what ``[data]`` says; with the file and the line.
        """
        from engramcka.data import load_corpus

        with self.pointing_at_keys():
            return load_corpus(self.config.data)

    @cached_property
    def samples(self) -> Samples:
        """The places whose hidden states are compared.

        Raises:
            ConfigError: the text holds fewer.
        """
        from engramcka.data import draw_samples

        data, documents = self.config.data, self.corpus.validation
        with self.pointing_at_keys():
            return draw_samples(
                documents,
                count=data.count,
                passage_length=data.context_length,
                seed=self.config.run.seed,
                positions=data.positions,
                per_document=data.per_document,
                all_passages=data.skip_first > 0,
            )

    @contextmanager
    def pointing_at_keys(self) -> Iterator[None]:
        """Errors about a key of [data] with the file and the line where it stands."""
        from engramcka.data import DataKeyError

        try:
            yield
        except DataKeyError as error:
            raise self.config.error(("data", error.key), error.problem, error.allowed) from error

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the models trained here.

        Raises:
            StoreError: it is not there, or damaged.
        """
        from transformers import PreTrainedTokenizerFast

        if not (self.tokenizer_folder / "tokenizer.json").is_file():
            raise StoreError(
                f"{self.tokenizer_folder}: no tokenizer yet; run stage tokenizer first"
            )
        manifest.require_intact(self.tokenizer_folder, self.tokenizer_folder.name)
        refuse_unlisted_files(self.tokenizer_folder)
        return PreTrainedTokenizerFast.from_pretrained(self.tokenizer_folder)


def is_local(data: DataTable) -> bool:
    """Whether the text is on this machine, as far as its path says."""
    return data.source not in ("few-nerd", "hf") or Path(data.place).expanduser().is_dir()


MADE = (layout.ACTIVATIONS, layout.CHECKPOINTS, layout.FIGURES)


def check_parts(run: Path) -> None:
    """Refuse a run directory that is no directory, or has a part that leads out of it.

    Raises:
        StoreError: names the part; nothing was written.
    """
    try:
        if os.path.lexists(run) and not run.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(run))
        check_frame(run)
    except OSError as error:
        raise cannot_write(run, error) from error


def make_folders(run: Path) -> None:
    """Make the parts that are not there; raises StoreError."""
    try:
        for name in MADE:
            (run / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(run, error) from error


def clear(run: Path) -> None:
    """Delete what killed processes left half-written in a run; the caller holds its lock."""
    remove_scratch(run, deep=False)  # it may be a folder of other things too
    for name in (*MADE, layout.RESULTS):
        remove_scratch(run / name)


def cannot_write(run: Path, error: OSError) -> StoreError:
    """The error for a run directory that cannot be written."""
    where = "" if error.filename in (None, str(run)) else f"{error.filename}: "
    return StoreError(
        f"{run}: cannot be written ({where}{error.strerror or error}); choose another run.dir",
        exit_code=code_of(error),
    )
