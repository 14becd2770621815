"""Results as tables: CSV for any tool, LaTeX (booktabs) for a paper, xarray for analysis.

Knows results and the one output file, no figures. Layers count from 1 here; a CSV keeps every digit
that float64 has, a LaTeX table rounds.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import EngramckaError
from engramcka.figures.alignment import alignment_interval
from engramcka.figures.files import checked_extension, write_whole
from engramcka.figures.plain import plain
from engramcka.results import CkaMap, LossSweep

if TYPE_CHECKING:
    import xarray

Float = npt.NDArray[np.float64]

TABLE_FORMATS = ("csv", "tex")
"""File extensions that a table can be written with."""

_ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def to_csv(result: CkaMap | LossSweep) -> str:
    """One line a cell of a map (with its interval), or one a layer and seed of a sweep.

    A sweep's baseline, references and ablations follow with an empty layer and their name.
    A value that does not exist is empty.
    """
    rows = _map_cells(result) if isinstance(result, CkaMap) else _sweep_points(result)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        ["" if isinstance(v, float) and not np.isfinite(v) else v for v in row] for row in rows
    )
    return text.getvalue()


def to_latex(result: CkaMap | LossSweep, *, k: int = 5, digits: int | None = None) -> str:
    """A booktabs table: a map's alignment by column, or a sweep's loss by layer.

    A map's table says for each layer of x the soft alignment (with its 95 % interval where there
    is a jackknife) and the most similar layer of y with its CKA. ``digits`` after the point are 3
    for CKA and 4 for a loss.
    """
    if isinstance(result, CkaMap):
        return _alignment_table(result, k, 3 if digits is None else digits)
    return _loss_table(result, 4 if digits is None else digits)


def save_table(result: CkaMap | LossSweep, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write `to_csv` or `to_latex` (with ``options``), as the extension says.

    Raises:
        ConfigError: the extension is none of `TABLE_FORMATS`.
        EngramckaError: the file or its folder cannot be written.
    """
    target = Path(path)
    makers: dict[str, Callable[..., str]] = {"csv": to_csv, "tex": to_latex}
    text = makers[checked_extension(target, TABLE_FORMATS, "table")](result, **options)
    write_whole(target, text.encode())
    return target


def to_xarray(cka: CkaMap) -> xarray.Dataset:
    """The map with its interval, jackknife and null as variables over y_layer and x_layer.

    Raises:
        EngramckaError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise EngramckaError(
            "xarray is not installed; pip install xarray to have maps as Datasets"
        ) from error
    cells = ("y_layer", "x_layer")
    dims = {
        "similarity": cells, "ci_low": cells, "ci_high": cells,
        "jackknife": ("group", *cells), "null": ("permutation", *cells),
    }  # fmt: skip
    return xarray.Dataset(
        {
            name: (along, getattr(cka, name))
            for name, along in dims.items()
            if getattr(cka, name) is not None
        },
        coords={"y_layer": list(cka.y_layers), "x_layer": list(cka.x_layers)},
        attrs={
            name: getattr(cka, name)
            for name in ("y_label", "x_label", "estimator", "kernel", "standardize", "batch_size",
                         "n_samples", "n_dropped", "dtype")
            if getattr(cka, name) is not None
        },
    )  # fmt: skip


def escaped(name: str) -> str:
    """The name as LaTeX that prints it as it is."""
    return "".join(_ESCAPES.get(character, character) for character in plain(name))


def _map_cells(cka: CkaMap) -> list[list[Any]]:
    columns = {"similarity": cka.similarity, "ci_low": cka.ci_low, "ci_high": cka.ci_high}
    there = {name: values for name, values in columns.items() if values is not None}
    rows: list[list[Any]] = [["y_layer", "x_layer", *there]]
    for i, y in enumerate(cka.y_layers):
        for j, x in enumerate(cka.x_layers):
            rows.append([y, x, *(float(values[i, j]) for values in there.values())])
    return rows


def _sweep_points(sweep: LossSweep) -> list[list[Any]]:
    rows: list[list[Any]] = [["kind", "name", "layer", "seed", "loss"]]
    for layer, losses in zip(sweep.layers, sweep.loss, strict=True):
        for seed, loss in zip(sweep.seeds, losses, strict=True):
            rows.append(["layer", plain(sweep.label), layer, seed, float(loss)])
    for seed, loss in zip(_seeds_of(sweep.baseline, sweep), sweep.baseline, strict=True):
        rows.append(["baseline", plain(sweep.baseline_label), "", seed, float(loss)])
    for kind, lines in (("reference", sweep.reference), ("variant", sweep.variants)):
        rows += [[kind, plain(name), "", "", float(loss)] for name, loss in lines.items()]
    return rows


def _seeds_of(values: Float, sweep: LossSweep) -> Sequence[Any]:
    """The sweep's seeds where there is one a value; else unknown."""
    return sweep.seeds if len(values) == len(sweep.seeds) else [""] * len(values)


def _alignment_table(cka: CkaMap, k: int, digits: int) -> str:
    aligned = cka.soft_alignment(k)
    ends = alignment_interval(cka, k)
    y, x = escaped(cka.y_label), escaped(cka.x_label)
    head = [f"{x} layer", "Soft alignment", *(["95\\,\\% interval"] if ends else [])]
    rows = []
    for j, layer in enumerate(cka.x_layers):
        column = cka.similarity[:, j]
        row = [str(layer), _number(aligned[j], 1)]
        if ends is not None:
            low, high = _number(ends[0][j], 1), _number(ends[1][j], 1)
            row.append("--" if "--" in (low, high) else f"[{low}, {high}]")
        if np.isfinite(column).any():
            best = int(np.nanargmax(column))
            row += [str(cka.y_layers[best]), _number(column[best], digits)]
        else:
            row += ["--", "--"]
        rows.append(row)
    return _booktabs([*head, f"Nearest {y} layer", "CKA"], rows)


def _loss_table(sweep: LossSweep, digits: int) -> str:
    several = len(sweep.seeds) > 1
    rows = []
    for layer, mean, losses in zip(sweep.layers, sweep.mean, sweep.loss, strict=True):
        rows.append([str(layer), _number(mean, digits), *_deviation(losses, several, digits)])
    lines = [*sweep.reference.items(), *sweep.variants.items()]
    if np.isfinite(sweep.baseline_mean):
        spread = _deviation(sweep.baseline, several, digits)
        mean = _number(sweep.baseline_mean, digits)
        rows.append([escaped(sweep.baseline_label), mean, *spread])
    for name, loss in lines:
        rows.append([escaped(name), _number(loss, digits), *(["--"] if several else [])])
    head = ["Insertion layer", f"Loss ({escaped(sweep.unit)})", *(["s.d."] if several else [])]
    return _booktabs(head, rows)


def _deviation(losses: Float, wanted: bool, digits: int) -> list[str]:
    there = losses[np.isfinite(losses)]
    if not wanted:
        return []
    return [_number(float(np.std(there, ddof=1)), digits + 1) if len(there) > 1 else "--"]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "--"


def _booktabs(head: list[str], rows: list[list[str]]) -> str:
    lines = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
