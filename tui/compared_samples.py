"""The samples that make the difference between a cell of two maps; in a worker.

CKA is a sum over samples: the share of each of HSIC, times CKA. The difference of two maps is the
sum of what each sample gives to one less what it gives to the other; a sample that only one map has
gives nothing to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engramcka.errors import StoreError
from engramcka.tui.catalog import Entry
from engramcka.tui.cell_samples import (
    SHOWN,
    CellTerms,
    Progress,
    Span,
    cell_terms,
    column_text,
    count_to_half,
    sample_name,
    texts_of,
)

if TYPE_CHECKING:
    from engramcka.results import CkaMap


@dataclass(frozen=True)
class Cell:
    """A cell of a map."""

    entry: Entry
    cka: CkaMap
    row: int  # from 0
    column: int  # from 0


@dataclass(frozen=True)
class ComparedSample:
    """One sample with what it gives to the similarity in either map."""

    name: str
    token: str
    document: str
    first: float  # of the first map's CKA; 0 where it is not in it
    second: float
    span: Span | None

    @property
    def apart(self) -> float:
        """What it gives to the first less what it gives to the second."""
        return self.first - self.second


@dataclass(frozen=True)
class ComparedSamples:
    """The samples of a cell of two maps, the most important first."""

    first: float  # CKA
    second: float
    both: int  # samples that are in both maps
    alone: tuple[int, int]  # samples that are in the first, the second only
    half: int  # how many samples, by size, make half of all that differs; 0 for none
    samples: tuple[ComparedSample, ...]
    subtracted: bool  # whether those come first that differ most, not those that give most
    no_text: str


def compared_samples(
    first: Cell, second: Cell, subtracted: bool, on_progress: Progress
) -> ComparedSamples:
    """The samples that differ most between a cell of two maps, or give most to either.

    Args:
        first: a cell of the one.
        second: the cell of the same layers of the other.
        subtracted: those that differ most come first.
        on_progress: called with (samples done, samples in all); what it raises ends the work.

    Raises:
        EngramckaError: as `cell_samples`; or the maps are of other text.
    """
    import numpy as np

    cells = [
        cell_terms(one.entry, one.cka, one.row, one.column, on_progress) for one in (first, second)
    ]
    corpora = {cell.corpus for cell in cells} - {None}
    if len(corpora) > 1:
        raise StoreError(
            "the two maps are of other text, so that no sample is in both; enter on one of them "
            "lists its samples"
        )
    rows = [_rows(cell) for cell in cells]
    known = list(dict.fromkeys([*rows[0], *rows[1]]))
    given = np.zeros((2, len(known)))
    for side, cell in enumerate(cells):
        values = cell.found.shares * cell.found.similarity
        places = [rows[side].get(one, -1) for one in known]
        given[side] = np.where(np.array(places) >= 0, values[places], 0.0)
    apart = np.abs(given[0] - given[1])
    order = np.argsort(-(apart if subtracted else np.abs(given).max(axis=0)), kind="stable")
    chosen = order[:SHOWN].tolist()
    samples, no_text = _shown([(known[i], *given[:, i].tolist()) for i in chosen], cells, rows)
    half = count_to_half(apart)
    both = len(rows[0].keys() & rows[1].keys())
    return ComparedSamples(
        cells[0].found.similarity,
        cells[1].found.similarity,
        both,
        (len(rows[0]) - both, len(rows[1]) - both),
        half,
        samples,
        subtracted,
        no_text,
    )


def _rows(cell: CellTerms) -> dict[Any, int]:
    """Which sample -> its row."""
    from engramcka.data.samples import identities

    try:
        return {one: row for row, one in identities(cell.table)}
    except KeyError as error:
        raise StoreError(f"{cell.run}: its samples have no column {error}") from error


def _shown(
    chosen: list[tuple[Any, float, float]], cells: list[CellTerms], rows: list[dict[Any, int]]
) -> tuple[tuple[ComparedSample, ...], str]:
    """The samples, with what each gives to either map, with their texts; and why some have none."""
    sides = [next(side for side in (0, 1) if one in rows[side]) for one, _, _ in chosen]
    texts, problems = [], []
    for side, cell in enumerate(cells):
        mine = [
            rows[side][one] for (one, _, _), of in zip(chosen, sides, strict=True) if of == side
        ]
        found, problem = texts_of(cell.run, cell.table, mine) if mine else ({}, "")
        texts.append(found)
        problems.append(problem)
    samples = []
    for (one, first, second), side in zip(chosen, sides, strict=True):
        table, row = cells[side].table, rows[side][one]
        token = repr(column_text(table, "token", row)) if "token" in table else ""
        name, document = sample_name(table, row), column_text(table, "document", row)
        samples.append(ComparedSample(name, token, document, first, second, texts[side].get(row)))
    return tuple(samples), next(filter(None, problems), "")
