"""The gates of one model's Engram modules: texts token by token, and means by entity type."""

from __future__ import annotations

import numpy as np
from textual.app import ComposeResult
from textual.widgets import Static

from engramcka import palettes
from engramcka.plain_text import clean
from engramcka.results import Float, GateMap
from engramcka.tui import readout
from engramcka.tui.charts.gates import gate_rows
from engramcka.tui.exporting import ExportPart
from engramcka.tui.screens.bars import BarsView
from engramcka.tui.terminal import Capabilities, cut
from engramcka.tui.widgets.bar_list import BarList
from engramcka.tui.widgets.canvas import Line
from engramcka.tui.widgets.key_bar import Shortcut
from engramcka.tui.widgets.panel import DetailsPanel
from engramcka.tui.widgets.tokens import TokenView, visible


class GatesView(BarsView):
    """A text or the types; module and stream are chosen for both."""

    DEFAULT_CSS = """
    GatesView #gates-choice { height: 1; padding: 0 1; color: $foreground 60%;
        text-wrap: nowrap; text-overflow: ellipsis; }
    GatesView TokenView { margin: 0 1; }
    """

    BINDINGS = [
        Shortcut("t", "types", "Types"),
        Shortcut("m", "module(1)", "Module"),
        Shortcut("s", "stream(1)", "Stream"),
        Shortcut("right_square_bracket", "text(1)", "Text", key_display="]"),
        Shortcut("left_square_bracket", "text(-1)", "Text before", show=False),
        Shortcut("c", "palette", "Colours", show=False),
        Shortcut("left,h", "token(-1)", show=False),
        Shortcut("right,l", "token(1)", show=False),
        Shortcut("shift+left,H", "token(-10)", show=False),
        Shortcut("shift+right,L", "token(10)", show=False),
    ]

    def __init__(self, capabilities: Capabilities, *, id: str | None = None) -> None:
        super().__init__(capabilities, id=id)
        self.gates: GateMap | None = None
        self.module = self.text = 0
        self.stream: int | None = None  # None: the mean over all
        self.by_type = False

    def compose(self) -> ComposeResult:
        """What is chosen, above the rest."""
        yield Static("", id="gates-choice", markup=False)
        yield from super().compose()

    def compose_result(self) -> ComposeResult:
        """The text and the types, of which one is shown."""
        known = self.capabilities
        coloured = known.colours in ("true", "256")
        yield TokenView(coloured=coloured, ascii_only=known.ascii)
        yield BarList()

    @property
    def tokens(self) -> TokenView:
        """The widget that shows the tokens of a passage."""
        return self.query_one(TokenView)

    @property
    def _streams(self) -> int:
        return self.gates.alpha.shape[2] if self.gates is not None else 1

    def show(self, gates: GateMap) -> None:
        """Show a model's gates; what was chosen stays so where it can."""
        self.gates = gates
        self.warnings = [clean(warning) for warning in gates.warnings]
        self.module = min(self.module, len(gates.layers) - 1)
        self.text = min(self.text, max(0, len(gates.texts) - 1))
        if self.stream is not None and self.stream >= self._streams:
            self.stream = None
        self._draw()

    @property
    def types_shown(self) -> bool:
        """Whether the types are on screen: by choice, or since there is no text."""
        return self.by_type or self.gates is None or not self.gates.texts

    def _draw(self) -> None:
        if self.gates is None:
            return
        self.tokens.display, self.bars.display = not self.types_shown, self.types_shown
        if self.types_shown:
            self.bars.show(gate_rows(self.gates, self.module, self.stream))
        else:
            text = self.gates.texts[self.text]
            self.tokens.show(text.tokens, self._values(text.alpha))
        self.query_one("#gates-choice", Static).update(self._choice())
        self.refresh_panel()

    def _values(self, alpha: Float) -> Float:
        """(tokens,) of the module and stream that are chosen."""
        chosen = alpha[:, self.module]
        return chosen.mean(axis=-1) if self.stream is None else chosen[:, self.stream]

    def _choice(self) -> str:
        assert self.gates is not None
        parts = [f"layer {self.gates.layers[self.module]}"]
        if self._streams > 1:
            mean = f"mean of {self._streams} streams"
            parts.append(mean if self.stream is None else f"stream {self.stream + 1}")
        if self.types_shown:
            parts.append("mean gate by entity type")
        else:
            parts.append(f"text {self.text + 1} of {len(self.gates.texts)}")
        return "  ".join(parts)

    def panel_lines(self, panel: DetailsPanel) -> list[Line]:
        """What is known about the token, or about the type."""
        if self.gates is None or self.types_shown:
            return super().panel_lines(panel)
        text, at = self.gates.texts[self.text], self.tokens.cursor
        if not text.tokens:
            return []
        values = self._values(text.alpha)
        lines: list[Line] = [
            panel.heading(cut(visible(text.tokens[at]), panel.size.width)),
            panel.pair("token", f"{at + 1} of {len(text.tokens)}"),
            panel.pair("gate", readout.decimals(float(values[at]))),
            panel.pair("mean", readout.decimals(mean_of(values))),
            [],
        ]
        for module, layer in enumerate(self.gates.layers):
            lines.append(panel.heading(f"layer {layer}"))
            for stream, value in enumerate(text.alpha[at, module].tolist()):
                lines.append(panel.pair(f"  {stream + 1}", readout.decimals(value)))
        return lines

    def short_line(self, width: int) -> Line:
        """The gate and the token, or the type."""
        if self.gates is None or self.types_shown:
            return super().short_line(width)
        text, at = self.gates.texts[self.text], self.tokens.cursor
        if not text.tokens:
            return []
        gate = readout.decimals(float(self._values(text.alpha)[at]))
        shown = f"gate {gate:<6} token {at + 1}/{len(text.tokens)}  "
        return [(shown, "value"), (visible(text.tokens[at]), "label")]

    def on_token_view_token_moved(self, message: TokenView.TokenMoved) -> None:
        """The mouse chose a token."""
        self.focus()
        self._put(message.index)

    def _put(self, index: int) -> None:
        assert self.gates is not None
        count = len(self.gates.texts[self.text].tokens)
        self.tokens.move(min(max(index, 0), max(0, count - 1)))
        self.refresh_panel()

    def action_token(self, tokens: int) -> None:
        """The next or previous token, or row."""
        if self.types_shown:
            super().action_move(1 if tokens > 0 else -1)
        else:
            self._put(self.tokens.cursor + tokens)

    def action_place(self, index: int) -> None:
        """To the first (0) or last (-1) token or row."""
        if self.types_shown or self.gates is None:
            super().action_place(index)
        else:
            self._put(index % max(1, len(self.gates.texts[self.text].tokens)))

    def action_move(self, rows: int) -> None:
        """So many lines or rows down."""
        if self.types_shown:
            super().action_move(rows)
        else:
            self._put(self.tokens.beside(rows))

    def action_types(self) -> None:
        """Texts, or means by type."""
        self.by_type = not self.by_type
        self._draw()

    def action_module(self, step: int) -> None:
        """Show the gates of the next Engram module."""
        if self.gates is not None:
            self.module = (self.module + step) % len(self.gates.layers)
            self._draw()

    def action_stream(self, step: int) -> None:
        """The mean of all streams, then each one."""
        if self._streams > 1:
            at = ((-1 if self.stream is None else self.stream) + 1 + step) % (self._streams + 1)
            self.stream = at - 1 if at else None
            self._draw()

    def action_text(self, step: int) -> None:
        """Show the next passage that was kept token by token."""
        if self.gates is not None and self.gates.texts:
            self.text = (self.text + step) % len(self.gates.texts)
            self.tokens.cursor = 0
            self._draw()

    def action_palette(self) -> None:
        """Colour the tokens by the next palette."""
        names = palettes.PALETTES
        self.tokens.palette = names[(names.index(self.tokens.palette) + 1) % len(names)]
        self.tokens.change()

    def parts(self, name: str) -> tuple[ExportPart, ...]:
        """The text with its gates, and the means by type; the one on the screen first."""
        assert self.gates is not None
        types = ExportPart("types", f"gates-{name}", self.gates)
        if not self.gates.texts:
            return (types,)
        layer = self.gates.layers[self.module]
        options = {"texts": [self.text], "layers": [layer], "stream": self.stream}
        stem = f"text-{name}-{self.text + 1}"
        text = ExportPart("this text", stem, self.gates, options, "text")
        every = ExportPart("all texts", f"text-{name}", self.gates, {}, "text")
        return (types, text, every) if self.types_shown else (text, every, types)

    def copied(self, what: str) -> tuple[str, str]:
        """(text, what it is) of the gate, or of all gates of the text or types."""
        if self.gates is None or self.types_shown:
            return super().copied(what)
        text = self.gates.texts[self.text]
        values = self._values(text.alpha)
        if what == "value":
            at = self.tokens.cursor
            return repr(float(values[at])), f"gate of token {at + 1} {clean(text.tokens[at])}"
        pairs = zip(text.tokens, values.tolist(), strict=True)
        return "".join(f"{token!r}\t{value!r}\n" for token, value in pairs), "the text's gates"


def mean_of(values: Float) -> float:
    """Mean of the finite values; NaN where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
