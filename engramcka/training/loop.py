"""The training loop: transformers' Trainer, what is recorded at each step, and where it stops."""

from __future__ import annotations

import ctypes
import inspect
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engramcka.config import TrainingTable
from engramcka.data import document_positions
from engramcka.errors import Interrupted, TrainingError
from engramcka.plain_text import first_line
from engramcka.training import ranks
from engramcka.training.balancing import ExpertLoads
from engramcka.training.experts import experts_in_autocast
from engramcka.training.optimizer import make_optimizer
from engramcka.training.record import Progress
from engramcka.training.state import WorkFolder, save_weights
from engramcka.training.table_rows import gradients_to_clip, is_finite, share_host_tables

# In what torch.save says when it fails.
_WRITERS = ("inline_container", "iostream error", "PytorchStreamWriter")

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of mallopt(3)
_MALLOC_DEFAULTS = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65_536}
"""glibc's own for a process that has handled large allocations: bytes, bytes, a count."""


@dataclass(frozen=True)
class StepCallbacks:
    """Functions that are called during the training.

    Attributes:
        kept: steps after which ``keep`` is called.
        keep: takes (model, step); returns the validation loss.
        on_step: takes (steps done, a short reading); may raise `Interrupted`.
    """

    kept: Sequence[int]
    keep: Callable[[Any, int], float]
    on_step: Callable[[int, str], None]


class _Sequences(Dataset[dict[str, Tensor]]):
    """(count, length) token ids as the Trainer wants them; labels are the ids themselves.

    Args:
        ids: (count, length).
        end_id: token after which position ids begin again; None to leave them to the model.
    """

    def __init__(self, ids: npt.NDArray[np.int64], end_id: int | None) -> None:
        self._ids = torch.from_numpy(ids)
        self._end_id = end_id

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = self._ids[index]
        found = {"input_ids": ids, "labels": ids}
        if self._end_id is not None:
            positions = document_positions(ids[None].numpy(), self._end_id)[0]
            found["position_ids"] = torch.from_numpy(positions)
        return found


class _Arguments(TrainingArguments):
    """One process trains on one GPU, its own.

    Trainer takes the first that it sees, and shares batches out over all (`nn.DataParallel`).
    """

    @cached_property
    def _setup_devices(self) -> torch.device:
        is_gpu = torch.cuda.is_available() and not self.use_cpu
        own = torch.cuda.current_device() if is_gpu else None
        device: torch.device = super()._setup_devices
        if own is None or ranks.is_distributed():  # a process group gives each rank its own
            return device
        self._n_gpu = 1
        torch.cuda.set_device(own)
        return torch.device("cuda", own)


