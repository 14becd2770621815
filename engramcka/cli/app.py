"""The Typer app, and the one place where errors become a line of text and an exit code.

Exit codes: 0 done; 1 failed while running; 2 bad usage or config; 75 stopped by a signal with its
state saved, so that a queue may start it again.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from engramcka import __version__
from engramcka.cli import browse, check, export, importing, info, init, models, run, verify
from engramcka.errors import EngramckaError

app = typer.Typer(
    name="engramcka",
    help="Compare language models layer by layer: CKA maps and Engram layer sweeps.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.command)
app.command("check")(check.command)
app.command("init")(init.command)
app.command("browse")(browse.command)
app.command("export")(export.command)
app.command("info")(info.command)
app.command("verify")(verify.command)
app.command("import")(importing.command)
app.command("models")(models.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"engramcka {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Compare language models layer by layer: CKA maps and Engram layer sweeps."""


def main() -> NoReturn:
    """The entry point of the ``engramcka`` script."""
    try:
        app()
    except EngramckaError as error:
        print(f"engramcka: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(0)
