"""Texts of the header and of borders: where the user is, what a result is made of."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from engramcka.results import AllocationSweep, CkaMap, GateMap, LensCurve, LossSweep
from engramcka.tui.loading import Broken, Loaded, Several
from engramcka.tui.terminal import clean, fixed, shorten


def header_line(left: str, right: str, width: int) -> str:
    """Left and right text on one line; the left one is shortened first."""
    width = max(width - 2, 1)
    right = shorten(right, width)
    room = width - len(right) - 2
    return f"{fixed(left, room)}  {right}" if room > 12 else shorten(left, width)


def border_text(text: str) -> Content | None:
    """A name for a border's title, in which no part is markup."""
    text = clean(text)
    return Content(text) if text else None


def header_facts(found: Loaded | Broken | None) -> str:
    """What the header says about a result."""
    if not isinstance(found, Loaded) or found.entry.kind == "log":
        return ""
    return result_facts(found.value)


def sides(found: Loaded | Broken | None) -> Content | None:
    """Which model is on which side of a map."""
    if not isinstance(found, Loaded) or found.entry.kind not in ("cka", "series"):
        return None
    value = found.value
    if isinstance(value, Several):
        value = next(iter(value.values.values()))
    return border_text(f"rows {value.y_label}, columns {value.x_label}")


def map_facts(cka: CkaMap) -> str:
    """The map's size and how it was computed, for the header."""
    rows, columns = cka.similarity.shape
    parts = [f"{rows} x {columns}", cka.estimator]
    if cka.kernel != "linear":
        parts.append(cka.kernel)
    if cka.n_samples:
        parts.append(f"n={cka.n_samples}")
    return "  ".join(parts)


def sweep_facts(sweep: LossSweep) -> str:
    """The sweep's size, for the header."""
    seeds = len(sweep.seeds)
    return f"{len(sweep.layers)} layers  {seeds} seed{'s' * (seeds != 1)}  {sweep.unit}"


def result_facts(value: object) -> str:
    """Size and origin of any result, for the header."""
    if isinstance(value, CkaMap):
        return map_facts(value)
    if isinstance(value, LossSweep):
        return sweep_facts(value)
    if isinstance(value, AllocationSweep):
        seeds = len(value.seeds)
        return f"{len(value.rho)} points  {seeds} seed{'s' * (seeds != 1)}  {value.unit}"
    if isinstance(value, GateMap):
        counts = (len(value.layers), value.alpha.shape[2], len(value.texts))
        names = ("module", "stream", "text")
        pairs = zip(counts, names, strict=True)
        return "  ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in pairs)
    return _several_facts(list(getattr(value, "values", {}).values()))


def _several_facts(values: Sequence[object]) -> str:
    first = values[0] if values else None
    if isinstance(first, CkaMap):
        return f"{len(values)} checkpoints  {map_facts(first)}"
    models = f"{len(values)} model{'s' * (len(values) != 1)}"
    if isinstance(first, LensCurve) and first.n_tokens:
        return f"{models}  {len(first.layers)} layers  n={first.n_tokens}"
    return models if values else ""
