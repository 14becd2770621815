"""Memory tables that stay in their files: the rows that are looked up are read, no others.

A published table has 100 GB and more, of which a text looks up a few million rows. Here the module
that holds it is replaced, before any weights are read, by one that maps the checkpoint's
safetensors files and copies rows out of them. The numbers are those of the file: tables split into
shards are one again, and quantised rows are multiplied by the scales that stand beside them.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engramcka import foreign_files
from engramcka.errors import ConfigError, StoreError
from engramcka.models.checkpoint_files import read_header
from engramcka.models.engram.tables import EngramMemory
from engramcka.models.memory import find_memories

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}
_IGNORED = "_keys_to_ignore_on_load_unexpected"  # transformers' name
_SHARD = re.compile(r"shard_(\d+)\.$")


@dataclass(frozen=True)
class Stored:
    """A matrix in a safetensors file, mapped."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # byte of the file
    mapped: Any

    def rows(self, numbers: Tensor) -> Tensor:
        """Copies of rows, (rows, width), by their numbers (rows,) int64 on the CPU."""
        flat = torch.frombuffer(
            self.mapped,
            dtype=torch.uint8,
            offset=self.start,
            count=self.shape[0] * self.shape[1] * self.dtype.itemsize,
        )
        matrix = flat.view(self.shape[0], -1)
        return matrix.index_select(0, numbers).view(self.dtype)


class FileTable(nn.Module):
    """An embedding whose rows are read from files as they are looked up; for inference.

    Args:
        parts: matrices one below the other.
        scales: of each part, factors (rows, width / block); empty where there are none.
        dtype: of the rows that are given.
    """

    def __init__(self, parts: list[Stored], scales: list[Stored], dtype: torch.dtype) -> None:
        super().__init__()
        self._parts, self._scales, self._dtype = parts, scales, dtype
        self.keys = tuple(part.key for part in (*parts, *scales))
        self._ends = list(accumulate(part.shape[0] for part in parts))
        self.num_embeddings = self._ends[-1]
        self.embedding_dim = parts[0].shape[1]
        self.weight = torch.empty(0, device="cpu")  # some models ask on which device the table is

    def forward(self, numbers: Tensor) -> Tensor:
        """Rows (..., width) on the numbers' device.

        Raises:
            IndexError: a row that there is not.
        """
        wanted, where = torch.unique(numbers.cpu().reshape(-1), return_inverse=True)
        if len(wanted) and not 0 <= int(wanted[0]) <= int(wanted[-1]) < self.num_embeddings:
            raise IndexError(f"row {int(wanted[-1])} of a table of {self.num_embeddings}")
        bounds = torch.searchsorted(wanted, torch.tensor(self._ends)).tolist()
        found, first, begin = [], 0, 0
        for index, (part, end) in enumerate(zip(self._parts, self._ends, strict=True)):
            mine = wanted[first : bounds[index]] - begin
            if len(mine):
                found.append(self._scaled(index, part.rows(mine), mine))
            first, begin = bounds[index], end
        rows = torch.cat(found) if found else torch.empty(0, self.embedding_dim, dtype=self._dtype)
        return rows[where].view(*numbers.shape, self.embedding_dim).to(numbers.device)

    def _scaled(self, index: int, rows: Tensor, numbers: Tensor) -> Tensor:
        if self._scales:
            scale = self._scales[index].rows(numbers).float()
            rows = (rows.float().unflatten(-1, (scale.shape[1], -1)) * scale[..., None]).flatten(1)
        return rows.to(self._dtype)