class _Trainer(Trainer):
    """Trainer that keeps the loss of each step and balances the experts."""

    def __init__(self, loads: ExpertLoads, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._loads = loads
        self._takes_cache = "use_cache" in inspect.signature(arguments["model"].forward).parameters
        self.losses: list[Tensor] = []  # of this rank, since the callback took them

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's loss, which is what is recorded, and what evens out the experts' loads.

        No cache is made, beside which transformers would not keep documents apart; Trainer sets
        that in a model's config, but not in that of a model within it.
        """
        given = {**inputs, "use_cache": False} if self._takes_cache else inputs
        loss: Any = super().compute_loss(model, given, *args, **kwargs)
        self.losses.append(loss.detach())
        extra = self._loads.auxiliary_loss()
        return loss if extra is None else loss + extra

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip as Trainer does; of tables in host memory only rows that have gradients are seen."""
        parameters = gradients_to_clip(model, self.args.device)
        return self.accelerator.clip_grad_norm_(parameters, self.args.max_grad_norm)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a state; torch's own error about a full disk becomes an OSError."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except RuntimeError as error:
            if not any(name in str(error) for name in _WRITERS):
                raise
            raise OSError(
                f"{self.args.output_dir}: a state cannot be written ({first_line(error)})"
            ) from error

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Weights under the names that a resumption looks for."""
        if self.args.should_save:
            save_weights(self.model, Path(output_dir or str(self.args.output_dir)))


class _Steps(TrainerCallback):
    """What happens after each step: readings, models kept, states saved, and a stop."""

    def __init__(
        self, progress: Progress, loads: ExpertLoads, work: WorkFolder, callbacks: StepCallbacks
    ) -> None:
        self._progress, self._loads, self._work, self._callbacks = progress, loads, work, callbacks
        self._started = time.monotonic()
        self._before = progress.seconds
        self._sum = torch.tensor(progress.pending_loss, dtype=torch.float32)
        self.losses: list[Tensor] = []  # the Trainer's
        self.save_every = self.read_every = 1
        self.interrupted: Interrupted | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        progress, callbacks, step = self._progress, self._callbacks, int(state.global_step)
        progress.step = step
        self._loads.end_step()
        self._take_losses(step, args.device)
        if step in callbacks.kept:
            self._check_weights(model, step)
            progress.validation_losses.append((step, callbacks.keep(model, step)))
        ends = step == state.max_steps
        try:
            info = f"loss {progress.training_loss[-1][1]:.3f}" if progress.training_loss else ""
            callbacks.on_step(step, info)
        except Interrupted as error:
            self.interrupted = error
        stops = ranks.any_rank(self.interrupted is not None, args.device)
        if stops and self.interrupted is None:
            self.interrupted = Interrupted("stopped: another rank was")
        control.should_training_stop |= stops
        control.should_save = stops or (step % self.save_every == 0 and not ends)
        if control.should_save:
            self._check_weights(model, step)
            progress.pending_loss = float(self._sum)
            progress.pending_loads = self._loads.pending
            progress.seconds = self.seconds

    def _take_losses(self, step: int, device: torch.device) -> None:
        """Sum the losses as Trainer does, refuse NaN and infinity, record every so many steps."""
        progress = self._progress
        for loss in self.losses:
            self._sum = self._sum.to(loss.device) + loss
            progress.pending_steps += 1
        self.losses.clear()
        reads = step % self.read_every == 0
        if device.type == "cpu" or reads:  # elsewhere reading the loss makes the device wait
            self._check_loss(step)
        if not reads:
            return
        _, count = ranks.rank_and_size()
        mean = float(ranks.sum_over_ranks(self._sum)) / count / progress.pending_steps
        progress.training_loss.append((step, mean))
        self._sum, progress.pending_steps = torch.zeros_like(self._sum), 0
        imbalance = self._loads.read()
        if imbalance is not None:
            progress.expert_imbalance.append((step, imbalance))

    def _check_loss(self, step: int) -> None:
        loss = float(ranks.sum_over_ranks(self._sum))
        if not math.isfinite(loss):
            raise self._diverged(f"the training loss is {loss} at step {step}")

    def _check_weights(self, model: Any, step: int) -> None:
        """A loss may still be a number when the weights after it are not."""
        if not all(is_finite(p.detach()) for p in model.parameters()):
            raise self._diverged(f"the weights are not all numbers after step {step}")

    def _diverged(self, what: str) -> TrainingError:
        kept = "nothing of this model is kept"
        if self._work.state.is_dir():
            kept = f"the last state before, of numbers all, is kept in {self._work.state}"
        return TrainingError(f"{what}; {kept}; a lower training.learning_rate may help")

    @property
    def seconds(self) -> float:
        """Time this training has taken, including the processes before a resumption."""
        return self._before + time.monotonic() - self._started

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        ranks.barrier()  # each has written its random numbers' state
        if args.should_save:
            written = self._work.trainer / f"checkpoint-{state.global_step}"
            self._work.adopt(written, self._progress)
        ranks.barrier()


def fit(
    model: Any,
    sequences: npt.NDArray[np.int64],
    options: TrainingTable,
    *,
    seed: int,
    device: str,
    work: WorkFolder,
    progress: Progress,
    callbacks: StepCallbacks,
    end_id: int | None = None,
) -> float:
    """Train to the last step, from the state in the work folder if there is one.

    Args:
        model: a causal LM.
        sequences: (count, length) token ids.
        options: steps, rates, optimiser, balancing.
        seed: of the order of the sequences.
        device: "cpu" or "cuda".
        work: where states are saved.
        progress: what is done; updated in place.
        callbacks: called on the way.
        end_id: token after which position ids begin again; None to leave them to the model.

    Returns:
        Seconds it took, including those before a resumption.

    Raises:
        TrainingError: the loss is no longer a number.
        Interrupted: raised by ``callbacks.on_step``, after the state was saved.
    """
    loads = ExpertLoads(model, options.balancing, options.balancing_rate)
    steps = _Steps(progress, loads, work, callbacks)
    steps.save_every, steps.read_every = options.save_every, max(1, options.steps // 20)
    arguments = _arguments(options, seed, device, work)
    share_host_tables(model, arguments.device)
    trainer = _Trainer(
        loads,
        model=model,
        args=arguments,
        train_dataset=_Sequences(sequences, end_id),
        optimizers=make_optimizer(model, options),
        callbacks=[steps],
    )
    steps.losses = trainer.losses
    trainer.remove_callback(PrinterCallback)
    if progress.step:
        loads.pending = progress.pending_loads
    try:
        with (
            experts_in_autocast(model),
            freed_memory_kept() if device == "cpu" else nullcontext(),
        ):
            trainer.train(resume_from_checkpoint=str(work.state) if progress.step else None)
    finally:
        loads.close()
    if steps.interrupted is not None:
        raise steps.interrupted
    return steps.seconds


def _arguments(
    options: TrainingTable, seed: int, device: str, work: WorkFolder
) -> TrainingArguments:
    return _Arguments(
        output_dir=str(work.trainer),
        max_steps=options.steps,
        per_device_train_batch_size=ranks.batch_size_per_rank(options.batch_size),
        max_grad_norm=1.0,
        seed=seed,
        data_seed=seed,
        bf16=device == "cuda",
        use_cpu=device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_timeout=7200,  # the others wait while the first rank writes a checkpoint
        ddp_find_unused_parameters=False,  # stacked experts: all of them have gradients
        dataloader_pin_memory=device == "cuda",
    )


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for the next training step on a CPU; give it back at the end.

    glibc returns memory at the end of its heap to the system as soon as some of it is free, and
    maps large allocations one by one. A training step frees nearly all that it took, so the next
    one waits until the system has mapped and zeroed every page again. With Engram tables, whose
    gradients are large, that is a tenth of a step (benchmarks/README.md). Kept memory is
    fragmented, so that the peak is a little higher. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for parameter, value in _MALLOC_DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
