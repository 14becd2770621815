"""Results as tables: CSV for any tool, LaTeX (booktabs) for a paper, xarray for analysis.

Layers count from 1 here; a CSV keeps every digit that float64 has, a LaTeX table rounds. Names and
dimensions of a Dataset are those of the stores (`engramcka.results.Result.pack`), so that one made
here and one that xarray opens from a run's results.zarr are alike.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engramcka.errors import ConfigError, EngramckaError
from engramcka.figures.draw import booktabs, drawing_of
from engramcka.figures.options import TABLE_FORMATS, checked_extension, write_whole
from engramcka.results import LossSweep, Result, SimilarityMap
from engramcka.results.base import Row
from engramcka.results.kinds import kind_of
from engramcka.text_rows import guard_formula

if TYPE_CHECKING:
    import xarray

_LABELS = {  # dimension -> the result's field that names its entries
    "variant": "variants",
    "reference": "reference",
    "type": "types",
    "class": "classes",
    "order": "orders",
}


def to_csv(results: Result | Sequence[Result]) -> str:
    """The numbers of one result, or of several of one type, each with its label.

    One line a cell of a map (with its interval), a layer and seed of a sweep (its baseline,
    references and ablations follow with an empty layer and their name), a rho and seed, a layer of
    a lens curve, a step of a training, a token class, or a type, module and stream of gates. A
    value that does not exist is empty.
    """
    return rows_to_csv(row for result in _several(results) for row in result.rows())


def rows_to_csv(rows: Iterable[Row]) -> str:
    """Rows of named values; a column that a row lacks is empty there.

    Text that a spreadsheet would execute is guarded: see `engramcka.text_rows`.
    """
    kept = list(rows)
    columns = list(dict.fromkeys(name for row in kept for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in kept:
        writer.writerow({k: _cell(v) for k, v in row.items() if not _is_unknown(v)})
    return text.getvalue()


def to_latex(results: Result | Sequence[Result], *, k: int = 5, digits: int | None = None) -> str:
    """A booktabs table of one result, or of several lens curves, trainings, ablations or maps.

    A map's table says for each layer of x the soft alignment (with its 95 % interval where there
    is a jackknife) and the most similar layer of y with its CKA; that of several maps has a row a
    checkpoint. ``k`` is that of the alignment; ``digits`` stand after the point (without it, as
    many as the kind usually has).

    Raises:
        ComparisonError: the results have no table in common.
    """
    several = _several(results)
    options = {"k": k} if isinstance(several[0], SimilarityMap) else {}
    return booktabs(*drawing_of(kind_of(several[0]).name).table(several, digits, **options))


def save_table(
    results: Result | Sequence[Result], path: str | os.PathLike[str], **options: Any
) -> Path:
    """Write `to_csv` or `to_latex` (with ``options``), as the extension says.

    Raises:
        ConfigError: the extension is none of `TABLE_FORMATS`.
        EngramckaError: the file or its folder cannot be written.
    """
    target = Path(path)
    makers: dict[str, Callable[..., str]] = {"csv": to_csv, "tex": to_latex}
    text = makers[checked_extension(target, TABLE_FORMATS, "table")](results, **options)
    write_whole(target, text.encode())
    return target


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole; raises as `save_table`."""
    write_whole(Path(path), text.encode())
    return Path(path)


def to_xarray(result: Result) -> xarray.Dataset:
    """A map, lens curve, sweep or any other result as a Dataset.

    Layers, seeds and the names of types, ablations and references are coordinates; the losses of a
    sweep's references are ``reference_loss``. Attributes are the plain facts: labels, estimator,
    numbers of samples.

    Raises:
        EngramckaError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise EngramckaError(
            "xarray is not installed; pip install xarray to have results as Datasets"
        ) from error
    arrays, _ = result.pack()
    if isinstance(result, LossSweep) and result.reference:
        losses = np.array(list(result.reference.values()), dtype=np.float64)
        arrays["reference_loss"] = (losses, ("reference",))
    dimensions = {name for _, along in arrays.values() for name in along}
    labels = {
        name: list(getattr(result, source))
        for name, source in _LABELS.items()
        if name in dimensions and getattr(result, source)
    }
    facts = {key: getattr(result, key) for key in result.attributes()}
    return xarray.Dataset(
        {name: (along, value) for name, (value, along) in arrays.items() if along != (name,)},
        coords={
            **{name: value for name, (value, along) in arrays.items() if along == (name,)},
            **labels,
        },
        attrs={key: fact for key, fact in facts.items() if isinstance(fact, str | int | float)},
    )


def _several(results: Result | Sequence[Result]) -> Sequence[Result]:
    several = results if isinstance(results, Sequence) else [results]
    if not several:
        raise ConfigError("a table needs at least one result")
    return several


def _cell(value: Any) -> Any:
    return guard_formula(value) if isinstance(value, str) else value


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
