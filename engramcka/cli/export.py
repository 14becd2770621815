"""``engramcka export``: stored results as a figure for a paper, or as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engramcka.errors import ConfigError
from engramcka.figures.options import Palette, Reading, Venue

if TYPE_CHECKING:
    from engramcka.figures.subjects import DrawOptions, Subject
    from engramcka.stores import Run


def command(
    run: Annotated[Path, typer.Argument(help="A run directory.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .png, .pdf or .svg; .gif or .mp4 of a series; .csv or .tex for "
            "the numbers.",
            show_default=False,
        ),
    ],
    what: Annotated[
        str | None,
        typer.Option(
            help="KIND/NAME, as `engramcka info` lists them; "
            "lens or training: all curves in one; series/NAME: maps over training; text/NAME: "
            "gates token by token; maps: all maps, a panel each; paper: curves, maps and the "
            "sweep in one figure, or name some of them with commas. The only result if left out."
        ),
    ] = None,
    minus: Annotated[
        str | None,
        typer.Option(metavar="cka/NAME", help="Subtract this map from the one of --what."),
    ] = None,
    style: Annotated[Venue, typer.Option(help="Venue.")] = "plain",
    width: Annotated[
        str | None,
        typer.Option(
            help="half, column, page or inches. Column if left out; page for paper and maps."
        ),
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark ground.")] = False,
    palette: Annotated[Palette, typer.Option(help="Colours of maps.")] = "magma",
    k: Annotated[int, typer.Option(min=1, help="Rows the soft alignment averages.")] = 5,
    no_interval: Annotated[
        bool,
        typer.Option("--no-interval", help="Maps without the soft alignment's 95 % interval."),
    ] = False,
    first_layer: Annotated[
        int, typer.Option(min=0, max=1, help="Number of the first block of maps and curves.")
    ] = 1,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic axis of lens curves.")] = False,
    reading: Annotated[
        Literal[Reading, "all"], typer.Option(help="What of lens curves: a panel each.")
    ] = "kl",
    dpi: Annotated[int, typer.Option(min=50, max=1200, help="Dots an inch of a .png.")] = 300,
    seconds: Annotated[
        float, typer.Option(min=0.02, max=60, help="How long a .gif or .mp4 shows a map.")
    ] = 0.5,
    with_caption: Annotated[
        bool, typer.Option("--caption", help="Write a caption too, as text beside the figure.")
    ] = False,
) -> None:
    """Draw results of RUN into a file, or write their numbers."""
    from engramcka import figures
    from engramcka.figures import subjects
    from engramcka.stores import inventory, open_run

    stored = open_run(run)
    chosen = subjects.choose(stored, what)
    form = output.suffix.lower().lstrip(".")
    if with_caption and (minus is not None or form in figures.TABLE_FORMATS):
        bare = "the difference of two maps" if minus is not None else f"a table ({output.name})"
        raise ConfigError(f"--caption: {bare} has no caption; leave it out, or write a figure")
    readings = figures.READINGS if reading == "all" else (reading,)
    how = subjects.DrawOptions(
        figures.Style.named(style, width=_width(width, chosen), dark=dark),
        {"palette": palette, "k": k, "first_layer": first_layer, "log": log,
         "readings": readings, "map_interval": not no_interval},
    )  # fmt: skip
    if minus is not None:
        _subtract(stored, chosen, minus, output, how, dpi)
    elif form in figures.TABLE_FORMATS:
        figures.write_text(output, subjects.table(stored, chosen, form, k=k))
    elif form in figures.MOVIES:
        subjects.animate(stored, chosen, how, output, seconds)
    else:
        figures.check_format(output)
        figures.save_figure(subjects.draw(stored, chosen, how), output, dpi=dpi)
    inventory.update_file(output)
    print(f"Wrote {output}")
    if with_caption:
        beside = output.with_suffix(".txt")
        figures.write_text(beside, subjects.caption(stored, chosen, how) + "\n")
        inventory.update_file(beside)
        print(f"Wrote {beside}")


def _width(width: str | None, chosen: Subject) -> Any:
    """A named width, or inches."""
    if width is None:
        return "page" if chosen.is_wide else "column"
    try:
        return float(width)
    except ValueError:
        return width


def _subtract(
    stored: Run, chosen: Subject, minus: str, output: Path, how: DrawOptions, dpi: int
) -> None:
    """One map less another, as a figure or as cells."""
    from engramcka import figures
    from engramcka.figures import subjects
    from engramcka.results.kinds import MAPS

    other = subjects.choose(stored, minus)
    for subject in (chosen, other):
        if subject.kind not in MAPS or "/" not in subject.name:
            raise ConfigError(f"{subject.name}: only maps are subtracted, cka/A --minus cka/B")
    (first,), (second,) = subjects.read(stored, chosen), subjects.read(stored, other)
    if output.suffix.lower() == ".csv":
        figures.save_table(figures.map_difference(first, second), output)
        return
    figures.check_format(output)
    options = {"first_layer": how.options["first_layer"]}
    figures.save_figure(
        figures.difference_figure(first, second, how.style, **options), output, dpi=dpi
    )
