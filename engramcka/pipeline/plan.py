"""A config as tasks in the order they are done. Loads neither torch nor models.

Everything that can be refused is refused here, before anything is written: unknown presets,
insertion layers that a model has not, stores that were made from another config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engramcka.config import Config
from engramcka.pipeline.checks import check
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.baselines import baseline_tasks
from engramcka.pipeline.stages.extract import extract_tasks
from engramcka.pipeline.stages.figures import figure_tasks
from engramcka.pipeline.stages.gates import gates_tasks
from engramcka.pipeline.stages.lens import lens_tasks
from engramcka.pipeline.stages.maps import map_tasks
from engramcka.pipeline.stages.matrix import matrix_task
from engramcka.pipeline.stages.robustness import robustness_task
from engramcka.pipeline.stages.sweeps import allocation_tasks, slots_tasks, sweep_tasks
from engramcka.pipeline.stages.train import tokenizer_task, train_tasks
from engramcka.pipeline.tasks import Task


def make_plan(config: Config, context: Context | None = None) -> list[Task]:
    """The tasks of a run, in order.

    Args:
        config: the run's.
        context: of a run of the config, which keeps the text where it is read for its samples.

    Raises:
        ConfigError: a preset or a layer that does not exist.
        StoreError: something in the run directory was made from another config.
    """
    spec = RunSpec(config, context)
    check(spec)
    return [*_each_training_once(_tasks(spec)), *figure_tasks(config, spec.run)]


def _tasks(spec: RunSpec) -> Iterator[Task]:
    config = spec.config
    backbones = [source.backbone for source in spec.models.values() if source.backbone]
    if any(backbone.own_tokenizer for backbone in backbones):
        yield tokenizer_task(spec)
    yield from train_tasks(spec)
    for name in extracted_models(config):
        yield from extract_tasks(spec, name)
    for _, _, table in config.maps:
        yield from map_tasks(spec, table)
    yield from baseline_tasks(spec)
    for robustness in config.robustness:
        yield robustness_task(spec, robustness)
    for matrix in config.matrix:
        yield matrix_task(spec, matrix)
    for lens in config.lens:
        yield from lens_tasks(spec, lens)
    for gates in config.gates:
        yield from gates_tasks(spec, gates)
    for sweep in config.sweep:
        yield from sweep_tasks(spec, sweep)
    for allocation in config.allocation:
        yield from allocation_tasks(spec, allocation)
    for slots in config.slots:
        yield from slots_tasks(spec, slots)


def _each_training_once(tasks: Iterable[Task]) -> Iterator[Task]:
    """Models and points of sweeps made from the same share one training, the first one's."""
    seen: set[str] = set()
    for task in tasks:
        if not task.is_training:
            yield task
        elif task.makes not in seen:
            seen.add(task.makes)
            yield task


def extracted_models(config: Config) -> list[str]:
    """The models whose hidden states are stored: those of maps and lenses, and `unnamed_models`."""
    wanted = {*_compared(config), *unnamed_models(config)}
    return [name for name in config.all_models if name in wanted]


def unnamed_models(config: Config) -> list[str]:
    """The models that no table of the config names: what is wanted of them is hidden states."""
    named = _compared(config)
    named |= {name for gates in config.gates for name in gates.models}
    named |= {sweep.model for _, _, sweep in config.sweeps}
    named |= {name for sweep in config.sweep for name in sweep.references}
    return [name for name in config.models if name not in named]


def _compared(config: Config) -> set[str]:
    names = {name for _, _, table in config.maps for one in table.maps for name in (one.y, one.x)}
    names |= {name for matrix in config.matrix for name in matrix.models}
    return names | {name for lens in config.lens for name in (*lens.models, *lens.memory_off)}
