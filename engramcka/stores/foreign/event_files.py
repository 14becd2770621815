"""Scalars of TensorBoard event files as rows of a loss sweep.

Folder and tag say which point a scalar is: ``layer_02/seed_1/eval_loss`` is layer 2 under seed 1, a
path with the word ``baseline`` and no layer is the baseline. The last step's value counts. The
files are read by TensorBoard's own reader, where it is installed.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engramcka import foreign_files
from engramcka.errors import EngramckaError, StoreError
from engramcka.plain_text import first_line

_LAYER = re.compile(r"(?<![a-z])layer[ _=-]?(\d+)", re.IGNORECASE)
_SEED = re.compile(r"(?<![a-z])seed[ _=-]?(\d+)", re.IGNORECASE)
_MOST_FILES, _MOST_BYTES = 10_000, 1 << 30  # of a folder; of one file
_BASELINE = re.compile(r"(?<![a-z])baseline(?![a-z])", re.IGNORECASE)


def read_event_files(path: Path, tag: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of every scalar that names a layer or the baseline.

    Args:
        path: an event file, or a folder of them at any depth.
        tag: the last part of the tags that are the loss; needed where points have several scalars.

    Raises:
        EngramckaError: TensorBoard is not installed.
        StoreError: no event file, no such scalar, or several for one point.
    """
    files = _files(path)
    if not files:
        raise StoreError(f"{path}: holds no event file (*tfevents*)", exit_code=2)
    found: dict[tuple[str, str, str], str] = {}
    ignored: set[str] = set()
    for file in files:
        folder = file.parent.relative_to(path).as_posix() if path.is_dir() else ""
        for name, value in _scalars(file):
            text = f"{folder}/{name}"
            row = _point(text)
            if row is None or (tag is not None and not f"/{name}".endswith(f"/{tag}")):
                ignored.add(name)
                continue
            point = (row["kind"], row.get("layer", ""), row.get("seed", ""))
            if point in found:
                raise StoreError(
                    f"{file}: {text.lstrip('/')} and {found[point]} are the same point; name the "
                    "loss with --tag",
                    exit_code=2,
                )
            found[point] = text.lstrip("/")
            yield f"{file}, {name}", {**row, "loss": value}
    if not found:
        shown = ", ".join(sorted(ignored)[:6]) or "none"
        raise StoreError(
            f"{path}: no scalar {'' if tag is None else repr(tag) + ' '}of a layer; there is "
            f"{shown}; wanted: folders or tags such as layer_02/seed_0 and baseline/seed_0",
            exit_code=2,
        )


def _files(path: Path) -> list[Path]:
    """The event files, all regular ones and inside of the folder, in order."""
    if not path.is_dir():
        found = [path]
    else:
        found = sorted(file for file in path.rglob("*tfevents*") if not file.is_dir())
    if len(found) > _MOST_FILES:
        raise StoreError(f"{path}: {len(found):,} event files; at most {_MOST_FILES:,}",
                         exit_code=2)  # fmt: skip
    for file in found:
        try:
            foreign_files.require_file(file)
            if path.is_dir():
                foreign_files.require_inside(file, path)
            if file.stat().st_size > _MOST_BYTES:
                raise OSError(errno.EFBIG, f"larger than {_MOST_BYTES >> 20} MiB")
        except OSError as error:
            raise StoreError(
                f"{file}: cannot be read ({error.strerror or error})", exit_code=2
            ) from error
    return found


def _point(text: str) -> dict[str, str] | None:
    """The row's columns that a path names; None if it names no point."""
    layer, seed = _LAYER.findall(text), _SEED.findall(text)
    row = {"seed": seed[-1]} if seed else {}
    if layer:
        return {**row, "kind": "layer", "layer": layer[-1]}
    return {**row, "kind": "baseline"} if _BASELINE.search(text) else None


def _scalars(file: Path) -> Iterator[tuple[str, float]]:
    """(tag, value at the last step) of one event file, in either of TensorBoard's two forms."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise EngramckaError(
            "tensorboard is not installed; pip install tensorboard to import event files"
        ) from error
    try:
        events = EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        tags = events.Tags()
        for tag in tags["scalars"]:
            yield tag, float(max(events.Scalars(tag), key=lambda event: event.step).value)
        for tag in tags["tensors"]:
            last = max(events.Tensors(tag), key=lambda event: event.step)
            if any(side.size != 1 for side in last.tensor_proto.tensor_shape.dim):
                continue  # no scalar: NumPy would make all of what it says
            values = make_ndarray(last.tensor_proto)
            if values.size == 1 and values.dtype.kind == "f":
                yield tag, float(values.item())
    except EngramckaError:
        raise
    except Exception as error:  # the reader raises whatever its protobuf does
        raise StoreError(f"{file}: cannot be read ({first_line(error)})", exit_code=2) from error
