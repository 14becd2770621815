"""The samples that make a cell of a map what it is: their terms, and the text around each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from engramcka.errors import EngramckaError
from engramcka.plain_text import clean
from engramcka.results import CkaMap
from engramcka.tui import readout
from engramcka.tui.catalog import Entry
from engramcka.tui.cell_samples import (
    CellSamples,
    Progress,
    ShownSample,
    Span,
    Stopped,
    cell_samples,
)
from engramcka.tui.compared_samples import (
    Cell,
    ComparedSample,
    ComparedSamples,
    compared_samples,
)
from engramcka.tui.explained import count_of
from engramcka.tui.screens.compare import MapPair
from engramcka.tui.terminal import cut, fixed, shorten, with_minus
from engramcka.tui.titles import APART
from engramcka.tui.widgets.key_bar import Shortcut

Found = CellSamples | ComparedSamples
Compute = Callable[[Progress], Found]

_SHARE = 9  # characters of a share
_INDENT = 4


@dataclass
class SamplesRead(Message):
    """The terms were computed, or cannot be."""

    found: Found | None
    sentence: str = ""


@dataclass
class SamplesProgress(Message):
    """So many samples were read."""

    done: int
    total: int

    def can_replace(self, message: Message) -> bool:
        """Only the last count matters."""
        return isinstance(message, SamplesProgress)


class SamplesScreen(ModalScreen[None]):
    """The list, which is computed in a thread; closing it ends the reading."""

    BINDINGS = [
        Shortcut("escape,q,enter", "dismiss", "Close"),
        Shortcut("j", "scroll('down')", show=False),
        Shortcut("k", "scroll('up')", show=False),
        Shortcut("space,pagedown", "scroll('page_down')", show=False),
        Shortcut("b,pageup", "scroll('page_up')", show=False),
        Shortcut("g,home", "scroll('home')", show=False),
        Shortcut("G,end", "scroll('end')", show=False),
        Shortcut("y,Y,ctrl+y", "copy", "Copy"),
    ]

    def __init__(self, title: str, compute: Compute) -> None:
        super().__init__()
        self._title, self._compute = title, compute
        self.found: Found | None = None
        self._unwanted = Event()
        # Written to also before it is mounted, and while the screen goes away.
        self._text = Static("Reading the hidden states ..", id="samples-text", markup=False)

    def compose(self) -> ComposeResult:
        """One scrolling text in a box."""
        with VerticalScroll(id="samples") as box:
            box.border_title = f"samples of {self._title}"
            box.border_subtitle = "y copies, esc closes"
            yield self._text

    def on_mount(self) -> None:
        """Compute the terms in a thread."""
        self.run_worker(self._read, thread=True)

    def on_unmount(self) -> None:
        """Nobody waits any more."""
        self._unwanted.set()

    def _read(self) -> None:
        try:
            self.post_message(SamplesRead(self._compute(self._tell)))
        except Stopped:
            return
        except EngramckaError as error:
            self.post_message(SamplesRead(None, clean(error)))
        except Exception as error:  # a store may be broken in ways that no reader foresaw
            self.post_message(SamplesRead(None, clean(f"{type(error).__name__}: {error}")))

    def _tell(self, done: int, total: int) -> None:
        if self._unwanted.is_set():
            raise Stopped
        self.post_message(SamplesProgress(done, total))

    def on_samples_progress(self, message: SamplesProgress) -> None:
        """Say how far it is."""
        if self.found is None:
            self._say(
                f"Reading the hidden states: {message.done:,} of {message.total:,} samples .."
            )

    def on_samples_read(self, message: SamplesRead) -> None:
        """Show the samples, or why there are none."""
        self.found = message.found
        if message.found is None:
            self._say(message.sentence)
        else:
            self._draw()

    def on_resize(self) -> None:
        """Lines are cut to the width."""
        if self.found is not None:
            self.call_after_refresh(self._draw)

    def _say(self, sentence: str) -> None:
        self._text.update(sentence)

    def _draw(self) -> None:
        assert self.found is not None
        width = max(20, self._text.size.width)
        self._text.update(samples_text(self.found, width))

    def action_scroll(self, where: str) -> None:
        """Scroll the list."""
        getattr(self.query_one("#samples"), f"scroll_{where}")(animate=False)

    def action_copy(self) -> None:
        """Copy the list as tab-separated text."""
        if self.found is not None:
            self.app.copy_to_clipboard(samples_table(self.found))
            self.notify(f"Copied {len(self.found.samples)} samples", markup=False, timeout=2)


def of_cell(entry: Entry, cka: CkaMap, row: int, column: int) -> tuple[str, Compute]:
    """What to call a cell, and how to find its samples."""
    title = readout.place(cka, row, column)
    return title, lambda tell: cell_samples(entry, cka, row, column, tell)


def of_two(
    entries: tuple[Entry, Entry],
    pair: MapPair,
    cells: tuple[tuple[int, int], tuple[int, int]],
    subtracted: bool,
) -> tuple[str, Compute]:
    """The same of a cell of two maps."""
    maps = (pair.first, pair.second)
    first, second = (
        Cell(entry, cka, *cell)
        for entry, cka, cell in zip(entries, maps, cells, strict=True)
        if isinstance(cka, CkaMap)
    )
    title = f"{APART if subtracted else 'A and B'} {readout.place(pair.first, *cells[0])}"
    return title, lambda tell: compared_samples(first, second, subtracted, tell)


def samples_text(found: Found, width: int) -> Text:
    """What is known of the samples as lines at most so wide."""
    text = Text(end="")
    lines: list[tuple[Text, Span | None]]
    if isinstance(found, ComparedSamples):
        text.append(f"{compared_summary(found)}\n")
        lines = [
            (_compared_line(n, one, width), one.span) for n, one in enumerate(found.samples, 1)
        ]
    else:
        text.append(f"{summary(found)}\n")
        lines = [(_sample_line(n, one, width), one.span) for n, one in enumerate(found.samples, 1)]
    if found.no_text:
        text.append(f"No text: {found.no_text}.\n".replace("..", "."), "italic")
    if isinstance(found, ComparedSamples):
        labels = "".join(f"{label:>{_SHARE}}" for label in ("A", "B", APART))
        text.append(f"\n{' ' * _INDENT}{labels}", "dim")
    for line, span in lines:
        text.append("\n")
        text.append_text(line)
        if span is not None:
            text.append("\n")
            text.append_text(_span_line(span, width))
    return text


def compared_summary(found: ComparedSamples) -> str:
    """How the difference is spread over the samples."""
    values = [with_minus(f"{value:.3f}") for value in (found.first, found.second)]
    apart = readout.signed(found.first - found.second, 3)
    order = "that differ most" if found.subtracted else "that give most to either"
    parts = [
        f"A {values[0]}, B {values[1]}, {APART} {apart}: sums over samples of the numbers below; "
        f"those {order} come first."
    ]
    total = found.both + sum(found.alone)
    if found.half:
        parts.append(
            f"{found.half:,} of {total:,} samples ({found.half / total:.1%}) "
            f"make{'s' * (found.half == 1)} half of all that differs, up or down."
        )
    for name, count in zip("AB", found.alone, strict=True):
        if count:
            parts.append(
                f"{count_of(count, 'sample')} {'is' if count == 1 else 'are'} in {name} only."
            )
    return " ".join(parts)


def _compared_line(number: int, sample: ComparedSample, width: int) -> Text:
    line = Text(f"{number:>{_INDENT - 1}} ", end="")
    for value in (sample.first, sample.second):
        line.append(f"{readout.signed(value):>{_SHARE}}")
    line.append(
        f"{readout.signed(sample.apart):>{_SHARE}}",
        "bold" if sample.apart >= 0 else "bold reverse",
    )
    known = sample.name if sample.span is None else sample.token
    room = max(0, width - line.cell_len)
    line.append(cut(f"  {fixed(known, 12) if room > 40 and sample.span else known}", room))
    line.append(cut(f"  {sample.document}", max(0, width - line.cell_len)), "dim")
    return line


def summary(found: CellSamples) -> str:
    """How the similarity is spread over the samples."""
    value = with_minus(f"{found.similarity:.3f}")
    parts = [f"CKA {value} is a sum over {found.n_samples:,} samples; below are the largest terms."]
    if found.half:
        share = found.half / found.n_samples
        makes = "makes" if found.half == 1 else "make"
        parts.append(f"{count_of(found.half, 'sample')} ({share:.1%}) {makes} half of it.")
    if found.negative < 0:
        parts.append(f"Terms below 0 take off {-found.negative:.1%}.")
    return " ".join(parts)


def _sample_line(number: int, sample: ShownSample, width: int) -> Text:
    line = Text(f"{number:>{_INDENT - 1}} ", end="")
    line.append(
        f"{percent(sample.share):>{_SHARE}}", "bold" if sample.share >= 0 else "bold reverse"
    )
    room = width - _INDENT - _SHARE - 2
    known = sample.name if sample.span is None else sample.token  # the entity is in the text
    name = shorten(known, max(8, room // 2))
    partner = f"with {sample.partner} {percent(sample.partner_share)}" if sample.partner else ""
    rest = f"  {sample.document}  {partner}"
    line.append(f"  {fixed(name, 12) if room > 60 and sample.span else name}")
    line.append(cut(rest, max(0, width - line.cell_len)), "dim")
    return line


def _span_line(span: Span, width: int) -> Text:
    """The sample in the middle, with as much of its text as fits."""
    room = width - _INDENT
    inside = cut(span.text, max(8, room // 2))
    left = (room - len(inside)) // 2
    before = span.before[-left:] if left else ""
    after = span.after[: max(0, room - len(inside) - len(before))]
    line = Text(" " * _INDENT, end="")
    line.append(cut(before, left), "dim")
    line.append(inside, "bold underline")
    line.append(cut(after, room - len(inside) - len(before)), "dim")
    return line


def percent(share: float) -> str:
    """A share of the whole with its sign."""
    return with_minus(f"{share:+.2%}")


def samples_table(found: Found) -> str:
    """The samples as tab-separated text, a line each."""
    if isinstance(found, ComparedSamples):
        lines = [f"A\tB\t{APART}\tsample\tdocument\ttext"]
        lines += [
            f"{one.first!r}\t{one.second!r}\t{one.apart!r}\t{one.name}\t{one.document}\t"
            f"{_span_text(one.span)}"
            for one in found.samples
        ]
        return "\n".join(lines) + "\n"
    lines = ["share\tterm\tsample\tdocument\twith\tshare with it\ttext"]
    for one in found.samples:
        text = _span_text(one.span)
        lines.append(
            f"{one.share!r}\t{one.term!r}\t{one.name}\t{one.document}\t{one.partner}\t"
            f"{one.partner_share!r}\t{text}"
        )
    return "\n".join(lines) + "\n"


def _span_text(span: Span | None) -> str:
    return "" if span is None else f"{span.before}[{span.text}]{span.after}"
