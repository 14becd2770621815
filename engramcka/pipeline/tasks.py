"""A run as tasks, each with all that its result is made from, and the tasks that failed.

A task is done when what it makes is on disk and was made from the same inputs.

A training whose loss is no longer a number, or that needs more memory than there is, does not end
the run: the other tasks are still done. Where all ranks train one model together, a rank that runs
out of memory ends it, since the others would wait for that rank. Every other error (a full disk, a
wrong config) ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from engramcka.errors import EngramckaError, OutOfMemory, StoreError, TrainingError

if TYPE_CHECKING:
    from engramcka.pipeline.context import Context
    from engramcka.pipeline.trainings import TrainingSpec
    from engramcka.progress import TaskProgress

Ranks = Literal["first", "all", "each", "as one"]
Stage = Literal[
    "tokenizer",
    "train",
    "extract",
    "cka",
    "map",
    "baseline",
    "robustness",
    "matrix",
    "lens",
    "sweep",
    "allocation",
    "slots",
    "figures",
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Task:
    """One task of a run."""

    stage: Stage
    name: str
    total: int  # steps of ``unit`` it takes
    unit: str
    inputs: Mapping[str, Any]  # JSON: all that decides what it makes
    is_done: Callable[[], bool]
    work: Callable[[Context, TaskProgress], None]
    # Of several ranks, who works on it: the first alone; all of them, each on its part; for tasks
    # that need nothing of each other and follow one another, each rank on some of them; or all of
    # them in step, with a model that they hold as one, which needs several.
    ranks: Ranks = "first"
    makes: str = ""  # name of what it makes, for tasks that need it; STAGE/NAME if left out
    needs: tuple[str, ...] = ()  # without these it cannot be made
    uses: tuple[str, ...] = ()  # trainings that it is made of, as far as they succeed
    training: TrainingSpec | None = None  # that it does

    def __post_init__(self) -> None:
        if not self.makes:
            object.__setattr__(self, "makes", f"{self.stage}/{self.name}")

    @property
    def is_training(self) -> bool:
        """Whether it trains a model, for itself or as a point of a sweep."""
        return self.training is not None


def refuse_other_inputs(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on where something is there that was made from other inputs.

    Raises:
        StoreError: names the first key that differs and both its values.
    """
    difference = first_difference(found, wanted)
    if difference is not None:
        key, was, now = difference
        raise StoreError(
            f"{what}: made with {key} = {was!r}, now {key} = {now!r}; choose another run.dir, or "
            "delete it to make it again",
            exit_code=2,
        )


def first_difference(found: Any, wanted: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """(dotted key, value found, value wanted) of the first place where two JSON values differ."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inside = first_difference(
                found.get(key), wanted.get(key), f"{path}.{key}" if path else str(key)
            )
            if inside is not None:
                return inside
        return None
    return None if found == wanted else (path, found, wanted)


Failed = list[str]  # [what the task would have made, one line for the user]; JSON


@dataclass
class Failures:
    """The tasks of a run that have failed so far, on all ranks, and what is lost with them."""

    lines: list[str] = field(default_factory=list)  # one a failed task
    lost: set[str] = field(default_factory=set)  # what they, and tasks that need it, would make
    skipped: int = 0

    def add(self, failed: Sequence[Failed]) -> None:
        """Add the failures of all ranks."""
        self.lost |= {made for made, _ in failed}
        self.lines += [line for _, line in failed]

    def runnable(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that can be done; the others are lost, with all that needs them."""
        kept = [task for task in tasks if not self.lost & set(task.needs)]
        self.lost |= {task.makes for task in tasks if task not in kept}
        self.skipped += len(tasks) - len(kept)
        return kept


def failure(task: Task, error: EngramckaError) -> Failed | None:
    """A failure that the run can go on after; None for one that ends it."""
    is_alone = task.ranks == "each"
    if isinstance(error, TrainingError) and (is_alone or not isinstance(error, OutOfMemory)):
        return [task.makes, f"{task.stage} {task.name}: {error}"]
    return None
