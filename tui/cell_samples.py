"""From a cell of a map to the samples that make it what it is, with their text; in a worker.

Reads the hidden states of two layers from the run's stores, a batch at a time, and the documents of
the samples shown from the files that the run's config names. No torch.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.errors import EngramckaError, StoreError
from engramcka.own_files import open_regular
from engramcka.plain_text import clean, first_line, without_controls
from engramcka.stores import layout, nodes
from engramcka.tui.catalog import Entry

if TYPE_CHECKING:
    from engramcka.results import CkaMap
    from engramcka.similarity import SampleTerms
    from engramcka.stores import ActivationStore

SHOWN = 40  # samples with the largest terms
AROUND = 400  # characters of a document on either side of a sample, at most
TEXT_COLUMNS = ("token", "entity")  # of a sample table: what to call a sample


class Stopped(Exception):
    """Nobody waits for the samples any more."""


@dataclass(frozen=True)
class Span:
    """A sample in its text."""

    before: str
    text: str
    after: str


@dataclass(frozen=True)
class ShownSample:
    """One sample with its part of the cell's similarity."""

    name: str  # its token with the entity that it is of, or its number
    token: str
    document: str
    term: float  # of HSIC
    share: float  # of the whole, with its sign
    partner: str  # the sample with which it gives most; "" where it is no sum over pairs
    partner_share: float  # of the whole, what that pair gives this sample
    span: Span | None  # None where the text is not known


@dataclass(frozen=True)
class CellSamples:
    """The samples of a cell, those with the largest terms first."""

    n_samples: int
    similarity: float
    samples: tuple[ShownSample, ...]
    half: int  # how many of the largest positive terms make half of the whole; 0 for none
    negative: float  # share of the whole that negative terms take off
    no_text: str  # why texts are not shown; "" where they are


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CellTerms:
    """A cell taken apart: the samples that its map is over, and the term of each."""

    run: Path
    table: Mapping[str, Any]  # (samples,) a column
    found: SampleTerms
    corpus: object  # of the hidden states; None where it is not known


def cell_samples(
    entry: Entry, cka: CkaMap, row: int, column: int, on_progress: Progress
) -> CellSamples:
    """The samples whose terms of a cell are largest.

    Args:
        entry: the map's.
        cka: the map.
        row: of the cell, from 0.
        column: of the cell, from 0.
        on_progress: called with (samples done, samples in all); what it raises ends the work.

    Raises:
        EngramckaError: the run does not keep the hidden states that the map was made from, or the
            map is no sum over samples; one sentence.
    """
    cell = cell_terms(entry, cka, row, column, on_progress)
    table, found = cell.table, cell.found
    chosen = found.largest(SHOWN).tolist()
    texts, no_text = texts_of(cell.run, table, chosen)
    shares = found.shares
    partners = [-1] * len(shares) if found.partner is None else found.partner.tolist()
    shown = tuple(
        ShownSample(
            name=sample_name(table, sample),
            token=repr(column_text(table, "token", sample)) if "token" in table else "",
            document=column_text(table, "document", sample),
            term=float(found.terms[sample]),
            share=float(shares[sample]),
            partner="" if partners[sample] < 0 else sample_name(table, partners[sample]),
            partner_share=(
                float(found.partner_terms[sample] / found.hsic)
                if found.partner_terms is not None
                else float("nan")
            ),
            span=texts.get(sample),
        )
        for sample in chosen
    )
    half = count_to_half(shares) if found.hsic > 0 else 0
    return CellSamples(
        len(shares), found.similarity, shown, half, float(shares[shares < 0].sum()), no_text
    )


def count_to_half(values: Any) -> int:
    """How many of the largest of (samples,) values come to half of their sum; 0 if it is none."""
    import numpy as np

    falling = np.cumsum(np.sort(values)[::-1])
    return int(np.searchsorted(falling, falling[-1] / 2)) + 1 if falling[-1] > 0 else 0


def cell_terms(
    entry: Entry, cka: CkaMap, row: int, column: int, on_progress: Progress
) -> CellTerms:
    """Every sample of a map with its term of a cell; arguments and errors as of `cell_samples`."""
    from engramcka.similarity.kept_samples import kept_samples
    from engramcka.similarity.terms import map_terms

    y, x = (_store(entry, side) for side in ("y", "x"))
    y_rows, x_rows = _common_rows(y, x, cka.where)
    if cka.n_dropped or cka.n_massive_dropped:
        sides = [
            [layer.take(rows) for layer in store.layers.values()]
            for store, rows in ((y, y_rows), (x, x_rows))
        ]
        kept = kept_samples(cka, sides[0], sides[1], on_progress)
        y_rows, x_rows = y_rows[kept], x_rows[kept]
    layers = [
        _layer(store, layer, rows)
        for store, layer, rows in (
            (y, cka.y_layers[row], y_rows),
            (x, cka.x_layers[column], x_rows),
        )
    ]
    table = {name: values[y_rows] for name, values in y.samples.items()}
    documents = table.get("document") if cka.n_documents is not None else None
    found = map_terms(cka, row, column, layers[0], layers[1], documents, on_progress)
    return CellTerms(entry.ref.run, table, found, y.attributes.get("corpus"))


