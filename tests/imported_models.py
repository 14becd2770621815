"""Two models as files of hidden states that share a few directions, and the config's head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

N, PER_DOCUMENT = 120, 4
HEAD = """
[run]
dir = "run"
device = "cpu"

[models.y]
source = "activations"
path = "y.npz"
samples = "samples.jsonl"
label = "Model Y"

[models.x]
source = "activations"
path = "x.npz"
samples = "samples.jsonl"
label = "Model X"
"""


def write_states(folder: Path) -> dict[str, list[np.ndarray]]:
    """Hidden states of two models, and the documents that their samples are of, as files."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N, 6))
    found = {}
    for name in "yx":
        found[name] = [
            shared @ rng.standard_normal((6, width)) + rng.standard_normal((N, width))
            for width in (9, 9)
        ]
        arrays = {f"layer_{number + 1}": a for number, a in enumerate(found[name])}
        np.savez(folder / f"{name}.npz", **arrays)
    rows = [
        {
            "document": f"d{i // PER_DOCUMENT}",
            "start": i % PER_DOCUMENT,
            "end": i % PER_DOCUMENT + 1,
        }
        for i in range(N)
    ]
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return found
