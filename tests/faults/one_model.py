"""What several ranks that hold a model as one see of it, for a test to compare with one process.

torchrun one_model.py FOLDER: of every saved model in the folder, NAME.npz with the hidden states
and what the lens reads, from the first rank; the others' must be the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engramcka.distributed import ALONE, World
from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.launch import join_world
from engramcka.lens import read_head
from engramcka.models import load_model
from engramcka.models.blocks import capture_points

IDS = torch.arange(3, 27)[None].repeat(2, 1) * torch.tensor([[1], [3]])
POINTS = ("block", "attention", "mlp")


@torch.no_grad()
def look(model: Any) -> dict[str, np.ndarray]:
    """Hidden states at every token and point, the logits, and the lens's matrix."""
    rows, tokens = (
        grid.flatten() for grid in torch.meshgrid(*map(torch.arange, IDS.shape), indexing="ij")
    )
    found = {}
    for point in POINTS:
        stream = ResidualStream(capture_points(model, point))
        with stream.capture(rows, tokens, tokens):
            model(input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False)
        found |= {f"{point}-{layer}": rows.numpy() for layer, rows in stream.selected.items()}
    found["logits"] = model(input_ids=IDS, use_cache=False).logits.numpy()
    # Refused if it does not give the logits.
    found["head"] = read_head(model, IDS[0]).weight.numpy()
    return found


def main(folder: Path, world: World) -> None:
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            if world is ALONE:
                found = look(load_model(str(path))[0])
            else:
                with world.as_one("cpu"):
                    found = look(load_model(str(path), parallel="tp")[0])
        except ConfigError as error:
            (folder / f"{path.name}.txt").write_text(str(error))
            continue
        by_rank = world.gather(found)
        assert all(np.array_equal(other[name], found[name]) for other in by_rank for name in found)
        if world.first:
            np.savez(folder / f"{path.name}.npz", **found)
    if world is not ALONE:
        world.leave()  # else the first is gone before the others have heard its last answer


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), join_world())
