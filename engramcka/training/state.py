"""The state of a running training on disk, from which a killed training resumes bit for bit.

It stands beside the trained model's folder, hidden, until that is complete:

    .TRAINING.training/state/          the last state saved: weights, optimiser, schedule,
                                       random numbers, and the progress
    .TRAINING.training/step-000025/    models kept on the way
    .TRAINING.training/trainer/        where transformers' Trainer writes the next state

A state and a kept model each have a manifest, so that a damaged one is never used. Nothing that is
read here is executed: torch's unpickler knows tensors and plain containers alone
(``weights_only``), and a state with anything else in it is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engramcka.atomic import atomic_path, remove_at_once, remove_scratch
from engramcka.errors import StoreError
from engramcka.own_files import check_folder, read_regular
from engramcka.plain_text import first_line
from engramcka.stores import layout, manifest
from engramcka.stores.manifest import refuse_unlisted_files
from engramcka.training.record import Progress

_PROGRESS, _WEIGHTS = "progress.json", "model.safetensors"
_TRAINER = "trainer_state.json"
_MOST_BYTES = 1 << 30  # of a file of JSON
_OPTIMIZER, _SCHEDULE, _RANDOM = "optimizer.pt", "scheduler.pt", "rng_state*.pth"  # pickles


class WorkFolder:
    """The hidden folder of one training.

    Args:
        trained: the trained model's folder, which does not exist yet.
        inputs: JSON, what the model is made from; a state of other inputs is thrown away.
    """

    def __init__(self, trained: Path, inputs: dict[str, Any]) -> None:
        self.trained = trained
        self.folder = layout.work_folder(trained)
        self.state = self.folder / "state"
        self.trainer = self.folder / layout.TRAINER
        self._inputs = json.loads(json.dumps(inputs))

    def clear(self, kept: Sequence[int]) -> None:
        """Delete what a killed process left half-written, and a state that cannot be resumed.

        Raises:
            StoreError: the folder is a link, or no folder.
        """
        try:
            check_folder(self.folder)
        except OSError as error:
            raise StoreError(f"{self.folder}: {error.strerror}") from error
        shutil.rmtree(self.trainer, ignore_errors=True)
        remove_scratch(self.folder)
        progress = self._read_progress()
        if progress is None or not self._has_models(progress.step, kept):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self, model: Any) -> Progress:
        """The progress that the state holds, or none if there is no state.

        Raises:
            StoreError: there is a state and it is broken, or holds what is not ours.
        """
        progress = self._read_progress()
        if progress is not None:
            self._check(model, progress.step)
            self._check_kept()
        return progress or Progress()

    def _check_kept(self) -> None:
        try:
            for path in sorted(self.folder.glob("step-*")):
                manifest.require_intact(path, f"{self.trained.name}/{path.name}")
                refuse_unlisted_files(path)
        except StoreError as error:
            raise self._refused(error) from error

    def _has_models(self, step: int, kept: Sequence[int]) -> bool:
        return all((self.folder / layout.step_name(k)).is_dir() for k in kept if k <= step)

    def _read_progress(self) -> Progress | None:
        if not os.path.lexists(self.state):
            return None
        try:
            # Checked first: a damaged one is refused, and not mistaken for another config's.
            manifest.require_intact_file(self.state, _PROGRESS, self._name)
            found = json.loads(self._read(_PROGRESS))
            if found["inputs"] != self._inputs:
                return None
            return Progress.from_json(found["progress"])
        except (OSError, StoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._refused(error) from error

    @property
    def _name(self) -> str:
        """The name in the manifest of the state."""
        return f"{self.trained.name}/{self.state.name}"

    def _check(self, model: Any, step: int) -> None:
        """Refuse a state that Trainer would load in part: it ignores weights that are missing."""
        from transformers.trainer_pt_utils import safe_globals

        try:
            there = {path.name for path in self.state.iterdir() if not path.is_symlink()}
            random = {path.name for path in self.state.glob(_RANDOM)}
            wanted = {_PROGRESS, _TRAINER, _WEIGHTS, _OPTIMIZER, _SCHEDULE, *random}
            wanted.add(manifest.PLAIN)
            if there != wanted or not random:
                raise ValueError(f"found {', '.join(sorted(there))}")
            manifest.require_intact(self.state, self._name)
            found = json.loads(self._read(_TRAINER))
            if found["global_step"] != step:
                raise ValueError(f"{_TRAINER} is of step {found['global_step']}, not {step}")
            with safe_open(self.state / _WEIGHTS, framework="pt") as file:
                names = list(file.keys())
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            if shapes != {key: tuple(value.shape) for key, value in model.state_dict().items()}:
                raise ValueError("its weights are another model's")
            with safe_globals():
                for name in (_OPTIMIZER, _SCHEDULE, *random):
                    torch.load(self.state / name, "cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch and safetensors raise many kinds
            raise self._refused(error) from error

    def _read(self, name: str) -> bytes:
        return read_regular(self.state / name, _MOST_BYTES, self.folder)

    def _refused(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.state}: the state of a training cannot be read ({first_line(error)}); "
            f"delete {self.folder} to train from the start"
        )

    def adopt(self, written: Path, progress: Progress) -> None:
        """Replace the state before by the one that Trainer has written, atomically."""
        text = json.dumps({"inputs": self._inputs, "progress": progress.to_json()})
        (written / _PROGRESS).write_text(text, encoding="utf-8")
        manifest.finalize(written, self._name)
        with atomic_path(self.state) as scratch:
            os.replace(written, scratch)

    def finish(self, scratch: Path) -> None:
        """Put the models kept on the way into the folder that is being written."""
        for path in sorted(self.folder.glob("step-*")):
            shutil.copytree(path, scratch / path.name, copy_function=_link)

    def remove(self) -> None:
        """Delete all of it; after a kill half-way the next run clears the rest."""
        if self.folder.exists():
            remove_at_once(self.folder)

    def close(self) -> None:
        """Delete everything but the state and the kept models."""
        shutil.rmtree(self.trainer, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds something, or is gone
            self.folder.rmdir()


def save_weights(model: Any, folder: Path) -> None:
    """Every tensor of a model under its own name, as Trainer reads them back.

    `save_pretrained` gives experts the names of their published checkpoints, which Trainer's own
    resumption passes over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        tied = tensor.data_ptr() in seen
        seen.add(tensor.data_ptr())
        tensors[name] = tensor.clone() if tied else tensor.contiguous()
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


def _link(source: str, target: str) -> None:
    """A second name for a file, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
