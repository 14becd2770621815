"""Results as tables: CSV for any tool, LaTeX (booktabs) for a paper.

Knows results and the one output file, no figures. Layers count from 1 here; a CSV keeps every digit
that float64 has, a LaTeX table rounds.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.errors import ConfigError
from engramcka.figures.files import checked_extension, write_whole
from engramcka.figures.latex import latex_table
from engramcka.figures.rows import Row, rows_of
from engramcka.text_rows import guard_formula

TABLE_FORMATS = ("csv", "tex")
"""File extensions that a table can be written with."""


def to_csv(results: Any | Sequence[Any]) -> str:
    """The numbers of one result, or of several of one type, each with its label.

    One line a cell of a map (with its interval), a layer and seed of a sweep (its baseline,
    references and ablations follow with an empty layer and their name), a rho and seed, a layer of
    a lens curve, a step of a training, a token class, or a type, module and stream of gates. A
    value that does not exist is empty.
    """
    return rows_to_csv(row for result in _several(results) for row in rows_of(result))


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


def to_latex(results: Any | Sequence[Any], *, k: int = 5, digits: int | None = None) -> str:
    """A booktabs table of one result, or of several lens curves, trainings, ablations or maps.

    A map's table says for each layer of x the soft alignment (with its 95 % interval where there
    is a jackknife) and the most similar layer of y with its CKA; that of several maps has a row a
    checkpoint. ``k`` is that of the alignment; ``digits`` stand after the point (without it, as
    many as the kind usually has).

    Raises:
        ComparisonError: the results have no table in common.
    """
    return latex_table(_several(results), k, digits)


def save_table(results: Any | Sequence[Any], path: str | os.PathLike[str], **options: Any) -> Path:
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


def _several(results: Any | Sequence[Any]) -> Sequence[Any]:
    several = results if isinstance(results, Sequence) else [results]
    if not several:
        raise ConfigError("a table needs at least one result")
    return several


def _cell(value: Any) -> Any:
    return guard_formula(value) if isinstance(value, str) else value


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
