"""Files and folders that appear whole or not at all.

Every writer of the package goes through here: fill a scratch path beside the target, then rename.
Knows nothing of what is written.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """A scratch path to fill; when the block ends well it becomes ``target``, replacing an older.

    If the block raises, the scratch is deleted and an older target stays. Folders change places at
    once on Linux; elsewhere a reader may meet a moment without one, never half of one.

    Args:
        target: file or folder, in a folder that is there when the block ends.
        beside: the scratch is made beside this path instead, where the target's own folder is
            listed by others; on the same file system.
    """
    scratch = (beside or target).with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        yield scratch
        _move(scratch, target)
    finally:
        _remove(scratch)


def _move(scratch: Path, target: Path) -> None:
    try:
        os.replace(scratch, target)
    except OSError:
        if not (target.is_dir() and scratch.is_dir()):  # a file never takes a folder's place
            raise
        old = scratch.with_suffix(".old")  # a rename does not replace a folder that holds something
        if _exchange(scratch, target):
            os.replace(scratch, old)
        else:
            os.replace(target, old)
            os.replace(scratch, target)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places at once, where the kernel and the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and not rename(
        here, os.fsencode(one), here, os.fsencode(other), exchange
    )


def remove_scratch(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder and in those right below it."""
    for pattern in (".*.tmp", ".*.old", "*/.*.tmp", "*/.*.old"):
        for left in folder.glob(pattern):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
