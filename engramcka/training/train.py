"""Training one model: one preset, one seed, one folder that appears when it is complete."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.atomic import atomic_path
from engramcka.config import TrainingTable
from engramcka.data import document_positions
from engramcka.errors import DataError, TrainingError
from engramcka.models.lora import is_update, merged_weights
from engramcka.stores import layout, manifest
from engramcka.training import ranks
from engramcka.training.loop import StepCallbacks, fit
from engramcka.training.record import Progress, TrainingRecord
from engramcka.training.state import WorkFolder


def train_model(
    model: Any,
    tokenizer: Any,
    *,
    training: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    validation_documents: npt.NDArray[np.int64] | None = None,
    options: TrainingTable,
    kept: Sequence[int] = (),
    seed: int,
    device: str,
    folder: Path,
    inputs: dict[str, Any],
    on_step: Callable[[int, str], None],
    keep_model: bool = True,
) -> TrainingRecord:
    """Train a model and save it, its tokenizer and its record in a folder of its own.

    A training that was stopped or killed resumes from its last state (`engramcka.training.state`);
    on a CPU it ends with the same bits. Where the environment names ranks (torchrun's variables),
    they train the model together, ``options.batch_size`` shared out over them; all of them call
    this with the same arguments, and the first writes.

    Args:
        model: a causal LM, its weights drawn or loaded; those that need no gradient stay as they
            are, and if that is all of them the model is only measured.
        tokenizer: saved beside it, so that the folder is a whole model.
        training: (sequences, length) token ids.
        validation: (sequences, length) token ids the validation loss is a mean over.
        validation_documents: (sequences,) which document each is from; kept in the record.
        options: steps, rates.
        kept: steps after which the model is also saved as it is then, each a whole model in
            ``folder/step-000025``.
        seed: of the order of the sequences.
        device: "cpu" or "cuda".
        folder: appears when all is written, or not at all; an older one is replaced.
        inputs: JSON, kept in the record: all that the model was made from.
        on_step: called with (steps done, a short reading); what it raises stops the training, after
            its state is saved if that is `Interrupted`.
        keep_model: save the trained model; else its record alone.

    Raises:
        DataError: no validation text, or token ids that the model has no rows for.
        TrainingError: the loss is no longer a number; the last good state is kept.
        StoreError: the state of an earlier process is broken.
    """
    _check_data(model, tokenizer, training, validation)
    end_id = end_of_documents(model, tokenizer, options)
    work = WorkFolder(folder, inputs)
    ranks.join(device)
    first = ranks.rank_and_size()[0] == 0

    def save(model: Any, into: Path) -> None:
        model.save_pretrained(into, state_dict=merged_weights(model))
        tokenizer.save_pretrained(into)

    def keep(model: Any, step: int) -> float:
        loss = validation_loss(model, validation, options.batch_size, end_id)
        if first:
            name = layout.step_name(step)
            with atomic_path(work.folder / name) as scratch:
                save(model, scratch)
                manifest.finalize(scratch, f"{folder.name}/{name}")
        return loss

    if first:
        work.clear(kept)
    ranks.barrier()
    progress = work.begin(model)
    try:
        if progress.step:
            on_step(progress.step, f"goes on after step {progress.step}")
        callbacks = StepCallbacks(kept, keep, on_step)
        seconds = 0.0
        if any(parameter.requires_grad for parameter in model.parameters()):
            seconds = fit(
                model, training, options, seed=seed, device=device,
                work=work, progress=progress, callbacks=callbacks, end_id=end_id,
            )  # fmt: skip
        else:
            model.to(device)
        record = _record(
            options,
            progress,
            sequence_losses(model, validation, options.batch_size, end_id),
            tokens=options.steps * options.batch_size * training.shape[1],
            parameters=sum(
                p.numel() for name, p in model.named_parameters() if not is_update(name)
            ),
            device=device,
            seconds=seconds,
            sequence_documents=(
                () if validation_documents is None else tuple(validation_documents.tolist())
            ),
        )
        if first:
            with atomic_path(folder) as scratch:
                scratch.mkdir()
                if keep_model:
                    save(model, scratch)
                work.finish(scratch)
                record.write(scratch, inputs)
                manifest.finalize(scratch, folder.name)
            work.remove()
        ranks.barrier()
    finally:
        if first:
            work.close()
    return record


def _record(
    options: TrainingTable, progress: Progress, losses: npt.NDArray[np.float64], **fields: Any
) -> TrainingRecord:
    """The record of a finished training.

    Args:
        options: of the training.
        progress: what was recorded on the way.
        losses: of each validation sequence after the last step.
        **fields: the other fields of the record.

    Raises:
        TrainingError: the validation loss is not a number.
    """
    loss = float(losses.mean())
    if not math.isfinite(loss):
        raise TrainingError(f"the validation loss is {loss} after step {options.steps}")
    return TrainingRecord(
        validation_loss=loss,
        training_loss=tuple(progress.training_loss),
        validation_losses=(*progress.validation_losses, (options.steps, loss)),
        expert_imbalance=tuple(progress.expert_imbalance),
        steps=options.steps,
        sequence_losses=tuple(losses.tolist()),
        **fields,
    )


def end_of_documents(model: Any, tokenizer: Any, options: TrainingTable) -> int | None:
    """The token after which position ids begin again, None if they do not.

    They do not where ``options.documents`` is "joined", the tokenizer has no end-of-text token, or
    the model takes no position ids.
    """
    backbone = getattr(model, "backbone", model)
    takes = "position_ids" in inspect.signature(backbone.forward).parameters
    if options.documents == "joined" or not takes:
        return None
    end_id: int | None = tokenizer.eos_token_id
    return end_id


def validation_loss(
    model: Any, sequences: npt.NDArray[np.int64], batch_size: int, end_id: int | None = None
) -> float:
    """Mean next-token cross-entropy over all sequences, nats a token, as `sequence_losses`."""
    return float(sequence_losses(model, sequences, batch_size, end_id).mean())


def sequence_losses(
    model: Any, sequences: npt.NDArray[np.int64], batch_size: int, end_id: int | None = None
) -> npt.NDArray[np.float64]:
    """Mean next-token cross-entropy of each sequence, nats a token, summed in float64.

    Ranks that train one model together take a part of the sequences each; all get all losses.

    Args:
        model: a causal LM; it is left in evaluation mode.
        sequences: (count, length) token ids; each predicts its tokens 2 to length.
        batch_size: sequences a forward pass; the result does not depend on it but for rounding.
        end_id: token after which position ids begin again; None to leave them to the model.

    Returns:
        (count,) float64.
    """
    model.eval()
    rank, count = ranks.rank_and_size()
    found = torch.zeros(len(sequences), dtype=torch.float64, device=model.device)
    mine = np.arange(rank, len(sequences), count)
    for start in range(0, len(mine), batch_size):
        some = mine[start : start + batch_size]
        ids = torch.from_numpy(sequences[some]).to(model.device)
        positions: dict[str, Any] = {}
        if end_id is not None:
            places = document_positions(sequences[some], end_id)
            positions["position_ids"] = torch.from_numpy(places).to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, **positions).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        found[torch.from_numpy(some).to(found.device)] = losses.double().view(len(some), -1).mean(1)
    return ranks.sum_over_ranks(found).cpu().numpy()


def _check_data(
    model: Any,
    tokenizer: Any,
    training: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
) -> None:
    """Refuse data that would fail later with a less readable error, or give no loss at all."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise DataError(
            f"the tokenizer has {len(tokenizer)} entries, the model's vocabulary {rows}; allowed: "
            "a tokenizer with at most as many; give the model's own"
        )
    for name, sequences in (("training", training), ("validation", validation)):
        if sequences.ndim != 2 or not sequences.shape[0] or sequences.shape[1] < 2:
            raise DataError(
                f"there is no {name} text (token ids of shape {sequences.shape}); needed: at least "
                "one sequence of two tokens; see data.validation_share"
            )
        low, high = int(sequences.min()), int(sequences.max())
        if low < 0 or high >= rows:
            raise DataError(
                f"{name} text has token ids from {low} to {high}, the model's vocabulary has "
                f"{rows}; the tokenizer is another model's"
            )
