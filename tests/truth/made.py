"""Hidden states changed so that the right CKA is known, as files for ``source = "activations"``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from by_pairs import Documents, PairSums, hsic, trace_of_covariance

States = npt.NDArray[np.float32]  # (layers, samples, width)


def turned(states: States, seed: int = 0) -> States:
    """Every layer rotated, rescaled by up to a thousand and moved: CKA does not change."""
    random = np.random.default_rng(seed)
    layers = []
    for layer in states.astype(np.float64):
        rotation = np.linalg.qr(random.normal(size=(layer.shape[1], layer.shape[1])))[0]
        spread = layer.std()
        moved = layer @ rotation + spread * random.normal(size=layer.shape[1])
        layers.append(moved * 10 ** random.uniform(-3, 3))
    return np.stack(layers).astype(np.float32)


def noisy(states: States, shares: npt.ArrayLike, seed: int = 0) -> tuple[States, npt.NDArray]:
    """Every layer with Gaussian noise of so much of its variance added.

    Returns:
        The states, and (layers,) the noise's standard deviation in each dimension.
    """
    random = np.random.default_rng(seed)
    variance = states.astype(np.float64).var(axis=1).mean(axis=1)
    deviation = np.sqrt(np.asarray(shares) * variance)
    noise = random.normal(size=states.shape) * deviation[:, None, None]
    return (states + noise).astype(np.float32), deviation


def with_noise(layer: npt.ArrayLike, deviation: float, documents: npt.ArrayLike) -> float:
    """CKA of a layer with itself after noise: |C| / |C + s^2 I|, in Frobenius norm.

    HSIC of a layer with itself estimates |C|^2, and |C + s^2 I|^2 = |C|^2 + 2 s^2 tr C + s^4 d.
    """
    sums = PairSums(layer, Documents(documents))
    own, trace = hsic(sums, sums), trace_of_covariance(layer, documents)
    width = np.asarray(layer).shape[1]
    return float(np.sqrt(own / (own + 2 * deviation**2 * trace + deviation**4 * width)))


def write(folder: Path, name: str, states: States, table: Mapping[str, Any]) -> str:
    """An .npz with its sample table, and the ``[models.NAME]`` that reads them."""
    layers = {f"layer_{number:02d}": layer for number, layer in enumerate(states, start=1)}
    np.savez(folder / f"{name}.npz", **layers)
    columns = [table[column].tolist() for column in ("document", "start", "end")]
    rows = [
        dict(zip(("document", "start", "end"), row, strict=True))
        for row in zip(*columns, strict=True)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return (
        f'\n[models.{name}]\nsource = "activations"\npath = "{folder / name}.npz"\n'
        f'samples = "{folder / name}.jsonl"\n'
    )


def store(name: str, path: Path) -> str:
    """The ``[models.NAME]`` that reads an activation store of another run."""
    return f'\n[models.{name}]\nsource = "activations"\npath = "{path}"\n'
