"""A small training as a process of its own, to be killed or shared out by torchrun.

python once.py FOLDER [KILL_AT] [CHANGES] [ENGRAM]: CHANGES is JSON for [training], ENGRAM for the
memory; KILL_AT 0 is never.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.config import EngramConfig, TrainingTable
from engramcka.data import Document, train_tokenizer
from engramcka.models import build_model
from engramcka.training import TrainingRecord, train_model

OPTIONS = TrainingTable(steps=45, batch_size=2, sequence_length=16, warmup_steps=1, save_every=9)
ENGRAM = EngramConfig(layers=(2,), table_size=64, d_mem=32)


def small_tokenizer() -> Any:
    return train_tokenizer([Document("a", "".join(f"v{n} = f(x{n})\n" for n in range(200)))], 320)


def sequences(tokenizer: Any, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, len(tokenizer), (count, 16))


def train_once(
    tokenizer: Any,
    folder: Path,
    engram: EngramConfig | None = None,
    kept: tuple[int, ...] = (),
    on_step: Any = lambda step, info: None,
    model: Any = None,
    **changes: Any,
) -> TrainingRecord:
    options = OPTIONS.model_copy(update=changes)
    return train_model(
        model or build_model("moe-tiny", engram, tokenizer, seed=0),
        tokenizer,
        training=sequences(tokenizer, options.steps * options.batch_size),
        validation=sequences(tokenizer, 3),
        validation_documents=np.array([0, 1, 1]),
        options=options,
        kept=kept,
        seed=0,
        device="cpu",
        folder=folder,
        inputs={"seed": 0},
        on_step=on_step,
    )


def main(folder: str, kill_at: str = "0", changes: str = "{}", engram: str = "{}") -> None:
    def on_step(step: int, info: str) -> None:
        if step == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    memory = ENGRAM.model_copy(update=json.loads(engram))
    train_once(small_tokenizer(), Path(folder), memory, (5,), on_step, **json.loads(changes))


if __name__ == "__main__":
    main(*sys.argv[1:])
