"""A run as pieces of work, each with all that it is made from.

A piece is done when what it makes is on disk and was made from the same inputs. Knows nothing of
how a piece is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from engramcka.errors import StoreError

if TYPE_CHECKING:
    from engramcka.pipeline.context import Context
    from engramcka.progress import Task

Ranks = Literal["first", "all", "each", "as one"]
Stage = Literal["tokenizer", "train", "extract", "cka", "lens", "sweep", "allocation", "figures"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Piece:
    """One piece of work."""

    stage: Stage
    name: str
    total: int  # steps of ``unit`` it takes
    unit: str
    inputs: Mapping[str, Any]  # JSON: all that decides what it makes
    is_done: Callable[[], bool]
    work: Callable[[Context, Task], None]
    # Of several ranks, who works on it: the first alone; all of them, each on its part; for pieces
    # that need nothing of each other and follow one another, each rank on some of them; or all of
    # them in step, with a model that they hold as one, which needs several.
    ranks: Ranks = "first"
    makes: str = ""  # what pieces that need it call what it makes; STAGE/NAME if left out
    needs: tuple[str, ...] = ()  # without these it cannot be made
    uses: tuple[str, ...] = ()  # trainings that it is made of, as far as they succeed

    def __post_init__(self) -> None:
        if not self.makes:
            object.__setattr__(self, "makes", f"{self.stage}/{self.name}")


def refuse_other_inputs(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on where something is in the way that was made from other inputs.

    Raises:
        StoreError: names the first key that differs and both its values.
    """
    difference = first_difference(found, wanted)
    if difference is not None:
        key, was, now = difference
        raise StoreError(
            f"{what}: made with {key} = {was!r}, now {key} = {now!r}; choose another run.dir, or "
            "delete it to make it anew",
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
