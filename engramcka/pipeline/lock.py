"""One run a directory at a time: an advisory lock that the kernel drops when its holder dies.

Runs that do different shares of the same work (see `engramcka.distributed`) may hold the directory
together; a run of the whole may not join them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from engramcka.errors import StoreError
from engramcka.stores import layout

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(run: Path, share: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Hold a run directory, alone or as one share of several.

    Args:
        run: the directory, which is there.
        share: (which, of how many), from 0; (0, 1) is the whole.

    Raises:
        StoreError: another process holds it; the message says who, where and since when.
    """
    part, parts = share
    with _held(run / layout.LOCK, shared=parts > 1):
        if parts == 1:
            yield
        else:
            with _held(run / f"{layout.LOCK}.{part}-of-{parts}", shared=False):
                yield


@contextmanager
def _held(path: Path, shared: bool) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{path.parent}: {_holder(path)}; wait for it", exit_code=2) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:  # a file system that has none: go on unguarded
                raise
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
        found = json.loads(path.read_text(encoding="utf-8"))
        return (
            f"held by process {int(found['pid'])} on {found['host']!s:.100} since "
            f"{found['since']!s:.40}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "held by another process"
