"""Maps whose batches no memory here could hold, refused before anything is made for them.

Looks at shapes alone. What is free when a map is computed is `engramcka.similarity`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engramcka.config import CkaTable, Config
from engramcka.errors import ConfigError, DataError, StoreError
from engramcka.pipeline.estimate import shape_of_model
from engramcka.pipeline.members import pairs
from engramcka.pipeline.pieces import Piece
from engramcka.ram import GIB, total_bytes

_MOST_LAYERS = 1024  # of two models; batches that fit with so many need no look at the models
_SMALLEST = 64  # batch size that a message advises


def check_room(config: Config, pieces: Sequence[Piece]) -> None:
    """Refuse maps that are to do and too large for the memory of this machine.

    Raises:
        ConfigError: names the map's batch size, and one that fits.
    """
    for index, table in enumerate(config.cka):
        if table.estimator == "minibatch" and _to_do(config, table, pieces):
            _check_table(config, index, table, _samples(config, table, pieces))


def _to_do(config: Config, table: CkaTable, pieces: Sequence[Piece]) -> bool:
    names = {pair.name for pair in pairs(config, table)}
    return any(p.stage == "cka" and p.name in names and not p.is_done() for p in pieces)


def _samples(config: Config, table: CkaTable, pieces: Sequence[Piece]) -> int:
    """Samples of the larger store."""
    names = {member.store for pair in pairs(config, table) for member in (pair.y, pair.x)}
    totals = (p.total for p in pieces if p.stage == "extract" and p.name in names)
    return max(totals, default=config.data.samples)


def _check_table(config: Config, index: int, table: CkaTable, samples: int) -> None:
    from engramcka.similarity.gram_strips import workspace_bytes

    like = _like(config)
    total, n = total_bytes(like.device), min(table.batch_size, samples)
    if workspace_bytes([1] * _MOST_LAYERS, _edges(n), like) < total:
        return
    y, x = _widths(config, table.y), _widths(config, table.x)
    if not y or not x or workspace_bytes([*y, *x], _edges(n), like) < total:
        return
    fits = next(
        (size for size in _halves(n) if workspace_bytes([*y, *x], _edges(size), like) < total / 2),
        None,
    )
    raise config.error(
        ("cka", index, "batch_size"),
        f"a batch of {n} samples of {len(y)} + {len(x)} layers needs "
        f"{workspace_bytes([*y, *x], _edges(n), like) / GIB:.1f} GiB of memory, there are "
        f"{total / GIB:.1f} GiB here",
        f"{fits} would fit" if fits else "a larger machine may hold it",
    )


def _like(config: Config) -> Any:
    """An empty tensor where maps are computed, as far as this machine tells."""
    import torch

    gpu = config.run.device != "cpu" and torch.cuda.is_available()
    return torch.empty(0, device="cuda" if gpu else "cpu")


def _widths(config: Config, model: str) -> list[int]:
    """Width of every layer of a model; none where only a later stage can tell."""
    try:
        shape = shape_of_model(config, model)
    except (ConfigError, DataError, StoreError):
        return []
    return [shape.width] * shape.layers


def _edges(n: int) -> list[int]:
    """First sample of each group of a batch of n, and n: of as many as are left out in turn."""
    from engramcka.similarity.documents import groups_left_out

    groups = groups_left_out(n)
    return [n * group // groups for group in range(groups + 1)]


def _halves(n: int) -> Iterator[int]:
    """Powers of two below n, falling."""
    size = 1 << (n - 1).bit_length() - 1
    while size >= _SMALLEST:
        yield size
        size //= 2
