"""Which samples of activation stores a config's ``where`` chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.config import Config
from engramcka.config.analysis_tables import ColumnTest, column_tests
from engramcka.config.tables import KeyPath
from engramcka.plain_text import did_you_mean

_SHOWN = 12  # values named in a message at most


def rows_where(
    config: Config, path: KeyPath, where: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]
) -> list[npt.NDArray[np.int64]]:
    """Rows of each sample table that satisfy all conditions; all rows if there are none.

    Args:
        config: for messages.
        path: where in it the conditions stand.
        where: the conditions, see `engramcka.config.analysis_tables.Where`.
        tables: column name -> (samples,) array.

    Raises:
        ConfigError: a column that a table has not got, or a value that is in none of them.
    """
    rows = [np.ones(len(next(iter(table.values()))), dtype=bool) for table in tables]
    for test in column_tests(where):
        _check(config, (*path, test.column), test, tables)
        for chosen, table in zip(rows, tables, strict=True):
            column = table[test.column]
            found = np.logical_or.reduce([column == value for value in test.values])
            chosen &= ~found if test.is_negated else found
    return [np.flatnonzero(chosen) for chosen in rows]


def _check(
    config: Config, path: KeyPath, test: ColumnTest, tables: Sequence[Mapping[str, Any]]
) -> None:
    """A misspelt column or value would choose nothing, or everything, without a message."""
    for table in tables:
        if test.column not in table:
            hint = did_you_mean(test.column, table)
            allowed = f"{hint}allowed: {', '.join(table)}"
            raise config.error(path, f"no column {test.column!r}", allowed)
        is_number = np.asarray(table[test.column]).dtype.kind in "iuf"
        for value in test.values:
            if is_number == isinstance(value, str):
                kind = "numbers" if is_number else "text, in quotes"
                found = f"found {test.column} against {value!r}"
                raise config.error(path, found, f"allowed: {kind}")
    there = sorted({value for table in tables for value in np.asarray(table[test.column]).tolist()})
    for value in test.values:
        if value not in there:
            hint = did_you_mean(value, there) if isinstance(value, str) else ""
            more = ", .." if len(there) > _SHOWN else ""
            names = ", ".join(map(repr, there[:_SHOWN]))
            raise config.error(
                path, f"no sample has {test.column} = {value!r}", f"{hint}there are: {names}{more}"
            )