def _store(entry: Entry, side: str) -> ActivationStore:
    """The hidden states that one side of a map was made from.

    Raises:
        StoreError: the run does not keep them.
    """
    from engramcka.stores import open_activations

    inputs = nodes.read_group(entry.path, entry.path).get(layout.INPUTS, {})
    wanted = inputs.get(side) if isinstance(inputs, dict) else None
    folder = entry.ref.run / layout.ACTIVATIONS
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".zarr"))
    except OSError:
        names = []
    for name in names if wanted else ():
        try:
            if nodes.read_group(folder / name, folder).get(layout.INPUTS) == wanted:
                return open_activations(folder / name)
        except StoreError:
            continue
    what = {"y": "rows", "x": "columns"}[side]
    raise StoreError(
        f"{folder}: the hidden states of the map's {what} are not kept here"
        + ("" if names else " (there are none)")
    )


def _layer(store: ActivationStore, layer: int, rows: Any) -> Any:
    found = store.layers.get(layer)
    if found is None:
        raise StoreError(f"{store.path}: there is no layer {layer} any more")
    return found.take(rows)


def _common_rows(y: ActivationStore, x: ActivationStore, where: str) -> tuple[Any, Any]:
    """Rows of both stores that are the same samples, in the order of y's, as the map has them."""
    from engramcka.config.analysis_tables import conditions_of
    from engramcka.data.samples import common_rows, rows_that_fit

    try:
        tests = conditions_of(where)
        chosen = rows_that_fit(tests, y.samples), rows_that_fit(tests, x.samples)
        return common_rows(y.samples, x.samples, chosen)
    except KeyError as error:
        raise StoreError(f"{y.path}: its samples have no column {error}") from error
    except ValueError as error:
        raise StoreError(f"which samples the map is of is not known: {error}") from error


def texts_of(run: Path, table: Mapping[str, Any], chosen: list[int]) -> tuple[dict[int, Span], str]:
    """Sample -> its text, and why some or all have none."""
    if not {"document", "start", "end", "passage_start", "passage_end"} <= table.keys():
        return {}, "the samples were imported without places in a text"
    wanted = {column_text(table, "document", sample) for sample in chosen}
    try:
        texts = _read_texts(run / layout.CONFIG, wanted)
    except EngramckaError as error:
        return {}, clean(error)
    except Exception as error:  # a text that others wrote may fail in any way
        return {}, clean(first_line(error))
    spans, other = {}, 0
    for sample in chosen:
        text = texts.get(column_text(table, "document", sample))
        span = None if text is None else _span(table, sample, text)
        if span is None:
            other += 1
        else:
            spans[sample] = span
    problem = f"the text has changed since: {other} of {len(chosen)} samples are not in it"
    return spans, problem if other else ""


def _read_texts(config: Path, documents: set[str]) -> dict[str, str]:
    """Of the run's config only what says which text it is about. No hub is asked: a data set that
    a run has fetched is in the cache."""
    from engramcka.config import DataTable
    from engramcka.data.corpora import find_texts

    with open_regular(config) as file:
        values = tomllib.loads(file.read().decode())
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when `datasets` is first imported
    table = DataTable.model_validate_json(json.dumps(values.get("data", {}), default=str))
    return find_texts(table, documents)


def _span(table: Mapping[str, Any], sample: int, text: str) -> Span | None:
    """A sample in its passage; None where another text stands there."""
    start, end, first, last = (
        int(table[name][sample]) for name in ("start", "end", "passage_start", "passage_end")
    )
    known = str(table["entity"][sample]) if "entity" in table else ""
    start = min(start, end - len(known))  # of positions "all" it is a token's last character
    inside = 0 <= first <= start < end <= last <= len(text)
    if not inside or (known and text[start:end] != known):
        return None
    first, last = max(first, start - AROUND), min(last, end + AROUND)
    return Span(_line(text[first:start]), _line(text[start:end]), _line(text[end:last]))


def _line(text: str) -> str:
    """A part of a text on one line; a blank at its ends stays."""
    return without_controls(re.sub(r"\s+", " ", text))


def sample_name(table: Mapping[str, Any], sample: int) -> str:
    """A sample's token, and the entity that it is of; its number where neither is known."""
    known = [column_text(table, column, sample)[:40] for column in TEXT_COLUMNS if column in table]
    return " of ".join(map(repr, dict.fromkeys(known))) or f"sample {sample + 1}"


def column_text(table: Mapping[str, Any], column: str, sample: int) -> str:
    """What a column says of a sample, made safe to show; "" where there is no such column."""
    return clean(table[column][sample]) if column in table else ""