def tables_in_files(path: str, model_class: Any, dtype: torch.dtype) -> Any:
    """A class like ``model_class`` whose models leave their memory tables in the files.

    Args:
        path: folder of the checkpoint.
        model_class: of transformers.
        dtype: of the rows that are given.

    Raises:
        ConfigError: not a local folder of safetensors files, or no memory module that is known.
        StoreError: a table is not in the files, or not as a matrix.
    """
    stored = dict(_headers(Path(path)))

    class WithTablesInFiles(model_class):  # type: ignore[misc]
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            memories = find_memories(self)
            if not memories:
                raise ConfigError(f"{path}: tables = 'file', and it has no memory that is known")
            for memory in memories.values():
                table = memory.table
                if table is None:
                    continue
                if isinstance(table, EngramMemory):
                    table.on_host = True  # where transformers has mapped it already
                    continue
                name = next(name for name, module in self.named_modules() if module is table)
                owner, _, leaf = name.rpartition(".")
                replaced = _table(path, name, stored, dtype)
                setattr(self.get_submodule(owner), leaf, replaced)
                left = re.escape(name) + r"\.(weight|scale|weight_scale_inv)$"
                setattr(self, _IGNORED, {*(getattr(self, _IGNORED, None) or ()), left})

    WithTablesInFiles.__name__ = WithTablesInFiles.__qualname__ = model_class.__name__
    WithTablesInFiles.__module__ = model_class.__module__
    return WithTablesInFiles


def keys_in_files(model: nn.Module) -> frozenset[str]:
    """Names in the files of all that the tables of a model leave there."""
    tables = [module for module in model.modules() if isinstance(module, FileTable)]
    return frozenset(key for table in tables for key in table.keys)


def _table(path: str, name: str, stored: Mapping[str, Stored], dtype: torch.dtype) -> FileTable:
    """The table that a model calls by this name, in the files."""
    parts = _parts(name, "weight", stored)
    if not parts:
        raise StoreError(f"{path}: no matrix {name}.weight in its safetensors files")
    if any(len(part.shape) != 2 or part.shape[1] != parts[0].shape[1] for part in parts):
        raise StoreError(f"{path}: {parts[0].key} and its shards are not one matrix by rows")
    scales = _parts(name, "scale", stored) or _parts(name, "weight_scale_inv", stored)
    is_quantised = parts[0].dtype.itemsize == 1
    if is_quantised and [s.shape[0] for s in scales] != [p.shape[0] for p in parts]:
        raise StoreError(f"{path}: {parts[0].key} is quantised, and its scales are not by rows")
    return FileTable(parts, scales if is_quantised else [], dtype)


def _parts(name: str, leaf: str, stored: Mapping[str, Stored]) -> list[Stored]:
    """What stands in the files for a tensor of a module: itself, or its shards in order.

    The files may call the models around the blocks otherwise, so that names are compared from the
    block on.
    """
    tail = name[name.index("layers.") :] if "layers." in name else name
    found: dict[int, Stored] = {}
    for key, value in stored.items():
        owner = key.removesuffix(leaf)
        if owner == key:
            continue
        shard = _SHARD.search(owner)
        whole = owner[: shard.start()] if shard else owner
        if not whole.removesuffix(".").endswith(tail):
            continue
        number = int(shard[1]) if shard else 0
        if number in found:
            raise StoreError(
                f"{found[number].key} and {key} could both be {name}.{leaf}; leave tables = 'file' "
                "out, which cannot tell them apart"
            )
        found[number] = value
    return [found[number] for number in sorted(found)]


def _headers(folder: Path) -> Iterator[tuple[str, Stored]]:
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            f"{folder}: tables = 'file' reads rows from safetensors files in a local folder, and "
            "there are none; download the checkpoint and give its folder, or leave tables out"
        )
    for file in files:
        try:
            with foreign_files.open_file(file) as opened:
                header, start = read_header(opened)
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
            mapped.madvise(mmap.MADV_RANDOM)
            for key, entry in header.items():
                if entry["dtype"] in _DTYPES:
                    yield key, _stored(key, entry, start, mapped)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"{file}: not a safetensors file ({error})") from error


def _stored(key: str, entry: Mapping[str, Any], start: int, mapped: Any) -> Stored:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(int(size) for size in entry["shape"])
    begin, end = (start + int(offset) for offset in entry["data_offsets"])
    size = math.prod(shape) * dtype.itemsize
    if not (0 <= begin <= end <= len(mapped) and end - begin == size):
        raise ValueError(f"{key} does not fit the file")
    return Stored(key, dtype, shape, begin, mapped)
