"""A small training of all ranks, each of which then leaves its weights and moments.

torchrun .. weights_of_ranks.py FOLDER CHANGES ENGRAM: as once.py; rank N leaves FOLDER.N.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from once import ENGRAM, small_tokenizer, train_once

from engramcka.models import build_model
from engramcka.training import ranks


def main(folder: str, changes: str, engram: str) -> None:
    tokenizer = small_tokenizer()
    ranks.join("cpu")
    rank, _ = ranks.rank_and_size()
    memory = ENGRAM.model_copy(update=json.loads(engram))
    model = build_model("moe-tiny", memory, tokenizer, seed=0)
    if rank:  # the first rank's weights are those of all
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
    train_once(tokenizer, Path(folder), model=model, **json.loads(changes))
    torch.save(dict(model.named_parameters()), f"{folder}.{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
