"""A run's log: each task with its progress, then the events, newest last.

`summary` and `event_line` are pure functions of the events in log.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from engramcka.plain_text import clean
from engramcka.tui.terminal import Capabilities, cut, fixed
from engramcka.tui.widgets.key_bar import Shortcut

_BAR = 16  # characters of a progress bar
_SHOWN_EVENTS = 400
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

    @property
    def share(self) -> float:
        """Part that is done, 0 to 1."""
        if self.event == "done":
            return 1.0
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 0.0


def task_states(events: Sequence[dict[str, Any]]) -> list[TaskState]:
    """Every task of the last run in the log, in the order of their starts."""
    latest: dict[tuple[str, str], TaskState] = {}
    for event in events:
        if event.get("event") == "run":
            latest.clear()
        if "stage" in event and "name" in event and event.get("event") in _MARKS:
            key = (clean(event["stage"]), clean(event["name"]))
            latest[key] = _task_state(key, event)
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


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def task_line(task: TaskState, width: int, name_width: int = 34) -> str:
    """A task in one line: mark, bar, name, count, time, reading."""
    length = _BAR if width >= 60 else _BAR // 2
    full = round(task.share * length)
    bar = "█" * full + "░" * (length - full)
    count = f"{task.done:.0f}/{task.total:.0f} {task.unit}" if task.total else ""
    took = duration(task.seconds) if task.seconds is not None else ""
    rest = "  ".join(part for part in (count, took, task.info) if part)
    name = fixed(f"{task.stage} {task.name}", name_width)
    return cut(f"{_MARKS[task.event]} {bar} {name} {rest}".rstrip(), width)


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


def summary(events: Sequence[dict[str, Any]], width: int) -> Text:
    """The whole screen as a text of lines at most ``width`` wide."""
    text = Text(no_wrap=True, end="")
    tasks = task_states(events)
    if not tasks and not events:
        return Text("The log is empty.", end="")
    longest = max((len(f"{task.stage} {task.name}") for task in tasks), default=0)
    for task in tasks:
        style = {"done": "", "failed": "bold red"}.get(task.event, "bold")
        text.append(task_line(task, width, min(longest, max(12, width // 3))) + "\n", style)
    if tasks:
        text.append("\n")
    for event in events[-_SHOWN_EVENTS:]:
        text.append(event_line(event, width) + "\n", "dim")
    return text


class LogView(VerticalScroll, can_focus=True):
    """The screen of a run's log; it follows the end while it is there."""

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

    def compose(self) -> ComposeResult:
        """The log's lines, which scroll."""
        yield Static(id="log-text", markup=False)

    def show(self, events: list[dict[str, Any]]) -> None:
        """Show these events; stay at the end if the end was on screen."""
        at_end = self.scroll_y >= self.max_scroll_y - 1
        self.events = events
        self._draw()
        if at_end:
            self.call_after_refresh(self.scroll_end, animate=False)

    def on_resize(self) -> None:
        """Lines are cut to the width."""
        self._draw()

    def _draw(self) -> None:
        width = max(20, self.size.width - 1)
        self.query_one("#log-text", Static).update(summary(self.events, width))
