"""Loss sweeps made elsewhere: CSV, JSON lines and TensorBoard event files as a `LossSweep`.

One row a loss: `kind` (layer, baseline, reference or variant; layer if left out), `layer` (block,
counted from 1), `seed` (0 if left out), `name` (of a reference or a variant) and `loss` in nats a
token, empty or NaN where there is none. What `engramcka export` writes as CSV is read back.

Of event files, folder and tag say which point a scalar is: ``layer_02/seed_1/eval_loss`` is layer 2
under seed 1, a path with the word ``baseline`` and no layer is the baseline. The last step's value
counts. They are read by TensorBoard's own reader, where it is installed.
"""

from __future__ import annotations

import csv
import errno
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engramcka import foreign_files
from engramcka.errors import EngramckaError, StoreError
from engramcka.plain_text import first_line
from engramcka.results import LossSweep
from engramcka.results.statistics import mean_finite
from engramcka.text_rows import BadLine, read_json_lines, unguard_formula

_ROW_KINDS = ("layer", "baseline", "reference", "variant")
COLUMNS = ("kind", "name", "layer", "seed", "loss")
MAX_BYTES = 64 << 20  # of a table: no sweep is as large
_LONGEST_LINE = 1 << 20  # bytes
MAX_LAYER = 10_000
# What the names of event files say of a point.
_LAYER = re.compile(r"(?<![a-z])layer[ _=-]?(\d+)", re.IGNORECASE)
_SEED = re.compile(r"(?<![a-z])seed[ _=-]?(\d+)", re.IGNORECASE)
_MOST_FILES, _MOST_BYTES = 10_000, 1 << 30  # of a folder; of one file
_BASELINE = re.compile(r"(?<![a-z])baseline(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class LossRow:
    """One loss as a file gives it, with the place that it stands at."""

    where: str  # file and line, for messages
    kind: str
    name: str
    layer: int  # 0 where it has none
    seed: int | None
    loss: float  # nats a token; NaN where there is none


def read_sweep_file(path: Path, tag: str | None = None) -> LossSweep:
    """Read a sweep by its file's kind: .csv, .jsonl, or TensorBoard event files.

    Args:
        path: the file; for TensorBoard also a folder of event files.
        tag: which scalar of the event files is the loss; needed where there are several.

    Raises:
        StoreError: names file and line, what was found and what is allowed.
    """
    if path.suffix.lower() == ".csv":
        rows = list(_csv_rows(path))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = list(_json_rows(path))
    elif path.is_dir() or "tfevents" in path.name:
        rows = [_row(where, values) for where, values in read_event_files(path, tag)]
    else:
        raise refusal(
            f"{path}: no loss sweep by its name",
            "allowed: .csv, .jsonl, or TensorBoard event files (events.out.tfevents.*) or their "
            "folder",
        )
    return _sweep(path, rows)


def refusal(problem: str, allowed: str = "") -> StoreError:
    """The error for a file that cannot be taken as it is."""
    return StoreError(f"{problem}; {allowed}" if allowed else problem, exit_code=2)


def read_text(path: Path) -> str:
    """A table's text.

    Raises:
        StoreError: it cannot be read, is absurdly large or no UTF-8.
    """
    try:
        text = foreign_files.read_file(path, MAX_BYTES).decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise refusal(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise refusal(f"{path}: cannot be read ({error.strerror or error})") from error


def _csv_rows(path: Path) -> Iterator[LossRow]:
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        _check_columns(path, header)
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values or None in values.values():
                raise refusal(f"{where}: not as many values as the header has columns")
            values = {key: value.strip() for key, value in values.items()}
            yield _row(where, {**values, "name": unguard_formula(values.get("name", ""))})
    except csv.Error as error:
        raise refusal(f"{path}, line {reader.line_num}: no CSV ({error})") from error


def _json_rows(path: Path) -> Iterator[LossRow]:
    try:
        for number, values in read_json_lines(path, _LONGEST_LINE):
            where = f"{path}, line {number}"
            _check_columns(where, list(values))
            yield _row(where, values)
    except BadLine as error:
        raise refusal(f"{path}, {error}") from error
    except OSError as error:
        raise refusal(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_columns(where: str | Path, names: list[str]) -> None:
    if "loss" not in names or not {"layer", "kind"} & set(names):
        raise refusal(
            f"{where}: found {', '.join(names) or 'nothing'}",
            f"needed: loss and layer; known: {', '.join(COLUMNS)}; others are passed over",
        )


def _row(where: str, values: Mapping[str, Any]) -> LossRow:
    layer = _whole(where, "layer", values.get("layer"), 1, MAX_LAYER)
    kind = str(values.get("kind") or ("layer" if layer is not None else "baseline"))
    if kind not in _ROW_KINDS:
        raise refusal(f"{where}: kind = {kind[:40]!r}", f"allowed: {', '.join(_ROW_KINDS)}")
    if (kind == "layer") != (layer is not None):
        raise refusal(f"{where}: kind = {kind!r} and layer = {values.get('layer')!r} do not go")
    name = str(values.get("name") or "")
    if kind in ("reference", "variant") and not name:
        raise refusal(f"{where}: a {kind} needs a name")
    seed = _whole(where, "seed", values.get("seed"), 0, 2**31 - 1)
    return LossRow(where, kind, name, layer or 0, seed, _loss(where, values.get("loss")))


def _whole(where: str, key: str, value: Any, low: int, high: int) -> int | None:
    """A whole number, None where it is left out."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
        if isinstance(value, bool) or number != int(number) or not low <= number <= high:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal(
            f"{where}: {key} = {str(value)[:40]!r}", f"allowed: whole numbers from {low}"
        ) from error
    return int(number)


def _loss(where: str, value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        loss = float(value)
        if isinstance(value, bool) or math.isinf(loss):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise refusal(
            f"{where}: loss = {str(value)[:40]!r}", "allowed: a number, or empty for none"
        ) from error
    return loss


def _sweep(path: Path, rows: list[LossRow]) -> LossSweep:
    of_kind = {kind: [row for row in rows if row.kind == kind] for kind in _ROW_KINDS}
    points = of_kind["layer"]
    if not points:
        raise refusal(f"{path}: no loss of any layer")
    # A baseline or a variant without a seed is a mean; a point without one is seed 0.
    seeds = sorted({row.seed or 0 for row in points} | {row.seed for row in rows if row.seed})
    layers = sorted({row.layer for row in points})
    loss = np.full((len(layers), len(seeds)), np.nan)
    _fill(loss, [((layers.index(row.layer), seeds.index(row.seed or 0)), row) for row in points])
    lines = {kind: _lines(of_kind[kind], seeds) for kind in ("baseline", "reference", "variant")}
    if len(lines["baseline"]) > 1:
        raise refusal(f"{path}: baselines of {len(lines['baseline'])} names", "allowed: one")
    baseline_label, baseline = next(iter(lines["baseline"].items()), ("", ()))
    labels = sorted({row.name for row in points if row.name})
    missing = [
        f"layer {layers[i]}, seed {seeds[j]} is missing" for i, j in np.argwhere(np.isnan(loss))
    ]
    return LossSweep(
        layers=tuple(layers),
        loss=loss,
        baseline=np.array(baseline, dtype=np.float64),
        seeds=tuple(seeds),
        label=labels[0] if len(labels) == 1 else "model",
        baseline_label=baseline_label or "baseline",
        reference=_means(lines["reference"]),
        reference_losses=_by_seed(lines["reference"], seeds),
        variants=_means(lines["variant"]),
        variant_losses=_by_seed(lines["variant"], seeds),
        warnings=tuple(missing),
    )


def _fill(values: np.ndarray[Any, Any], entries: list[tuple[Any, LossRow]]) -> None:
    filled: dict[Any, str] = {}
    for at, row in entries:
        if at in filled:
            raise refusal(f"{row.where}: the same point as in {filled[at]}")
        filled[at] = row.where
        values[at] = row.loss


def _lines(rows: list[LossRow], seeds: list[int]) -> dict[str, tuple[float, ...]]:
    """Losses by name: one a seed of the sweep, or a single mean where no seed is given."""
    found: dict[str, tuple[float, ...]] = {}
    for name in dict.fromkeys(row.name for row in rows):
        mine = [row for row in rows if row.name == name]
        means = [row for row in mine if row.seed is None]
        if means and len(mine) > 1:
            raise refusal(
                f"{means[0].where}: {len(mine)} losses of one {means[0].kind}, not all with a seed"
            )
        values = np.full(1 if means else len(seeds), np.nan)
        _fill(values, [(0 if row.seed is None else seeds.index(row.seed), row) for row in mine])
        found[name] = tuple(values.tolist())
    return found


def _means(lines: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    means = {name: float(mean_finite(np.array(losses))) for name, losses in lines.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _by_seed(
    lines: Mapping[str, tuple[float, ...]], seeds: list[int]
) -> dict[str, tuple[float, ...]]:
    """Of the lines that have a loss a seed."""
    return {
        name: losses
        for name, losses in lines.items()
        if len(losses) == len(seeds) and name in _means(lines)
    }


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
