"""Which rows of activation stores a config's ``where`` chooses.

Knows nothing of what is computed from them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.config import Config
from engramcka.config.source import KeyPath
from engramcka.config.where import Test, parse_where

_SHOWN = 12  # values named in a message at most


def rows_where(
    config: Config, path: KeyPath, where: str, tables: Sequence[Mapping[str, Any]]
) -> list[npt.NDArray[np.int64]]:
    """Rows of each sample table that a condition chooses; all of them if it is empty.

    Args:
        config: for messages.
        path: where in it the condition stands.
        where: the condition, see `engramcka.config.where`.
        tables: column name -> (samples,) array.

    Raises:
        ConfigError: a column that a table has not got, or a value that is in none of them.
    """
    if not where:
        return [np.arange(len(next(iter(table.values())))) for table in tables]
    condition = parse_where(where)
    for test in condition.tests():
        _check_column(config, path, test, tables)
        _check_values(config, path, test, tables)
    return [np.flatnonzero(condition.mask(table)) for table in tables]


def _check_column(
    config: Config, path: KeyPath, test: Test, tables: Sequence[Mapping[str, Any]]
) -> None:
    for table in tables:
        if test.column not in table:
            near = difflib.get_close_matches(test.column, table, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise config.error(
                path, f"no column {test.column!r}", f"{hint}allowed: {', '.join(table)}"
            )
        is_number = np.asarray(table[test.column]).dtype.kind in "iuf"
        for value in test.values:
            if is_number == isinstance(value, str):
                kind = "numbers" if is_number else "text, in quotes"
                raise config.error(
                    path, f"found {test.column} against {value!r}", f"allowed: {kind}"
                )


def _check_values(
    config: Config, path: KeyPath, test: Test, tables: Sequence[Mapping[str, Any]]
) -> None:
    """A misspelt value would choose nothing, or everything, without a word."""
    there = {value for table in tables for value in np.asarray(table[test.column]).tolist()}
    for value in test.values:
        if value not in there:
            names = sorted(map(str, there))
            near = difflib.get_close_matches(str(value), names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            more = ", .." if len(names) > _SHOWN else ""
            raise config.error(
                path,
                f"no sample has {test.column} = {value!r}",
                f"{hint}there are: {', '.join(map(repr, names[:_SHOWN]))}{more}",
            )
