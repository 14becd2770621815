"""The kinds of results there are: the one list that stores, figures, commands and the app read.

Imports no NumPy, so that a folder of a thousand runs is listed at once. To add a kind see
CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engramcka.results.base import Result


@dataclass(frozen=True)
class Kind:
    """One kind of result: its names, and how the results of a run are shown."""

    name: str
    """On the command line, in a store, and of its modules results/NAME.py and figures/NAME.py."""
    class_name: str
    together: bool = False
    """Whether all results of a run may stand in one figure, under the kind's name alone."""
    is_one_figure: bool = False
    """Whether a run draws them so by itself; else it draws each."""
    is_finding: bool = True
    """Whether a run's summary says it; else it belongs to what was done on the way."""
    version: int = 2
    """Of the stored form; 2 is the first with a manifest."""

    @property
    def result(self) -> type[Result]:
        """Its dataclass, from the module that is named after the kind."""
        from engramcka.results.base import part

        found: type[Result] = getattr(part("results", self.name), self.class_name)
        return found


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("cka", "CkaMap"),
        Kind("map", "SimilarityMap"),
        Kind("baseline", "Baseline"),
        Kind("robustness", "Robustness"),
        Kind("matrix", "ModelMatrix"),
        Kind("lens", "LensCurve", together=True, is_one_figure=True),
        Kind("gates", "GateMap"),
        Kind("memory", "MemoryAblation", together=True),
        Kind("sweep", "LossSweep"),
        Kind("allocation", "AllocationSweep", together=True),
        Kind("slots", "SlotSweep", together=True),
        Kind("training", "TrainingCurve", together=True, is_one_figure=True, is_finding=False),
    )
}


MAPS = ("cka", "map")
"""The kinds that are maps of layers against layers, which may stand beside and in place of one
another: CKA, and every other measure."""


def kind_of(result: Any) -> Kind:
    """The kind of a result.

    Raises:
        TypeError: it is none.
    """
    for kind in KINDS.values():
        if type(result).__name__ == kind.class_name and isinstance(result, kind.result):
            return kind
    raise TypeError(f"a {type(result).__name__} is no result")
