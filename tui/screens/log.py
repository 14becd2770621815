"""A run's log: each task with its progress, then the events, newest last.

`pinned` and `events_text` are pure functions of the events in log.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from engramcka.plain_text import clean
from engramcka.tui import readout
from engramcka.tui.terminal import Capabilities, cut, fitting, fixed
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import SPARKS

_BAR = 16  # characters of a progress bar
_SHOWN_EVENTS = 400
_FEWEST = 3  # losses that are drawn as a curve
_LOSS = re.compile(r"\bloss (-?[0-9.]+(?:e[-+]?[0-9]+)?)\b")
_MARKS = {"done": "✓", "failed": "✗", "progress": "▸", "start": "▸"}


@dataclass(frozen=True)
class TaskState:
    """The latest that the log says about one task."""

    stage: str
    name: str
    event: str
    done: float
    total: float
    unit: str
    seconds: float | None
    info: str
    rate: float = 0.0  # units a second since the first count of the task; 0 where unknown
    losses: tuple[float, ...] = ()  # that its progress told, in order

    @property
    def share(self) -> float:
        """Part that is done, 0 to 1."""
        if self.event == "done":
            return 1.0
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def is_going(self) -> bool:
        """Whether it has begun and not ended."""
        return self.event in ("start", "progress")

    @property
    def seconds_left(self) -> float | None:
        """At this rate from the last event on; None where it is not known."""
        if not self.is_going or self.rate <= 0 or self.done > self.total:
            return None
        return (self.total - self.done) / self.rate


def task_states(events: Sequence[dict[str, Any]]) -> list[TaskState]:
    """Every task of the last run in the log, in the order of their starts."""
    latest: dict[tuple[str, str], TaskState] = {}
    begun: dict[tuple[str, str], tuple[float, float]] = {}  # time of the first count, and the count
    losses: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("event") == "run":
            latest.clear()
            begun.clear()
            losses.clear()
        if "stage" in event and "name" in event and event.get("event") in _MARKS:
            key = (clean(event["stage"]), clean(event["name"]))
            found, at = _task_state(key, event), _seconds(event.get("time"))
            if event["event"] == "start":
                begun.pop(key, None)
                losses.pop(key, None)
            if told := _LOSS.search(found.info):
                losses.setdefault(key, []).append(float(told[1]))
            if "done" in event:  # a start does not say where a task that goes on begins
                begun.setdefault(key, (at, found.done))
            first, done = begun.get(key, (at, found.done))
            if at > first and found.done > done:
                found = replace(found, rate=(found.done - done) / (at - first))
            latest[key] = replace(found, losses=tuple(losses.get(key, ())))
    return list(latest.values())


def _task_state(key: tuple[str, str], event: dict[str, Any]) -> TaskState:
    seconds = event.get("seconds")
    return TaskState(
        *key,
        event=str(event["event"]),
        done=_number(event.get("done")),
        total=_number(event.get("total")),
        unit=clean(event.get("unit", "")),
        seconds=_number(seconds) if seconds is not None else None,
        info=clean(event.get("info", "")),
    )


def _seconds(time: object) -> float:
    """A time of the log in seconds; NaN where it is none."""
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("nan")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def task_line(task: TaskState, width: int, name_width: int = 34) -> str:
    """A task in one line: mark, bar, name, count, time, reading."""
    length = _BAR if width >= 60 else _BAR // 2
    full = round(task.share * length)
    bar = "█" * full + "░" * (length - full)
    count = f"{task.done:.0f}/{task.total:.0f} {task.unit}" if task.total else ""
    took = duration(task.seconds) if task.seconds is not None else ""
    left, speed = task.seconds_left, ""
    if left is not None:
        took, speed = f"{duration(left)} left", f"{task.rate:.3g} {task.unit}/s"
    curve = loss_curve(task.losses) if width >= 60 else ""
    name = fixed(f"{task.stage} {task.name}", name_width)
    first = f"{_MARKS[task.event]} {bar} {name} "
    rest = fitting(filter(None, (count, took, curve, speed)), width - cell_len(first))
    return cut(f"{first}{rest}  {task.info}".rstrip(), width)


def loss_curve(losses: Sequence[float]) -> str:
    """Losses as a sparkline from lowest to highest; "" for fewer than three, or all alike."""
    there = [loss for loss in losses if isfinite(loss)]
    low, high = min(there, default=0.0), max(there, default=0.0)
    if len(there) < _FEWEST or low == high:
        return ""
    heights = readout.spark_levels(np.array(losses) - low, _BAR, high - low)
    return "".join("?" if h == readout.MISSING else SPARKS[max(h, 1)] for h in heights)


def duration(seconds: float) -> str:
    """A time span with the two largest units that it needs."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def event_line(event: dict[str, Any], width: int) -> str:
    """One event: local time, what happened, to what, and the reading that came with it."""
    clock = _clock(event.get("time"))
    words = [clock if width >= 60 else clock[6:], f"{clean(event.get('event', '?')):<9}"]
    words += [clean(event[key]) for key in ("stage", "name") if key in event]
    if "total" in event and event.get("event") == "progress":
        words.append(f"{event.get('done')}/{event['total']} {event.get('unit', '')}")
    if isinstance(event.get("seconds"), int | float):
        words.append(f"in {duration(event['seconds'])}")
    if "pieces" in event:  # until 2026-11 logs called tasks so
        event = {**event, "tasks": event["pieces"]}
    words += [f"{key} {event[key]}" for key in ("tasks", "device", "pid") if key in event]
    words.append(event.get("info") or "")
    return cut(clean(" ".join(str(word) for word in words if word)), width)


