"""``engramcka export``: stored results as a figure for a paper, or as a table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engramcka.errors import ConfigError

if TYPE_CHECKING:
    from engramcka.results import CkaMap, LossSweep
    from engramcka.stores import Run


class StyleChoice(StrEnum):
    """The venues whose widths and font sizes are known."""

    plain = "plain"
    neurips = "neurips"
    icml = "icml"
    iclr = "iclr"
    acl = "acl"
    nature = "nature"


class PaletteChoice(StrEnum):
    """The colour maps, all safe for the colour-blind."""

    magma = "magma"
    viridis = "viridis"
    cividis = "cividis"


class WidthChoice(StrEnum):
    """How wide a figure is in the venue's text."""

    half = "half"
    column = "column"
    page = "page"


def command(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .png, .pdf or .svg, or .csv or .tex for the numbers.",
            show_default=False,
        ),
    ],
    what: Annotated[
        str | None,
        typer.Option(
            help="cka/NAME, sweep/NAME, or paper: the maps and the sweep in one figure. "
            "The only result if left out."
        ),
    ] = None,
    style: Annotated[StyleChoice, typer.Option(help="Venue.")] = StyleChoice.plain,
    width: Annotated[
        WidthChoice | None, typer.Option(help="Column if left out; page for --what paper.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark ground.")] = False,
    palette: Annotated[PaletteChoice, typer.Option(help="Colours of maps.")] = PaletteChoice.magma,
    k: Annotated[int, typer.Option(min=1, help="Rows the soft alignment averages.")] = 5,
    first_layer: Annotated[
        int, typer.Option(min=0, max=1, help="Number of the first block on a map's axes.")
    ] = 1,
) -> None:
    """Draw results of RUN into a file, or write their numbers."""
    from engramcka import figures
    from engramcka.stores import open_run

    stored = open_run(run)
    chosen = _choose(run, stored, what)
    if output.suffix.lower().lstrip(".") in figures.TABLE_FORMATS:
        if chosen == "paper":
            raise ConfigError(f"{output}: a table holds one result; name it with --what")
        figures.save_table(_read(stored, chosen), output)
    else:
        wide: Any = width.value if width else "page" if chosen == "paper" else "column"
        look = figures.Style.named(style.value, width=wide, dark=dark)
        on_maps = {"palette": palette.value, "k": k, "first_layer": first_layer}
        figures.save_figure(_draw(stored, chosen, look, on_maps), output)
    print(f"Wrote {output}")


def _choose(run: Path, stored: Run, what: str | None) -> str:
    names = [f"cka/{name}" for name in stored.cka] + [f"sweep/{name}" for name in stored.sweep]
    if len(stored.cka) and len(stored.sweep) == 1:
        names.append("paper")
    chosen = what or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        problem = f"no result {what!r}" if what else "which result? name it with --what"
        raise ConfigError(f"{run}: {problem}; there is {', '.join(names) or 'none'}")
    return chosen


def _read(stored: Run, chosen: str) -> CkaMap | LossSweep:
    kind, _, name = chosen.partition("/")
    return stored.cka[name] if kind == "cka" else stored.sweep[name]


def _draw(stored: Run, chosen: str, style: Any, on_maps: dict[str, Any]) -> Any:
    from engramcka import figures
    from engramcka.results import CkaMap

    if chosen == "paper":
        maps = list(stored.cka.values())
        (sweep,) = stored.sweep.values()
        return figures.paper_figure(maps, sweep, style, **on_maps)
    result = _read(stored, chosen)
    if isinstance(result, CkaMap):
        return figures.cka_figure(result, style, **on_maps)
    return figures.sweep_figure(result, style)
