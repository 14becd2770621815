"""One run a directory at a time: an advisory lock that the kernel drops when its holder dies.

Runs that do different shares of the same work (see `engramcka.distributed`) may hold the directory
together; a run of the whole may not join them. Whatever writes into a run holds it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from engramcka.errors import StoreError
from engramcka.own_files import is_still, open_descriptor, read_regular, try_lock
from engramcka.stores import layout

_MOST_BYTES = 4096  # of a lock's text
_POLL = 0.05  # seconds


@contextmanager
def hold(run: Path, share: tuple[int, int] = (0, 1), patience: float = 0.0) -> Iterator[None]:
    """Hold a run directory, alone or as one share of several.

    Args:
        run: the directory, which is there.
        share: (which, of how many), from 0; (0, 1) is the whole.
        patience: seconds to wait for another process that holds it.

    Raises:
        StoreError: another process holds it; the message says who, where and since when.
        OSError: the lock is no regular file, or cannot be written.
    """
    part, parts = share
    with _held(run / layout.LOCK, shared=parts > 1, patience=patience):
        if parts == 1:
            yield
        else:
            with _held(run / f"{layout.LOCK}.{part}-of-{parts}", shared=False, patience=patience):
                yield


@contextmanager
def _held(path: Path, shared: bool, patience: float) -> Iterator[None]:
    descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT)
    try:
        end = time.monotonic() + patience
        while try_lock(descriptor, shared) is False:  # None: there are no locks, go on unguarded
            if time.monotonic() >= end:
                raise StoreError(f"{path.parent}: {_holder(path)}; wait for it", exit_code=2)
            time.sleep(_POLL)
        if not is_still(path, descriptor):  # a folder that an import made, and put away again
            raise FileNotFoundError(errno.ENOENT, "deleted while it was waited for", str(path))
        with suppress(OSError):  # it is held, though a full disk may not let it say by whom
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_ourselves()).encode(), 0)
        yield
    finally:
        os.close(descriptor)  # the lock goes with it; the file stays, or two could hold two files


def _ourselves() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _holder(path: Path) -> str:
    """Who holds the lock, in words."""
    try:
        found = json.loads(read_regular(path, _MOST_BYTES))
        return (
            f"held by process {int(found['pid'])} on {found['host']!s:.100} since "
            f"{found['since']!s:.40}"
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "held by another process"
