"""Which samples of activation stores a config's ``where`` chooses.

`check_where` asks before a run what is known then: the columns, and the values of all but those
that a model's tokenizer makes; `rows_where` asks the stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from engramcka.config import Config
from engramcka.config.analysis_tables import ColumnTest, column_tests, where_text
from engramcka.config.tables import KeyPath
from engramcka.data.samples import SampleRow, rows_that_fit
from engramcka.errors import DataError, StoreError
from engramcka.pipeline.context import Context, is_local
from engramcka.pipeline.sources import Source
from engramcka.pipeline.sources.activations import is_complete
from engramcka.pipeline.spec import RunSpec
from engramcka.plain_text import did_you_mean
from engramcka.stores import open_activations

FEWEST = 4  # samples that the unbiased estimators of a map need
Table = Mapping[str, Any]
"""A sample table: column name -> (samples,) array, or its dtype where its values are not known."""

_COLUMNS = {**get_type_hints(SampleRow), "token": str, "token_index": int}
_PLACES = ("document", "passage_start", "passage_end")  # columns of passages and their tokens alike
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
    tests = column_tests(where)
    for test in tests:
        _check(config, (*path, test.column), test, tables)
    return [rows_that_fit(tests, table) for table in tables]


@dataclass(frozen=True)
class _Condition:
    """A ``where`` table, and the models whose samples it is to choose from."""

    path: KeyPath
    where: Mapping[str, Any]
    models: tuple[str, ...]
    fewest: int  # samples that what is made of them needs


def check_where(spec: RunSpec, context: Context, *, fetch: bool = True) -> None:
    """Refuse conditions that choose no samples, or too few, as far as is known before the run.

    Args:
        spec: the run.
        context: of the run, whose text is read.
        fetch: also where it has to be fetched for that; else values are not asked for then.

    Raises:
        ConfigError: a column that there is not, a value that no sample has, or conditions that
            together leave too few.
    """
    tables: dict[str, Table | None] = {}
    for condition in _conditions(spec.config):
        for name in condition.models:
            if name not in tables:
                tables[name] = _known_table(spec.models[name], context, fetch)
        known = [found for name in condition.models if (found := tables[name]) is not None]
        _check_condition(spec.config, condition, known)


def _is_unknown(column: Any) -> bool:
    return isinstance(column, np.dtype)


def _conditions(config: Config) -> Iterator[_Condition]:
    for key, index, table in config.maps:
        for one in table.maps if table.where else ():
            yield _Condition((key, index, "where"), table.where, (one.y, one.x), FEWEST)
    for index, lens in enumerate(config.lens):
        for name in dict.fromkeys((*lens.models, *lens.memory_off)) if lens.where else ():
            yield _Condition(("lens", index, "where"), lens.where, (name,), 1)


def _known_table(source: Source, context: Context, fetch: bool) -> Table | None:
    """A model's samples as they are known before it runs; None where nothing is."""
    data = context.config.data
    try:
        if is_complete(source.last):
            return open_activations(source.last.path).samples
        found = source.sample_table()
    except (DataError, StoreError):  # whoever imports them says why
        return None
    if found is not None or not source.runs_here:
        return found
    columns: dict[str, Any] = {name: np.dtype(kind) for name, kind in _COLUMNS.items()}
    if fetch or is_local(data):
        drawn = context.samples.columns()
        # Of positions "all" passages are drawn, of which tokenizers make the samples.
        known = _PLACES if data.positions == "all" else drawn
        columns |= {name: drawn[name] for name in known}
    return columns


def _check_condition(config: Config, condition: _Condition, tables: Sequence[Table]) -> None:
    tests = column_tests(condition.where)
    for test in tests:
        _check(config, (*condition.path, test.column), test, tables)
    for table in tables:
        if config.data.positions == "all" and _is_unknown(table.get("token")):
            continue  # how many tokens passages give is not known
        if any(_is_unknown(table[test.column]) for test in tests):
            continue
        (rows,) = rows_where(config, condition.path, condition.where, [table])
        if len(rows) < condition.fewest:
            count = "no sample fits" if not len(rows) else f"{len(rows)} samples fit"
            raise config.error(
                condition.path,
                f"{count} {where_text(condition.where)}",
                f"at least {condition.fewest} are needed",
            )


def _check(
    config: Config, path: KeyPath, test: ColumnTest, tables: Sequence[Mapping[str, Any]]
) -> None:
    """A misspelt column or value would choose nothing, or everything, without a message.

    Of columns whose values are not known yet, only that they are there is asked.
    """
    for table in tables:
        if test.column not in table:
            hint = did_you_mean(test.column, table)
            allowed = f"{hint}allowed: {', '.join(table)}"
            raise config.error(path, f"no column {test.column!r}", allowed)
        column = table[test.column]
        kind = column.kind if _is_unknown(column) else np.asarray(column).dtype.kind
        is_number = kind in "iuf"
        for value in test.values:
            if is_number == isinstance(value, str):
                kind = "numbers" if is_number else "text, in quotes"
                found = f"found {test.column} against {value!r}"
                raise config.error(path, found, f"allowed: {kind}")
    if any(_is_unknown(table[test.column]) for table in tables):
        return
    there = sorted({value for table in tables for value in np.asarray(table[test.column]).tolist()})
    for value in test.values:
        if value not in there:
            hint = did_you_mean(value, there) if isinstance(value, str) else ""
            more = ", .." if len(there) > _SHOWN else ""
            names = ", ".join(map(repr, there[:_SHOWN]))
            raise config.error(
                path, f"no sample has {test.column} = {value!r}", f"{hint}there are: {names}{more}"
            )
