"""The parts of every run directory: made where they are not there, refused where they are none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engramcka.atomic import remove_scratch
from engramcka.errors import StoreError, code_of
from engramcka.stores import layout
from engramcka.stores.run import check_frame

MADE = (layout.ACTIVATIONS, layout.CHECKPOINTS, layout.FIGURES)


def check_parts(run: Path) -> None:
    """Refuse a run directory that is none, or of which a part leads out of it.

    Raises:
        StoreError: names the part; nothing was written.
    """
    try:
        if os.path.lexists(run) and not run.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(run))
        check_frame(run)
    except OSError as error:
        raise cannot_write(run, error) from error


def make_folders(run: Path) -> None:
    """Make the parts that are not there; raises StoreError."""
    try:
        for name in MADE:
            (run / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(run, error) from error


def clear(run: Path) -> None:
    """Delete what killed processes left half-written in a run; for whoever holds it."""
    remove_scratch(run, deep=False)  # it may be a folder of other things too
    for name in (*MADE, layout.RESULTS):
        remove_scratch(run / name)


def cannot_write(run: Path, error: OSError) -> StoreError:
    """What to say when a run directory cannot be written."""
    where = "" if error.filename in (None, str(run)) else f"{error.filename}: "
    return StoreError(
        f"{run}: cannot be written ({where}{error.strerror or error}); choose another run.dir",
        exit_code=code_of(error),
    )
