"""Stage baseline: what of a map is there without training, without context, or by another seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from engramcka.config import ComparisonTable
from engramcka.config.baselines import TOKENS, title_of
from engramcka.config.map_tables import MapOf
from engramcka.errors import ComparisonError
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import CheckpointPair, RunSpec
from engramcka.pipeline.stages.maps import as_input, map_name
from engramcka.pipeline.tasks import Task
from engramcka.progress import TaskProgress
from engramcka.stores import provenance, results


def baseline_tasks(spec: RunSpec) -> Iterator[Task]:
    """One task a map that has baselines, after all of its maps; of a series for the last one."""
    for _, _, table in spec.config.maps:
        for one in table.maps if table.baselines else ():
            yield _task(spec, table, one)


def _task(spec: RunSpec, table: ComparisonTable, one: MapOf) -> Task:
    own = next(pair for pair in spec.pairs(table) if pair.name == one.name)
    maps = [(table, own), *_maps(spec, table, one)]
    inputs = {
        "baselines": list(table.baselines),
        "maps": [as_input(spec, made, pair) for made, pair in maps],
    }
    return Task(
        stage="baseline",
        name=one.name,
        total=1,
        unit="parts",
        inputs=inputs,
        is_done=partial(spec.is_stored, "baseline", one.name, inputs),
        work=partial(_collect, table=table, one=one, inputs=inputs),
        needs=tuple(map_name(made, pair) for made, pair in maps),
    )


def _maps(
    spec: RunSpec, table: ComparisonTable, one: MapOf
) -> Iterator[tuple[ComparisonTable, CheckpointPair]]:
    for baseline in table.baselines:
        made = spec.config.baseline_map(table, one, baseline)
        if made is not None:
            (pair,) = spec.pairs(made)
            yield made, pair


def _collect(
    context: Context,
    progress: TaskProgress,
    *,
    table: ComparisonTable,
    one: MapOf,
    inputs: Mapping[str, Any],
) -> None:
    """Read the maps and store what they say together.

    Raises:
        ConfigError: a baseline has other layers than the map.
    """
    from engramcka.results import Baseline

    config, kind = context.config, table.kind
    titles: dict[str, str] = {}  # what each baseline is called -> its map
    for baseline in table.baselines:
        made = config.baseline_map(table, one, baseline)
        if made is not None:
            other = baseline if baseline in config.models else one.x
            title = title_of(baseline, config.label(one.y), config.label(other))
            titles[f"{title} ({baseline})" if title in titles else title] = made.maps[0].name
    read = partial(results.read_result, context.results, kind)
    try:
        found = Baseline.of(
            read(one.name),
            {title: read(name) for title, name in titles.items()},
            [f"{kind}/{name}" for name in (one.name, *titles.values())],
            tokens=title_of(TOKENS, "", "") if TOKENS in table.baselines else "",
            provenance={"versions": provenance.versions()},
        )
    except ComparisonError as error:
        problem = f"baseline {one.name}: {error}"
        raise config.error((*config.place_of(table), "baselines"), problem) from error
    results.write_result(context.results, one.name, found, inputs)
    progress.update(progress.total, info=f"{len(found.titles) - 1} baselines")
