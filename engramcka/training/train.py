"""Training one model: one preset, one seed, one folder that appears when it is whole.

transformers' Trainer does the work; this gives it the data in a fixed order, the optimiser's
parameter groups and a place to report to. Knows nothing of sweeps or of a run's layout.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from engramcka.config import TrainingTable
from engramcka.errors import TrainingError
from engramcka.models import parameter_groups
from engramcka.stores import layout
from engramcka.whole import whole

RECORD = "training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """What training one model gave; losses are means in nats a token."""

    validation_loss: float
    training_loss: tuple[tuple[int, float], ...]  # (step, mean loss since the entry before)
    validation_losses: tuple[tuple[int, float], ...]  # (step, loss) at the steps kept, and the last
    steps: int
    tokens: int
    parameters: int
    device: str
    seconds: float

    def write(self, folder: Path, inputs: dict[str, Any]) -> None:
        """Write the record, with what the model was made from, into a folder."""
        text = json.dumps({**asdict(self), "inputs": inputs}, indent=1)
        (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> TrainingRecord | None:
    """The record of a finished training, or None if there is none in this folder."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    values.pop("inputs", None)
    for name in ("training_loss", "validation_losses"):
        values[name] = tuple((int(step), float(loss)) for step, loss in values[name])
    return TrainingRecord(**values)


class _Sequences(Dataset[dict[str, torch.Tensor]]):
    """(count, length) token ids as the Trainer wants them; labels are the ids themselves."""

    def __init__(self, ids: npt.NDArray[np.int64]) -> None:
        self._ids = torch.from_numpy(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._ids[index], "labels": self._ids[index]}


class _Report(TrainerCallback):
    """Hands each step on, and stops the training when the loss is no longer a number."""

    def __init__(self, on_step: Callable[[int, str], None]) -> None:
        self._on_step = on_step
        self.curve: list[tuple[int, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} at step {state.global_step}; nothing of this model "
                f"is kept; a lower training.learning_rate may help"
            )
        self.curve.append((int(state.global_step), float(loss)))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        info = f"loss {self.curve[-1][1]:.3f}" if self.curve else ""
        self._on_step(int(state.global_step), info)


class _Keep(TrainerCallback):
    """Saves the model, and takes its validation loss, after some steps."""

    def __init__(
        self,
        steps: Sequence[int],
        save: Callable[[Any, Path], None],
        scratch: Path,
        loss: Callable[[Any], float],
    ) -> None:
        self._steps, self._save, self._scratch, self._loss = set(steps), save, scratch, loss
        self.losses: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        step = int(state.global_step)
        if step not in self._steps:
            return
        self.losses.append((step, self._loss(model)))
        self._save(model, self._scratch / layout.step_name(step))


def train_model(
    model: Any,
    tokenizer: Any,
    *,
    training: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    options: TrainingTable,
    kept: Sequence[int] = (),
    seed: int,
    device: str,
    folder: Path,
    inputs: dict[str, Any],
    on_step: Callable[[int, str], None],
) -> TrainingRecord:
    """Train a model and save it, its tokenizer and its record in a folder of its own.

    Args:
        model: a causal LM, its weights drawn.
        tokenizer: saved beside it, so that the folder is a whole model.
        training: (sequences, length) token ids.
        validation: (sequences, length) token ids the validation loss is a mean over.
        options: steps, rates.
        kept: steps after which the model is also saved as it is then, each a whole model in
            ``folder/step-000025``.
        seed: of the order of the sequences.
        device: "cpu" or "cuda".
        folder: does not exist; it appears when all is written, or not at all.
        inputs: JSON, kept in the record: all that the model was made from.
        on_step: called with (steps done, a short reading).

    Raises:
        TrainingError: the loss is no longer a number.
    """
    with whole(folder) as scratch:
        scratch.mkdir(parents=True)

        def save(model: Any, into: Path) -> None:
            model.save_pretrained(into)
            tokenizer.save_pretrained(into)

        report = _Report(on_step)
        keep = _Keep(
            kept,
            save,
            scratch,
            lambda model: validation_loss(model, validation, options.batch_size),
        )
        seconds = _fit(model, training, options, seed, device, scratch, [report, keep])
        loss = validation_loss(model, validation, options.batch_size)
        if not math.isfinite(loss):
            raise TrainingError(f"the validation loss is {loss} after step {options.steps}")
        record = TrainingRecord(
            validation_loss=loss,
            training_loss=tuple(report.curve),
            validation_losses=(*keep.losses, (options.steps, loss)),
            steps=options.steps,
            tokens=options.steps * options.batch_size * training.shape[1],
            parameters=sum(p.numel() for p in model.parameters()),
            device=device,
            seconds=seconds,
        )
        shutil.rmtree(scratch / "trainer", ignore_errors=True)
        save(model, scratch)
        record.write(scratch, inputs)
    return record


def validation_loss(model: Any, sequences: npt.NDArray[np.int64], batch_size: int) -> float:
    """Mean next-token cross-entropy over all sequences, nats a token, summed in float64.

    Args:
        model: a causal LM.
        sequences: (count, length) token ids; each predicts its tokens 2 to length.
        batch_size: sequences a forward pass; the result does not depend on it but for rounding.
    """
    model.eval()
    total: float = 0.0
    for start in range(0, len(sequences), batch_size):
        ids = torch.from_numpy(sequences[start : start + batch_size]).to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        total += float(losses.double().sum())
    return total / (len(sequences) * (sequences.shape[1] - 1))


def _fit(
    model: Any,
    training: npt.NDArray[np.int64],
    options: TrainingTable,
    seed: int,
    device: str,
    scratch: Path,
    callbacks: list[TrainerCallback],
) -> float:
    """Run the Trainer; returns its seconds."""
    groups = parameter_groups(model, options.learning_rate, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, options.warmup_steps, options.steps)
    )
    arguments = TrainingArguments(
        output_dir=str(scratch / "trainer"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        max_grad_norm=1.0,
        seed=seed,
        data_seed=seed,
        bf16=device == "cuda",
        use_cpu=device == "cpu",
        save_strategy="no",
        logging_steps=max(1, options.steps // 20),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_Sequences(training),
        optimizers=(optimizer, schedule),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return float(trainer.train().metrics["train_runtime"])


def _rate(step: int, warmup: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up, then half a cosine down to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    through = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * min(1.0, through)))
