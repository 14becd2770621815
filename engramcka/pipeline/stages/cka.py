"""Stage cka: one similarity map from two activation stores."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import CkaTable, Config
from engramcka.errors import ComparisonError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.extract import extract_inputs, finished_store
from engramcka.pipeline.units import Unit
from engramcka.pipeline.where import rows_where
from engramcka.progress import Task
from engramcka.stores import layout, provenance, results

FEWEST = 4  # samples that the unbiased estimators need


def cka_piece(config: Config, run: Path, cka: CkaTable, units: Mapping[str, Unit]) -> Piece:
    """One map; made anew when what it is made from changes."""
    inputs = {
        "y": extract_inputs(config, cka.y, units.get(cka.y)),
        "x": extract_inputs(config, cka.x, units.get(cka.x)),
        **cka.model_dump(mode="json", exclude={"name", "y", "x"}),
        "labels": [config.label(cka.y), config.label(cka.x)],
    }
    path = run / layout.RESULTS
    return Piece(
        stage="cka",
        name=cka.name,
        total=1,
        unit="parts",
        inputs=inputs,
        is_done=lambda: results.read_inputs(path, "cka", cka.name) == inputs,
        work=partial(compute_map, cka=cka, inputs=inputs),
        needs=(f"extract/{cka.y}", f"extract/{cka.x}"),
    )


def compute_map(context: Context, task: Task, *, cka: CkaTable, inputs: Mapping[str, Any]) -> None:
    """Compute one CKA map from two activation stores and store it."""
    from dataclasses import replace

    from engramcka.data import common_rows
    from engramcka.similarity import cka_map
    from engramcka.stores import write_cka

    stores = {side: finished_store(context, getattr(cka, side)) for side in ("y", "x")}
    y, x = stores["y"], stores["x"]
    if y.attributes["corpus"] != x.attributes["corpus"]:
        raise ComparisonError(f"cka {cka.name}: {cka.y} and {cka.x} were extracted from other text")
    path = ("cka", context.config.cka.index(cka), "where")
    chosen = rows_where(context.config, path, cka.where, (y.samples, x.samples))
    tables = [
        {name: column[rows] for name, column in store.samples.items()}
        for store, rows in zip((y, x), chosen, strict=True)
    ]
    y_rows, x_rows = common_rows(*tables)
    lost = max(map(len, chosen)) - len(y_rows)
    y_rows, x_rows = chosen[0][y_rows], chosen[1][x_rows]
    _require_samples(cka, len(y_rows))
    result = cka_map(
        [layer.take(y_rows) for layer in y.layers.values()],
        [layer.take(x_rows) for layer in x.layers.values()],
        estimator=cka.estimator,
        batch_size=cka.batch_size,
        kernel=cka.kernel,
        standardize=cka.standardize,
        nonfinite=cka.nonfinite,
        permutations=cka.permutations,
        seed=context.config.run.seed,
        device=context.device,
        y_label=context.config.label(cka.y),
        x_label=context.config.label(cka.x),
        y_layers=tuple(y.layers),
        x_layers=tuple(x.layers),
        on_progress=lambda done, total: task.update(done, total),
    )
    facts: dict[str, Any] = {
        side: {
            key: store.attributes.get(key)
            for key in ("label", "model", "versions", "device", "skipped")
        }
        for side, store in stores.items()
    }
    facts["versions"] = provenance.versions()
    facts["device"] = context.device
    facts["unmatched_samples"] = lost
    result = replace(result, provenance=facts, where=cka.where)
    write_cka(context.results, cka.name, result, inputs)
    task.update(task.total, info=f"n = {len(y_rows)}")


def _require_samples(cka: CkaTable, found: int) -> None:
    """Refuse too few samples in the words of the config, before the maths does in its own."""
    if found < FEWEST:
        where = f" where {cka.where}" if cka.where else ""
        raise ComparisonError(
            f"cka {cka.name}: {cka.y} and {cka.x} share {found} samples{where}; at least {FEWEST} "
            "are needed"
        )