def _clock(time: object) -> str:
    try:
        return datetime.fromisoformat(str(time)).astimezone().strftime("%m-%d %H:%M:%S")
    except ValueError:
        return " " * 14


def pinned(tasks: Sequence[TaskState], width: int, most: int) -> Text:
    """A line a task, at most so many lines: those that go on or have failed before those that are
    done, which are counted where there is no room."""
    kept = list(tasks)
    if len(kept) > most:
        urgent = [task for task in kept if task.event != "done"]
        ended = [task for task in kept if task.event == "done"]
        chosen = [*urgent, *reversed(ended)][: max(most - 1, 1)]
        kept = [task for task in tasks if task in chosen]
    longest = max((len(f"{task.stage} {task.name}") for task in kept), default=0)
    text = Text(no_wrap=True, end="")
    for task in kept:
        style = {"done": "", "failed": "bold red"}.get(task.event, "bold")
        line = task_line(task, width, min(longest, max(12, width // 3)))
        text.append(line + "\n", style)
    if hidden := [task for task in tasks if task not in kept]:
        done = sum(task.event == "done" for task in hidden)
        others = f", {len(hidden) - done} not" if done < len(hidden) else ""
        text.append(cut(f"  and {len(hidden)} more, {done} done{others}", width) + "\n", "dim")
    return text


def folded(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events, with the last only of progress that one task says again and again."""
    kept: list[dict[str, Any]] = []
    for event in events:
        if kept and _is_progress_of_one(kept[-1], event):
            kept.pop()
        kept.append(event)
    return kept


def _is_progress_of_one(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return all(
        one.get("event") == "progress" and one.get("stage") == after.get("stage")
        and one.get("name") == after.get("name") for one in (before, after)
    )  # fmt: skip


def events_text(events: Sequence[dict[str, Any]], width: int) -> Text:
    """The events as lines at most ``width`` wide."""
    if not events:
        return Text("The log is empty.", end="")
    text = Text(no_wrap=True, end="")
    for event in folded(events)[-_SHOWN_EVENTS:]:
        text.append(event_line(event, width) + "\n", "dim")
    return text


class LogView(VerticalScroll, can_focus=True):
    """The screen of a run's log; it follows the end while it is there."""

    DEFAULT_CSS = """
    LogView #log-tasks { dock: top; height: auto; background: $background; text-wrap: nowrap; }
    LogView #log-text { text-wrap: nowrap; }
    """

    BINDINGS = [
        Shortcut("j", "scroll_down", show=False),
        Shortcut("k", "scroll_up", show=False),
        Shortcut("g,home", "scroll_home", "Top", key_display="g"),
        Shortcut("G,end", "scroll_end", "End", key_display="G"),
        Shortcut("space,ctrl+f", "page_down", show=False),
        Shortcut("b,ctrl+b", "page_up", show=False),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.capabilities = capabilities
        self.events: list[dict[str, Any]] = []
        self._follows = True  # the end is on the screen, and stays there

    def on_mount(self) -> None:
        """The end is followed until the user leaves it, and again from where it is reached."""
        self.watch(self, "scroll_y", self._scrolled, init=False)

    def compose(self) -> ComposeResult:
        """The tasks, which stay on top, and the events, which scroll."""
        yield Static(id="log-tasks", markup=False)
        yield Static(id="log-text", markup=False)

    def show(self, events: list[dict[str, Any]]) -> None:
        """Show these events; stay at the end if the end was on screen."""
        self.events = events
        self._draw()

    def on_resize(self) -> None:
        """Lines are cut to the width, and as many bars stay on top as the height has room for."""
        self._draw()

    def _draw(self) -> None:
        width = max(20, self.scrollable_content_region.width)
        tasks = pinned(task_states(self.events), width, max(2, self.size.height // 2 - 1))
        bars = self.query_one("#log-tasks", Static)
        bars.display = bool(tasks)
        bars.update(tasks)
        self.query_one("#log-text", Static).update(events_text(self.events, width))
        self.call_after_refresh(self._follow)

    def _scrolled(self) -> None:
        self._follows = self.scroll_y >= self.max_scroll_y - 1

    def _follow(self) -> None:
        if self._follows:
            self.scroll_end(animate=False)
