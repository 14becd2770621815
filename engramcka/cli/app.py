"""The Typer app, and the one place where errors become a line of text and an exit code.

Exit codes: 0 done; 1 failed while running; 2 bad usage or config; 75 a run was stopped by a signal
with its state saved, so that a queue may start it again; 130 another command was stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from engramcka import __version__, stopping
from engramcka.cli import browse, check, export, importing, info, init, models, run, verify
from engramcka.cli.requirements import out_of_bounds
from engramcka.errors import EngramckaError, in_words
from engramcka.plain_text import without_controls

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
    """Run a command and leave with its exit code; see `engramcka.__main__`."""
    code = _run()
    if stopping.was_interrupted():  # whatever it became on its way up
        code = stopping.INTERRUPTED
    sys.exit(_flush() or code)


def _flush() -> int:
    """Write out what was printed; else Python complains in its own words, with a code of its own.

    A terminal that is gone is no failure.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in (errno.EIO, errno.EPIPE):
            return _tell(f"standard output: {in_words(error)}", 1)
        return int(error.errno == errno.EPIPE)
    return 0


def _run() -> int | str | None:
    """Run a command; what goes wrong becomes a line and an exit code here.

    The last four are for what nobody nearer could say better.
    """
    try:
        app()
    except SystemExit as end:
        return end.code
    except EngramckaError as error:
        return _tell(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except ImportError as error:
        line = out_of_bounds(error)
        if line is None:
            raise
        return _tell(line, 2)
    except OSError as error:
        return _tell(in_words(error), 2 if error.errno == errno.ENAMETOOLONG else 1)
    except MemoryError:
        return _tell("out of memory", 1)
    except ValueError as error:
        if "embedded null" not in str(error):  # a NUL in a path
            raise
        return _tell(str(error), 2)
    return 0


def _tell(message: str, code: int) -> int:
    with suppress(OSError):
        print(f"engramcka: {without_controls(message)}", file=sys.stderr, flush=True)
    return code
