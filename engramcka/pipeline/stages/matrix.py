"""Stage matrix: one number for each pair of a set of models, read off the pair's map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engramcka.config import MatrixTable
from engramcka.pipeline.context import Context
from engramcka.pipeline.sources import Checkpoint
from engramcka.pipeline.spec import MatrixPair, RunSpec, label_of
from engramcka.pipeline.stages.maps import as_input, map_name
from engramcka.pipeline.tasks import Task
from engramcka.plain_text import one_line
from engramcka.progress import TaskProgress
from engramcka.stores import provenance, results


def matrix_task(spec: RunSpec, table: MatrixTable) -> Task:
    """One task, after those of its maps; done again when one of these changes."""
    members = _labels(spec.members(table.table))
    pairs = spec.matrix_pairs(table.table)
    inputs = {
        "score": table.score,
        "labels": members,
        "pairs": [
            {
                "models": [one.store for one in pair.members],
                **as_input(spec, pair.table, pair.pair),
            }
            for pair in pairs
        ],
    }  # fmt: skip
    return Task(
        stage="matrix",
        name=table.result_name,
        total=len(pairs),
        unit="pairs",
        inputs=inputs,
        is_done=partial(spec.is_stored, "matrix", table.result_name, inputs),
        work=partial(_collect, table=table, pairs=pairs, labels=members, inputs=inputs),
        needs=tuple(map_name(pair.table, pair.pair) for pair in pairs),
    )


def _labels(members: Sequence[Checkpoint]) -> dict[str, str]:
    """What each is called by its store; with the store where two have one label."""
    labels = [one_line(label_of(one)) for one in members]
    return {
        one.store: label if labels.count(label) == 1 else f"{label} ({one.store})"
        for one, label in zip(members, labels, strict=True)
    }


def _collect(
    context: Context,
    progress: TaskProgress,
    *,
    table: MatrixTable,
    pairs: Sequence[MatrixPair],
    labels: Mapping[str, str],
    inputs: Mapping[str, Any],
) -> None:
    """Read the maps and store the number of each."""
    from engramcka.results import ModelMatrix, PairScore

    scores = {}
    for done, one in enumerate(pairs):
        y, x = (member.store for member in one.members)
        found = results.read_result(context.results, one.table.kind, one.pair.name)
        scores[y, x] = PairScore.of(found, table.score, map_name(one.table, one.pair))
        progress.update(done + 1)
    found = ModelMatrix.of(scores, labels, {"versions": provenance.versions()})
    results.write_result(context.results, table.result_name, found, inputs)
    progress.update(progress.total, info=f"{len(labels)} models")
    for warning in found.warnings:
        progress.note("warning", warning)
