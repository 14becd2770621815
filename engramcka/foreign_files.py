"""Files and folders that somebody else made, outside of any run: regular files, and nothing else.

Links to files are followed, since the hub's cache is made of them; one that leads out of the folder
that it came with is refused (it would make data of what else is on this machine), but for the
hub's own. A pipe, a socket or a device is never opened. For files of a run: `engramcka.own_files`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engramcka.own_files import NotRegular

_SNAPSHOTS, _BLOBS = "snapshots", "blobs"  # of the hub's cache: links there, what they lead to here


def require_file(path: Path) -> None:
    """Refuse what is no regular file where its links lead; raises OSError."""
    _check(path, os.stat(path))


def open_file(path: Path) -> BinaryIO:
    """Open for reading, buffered; raises OSError, as for what is no regular file."""
    require_file(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, most: int) -> bytes:
    """The content of a file of ``most`` bytes at most; raises as `open_file`."""
    with open_file(path) as file:
        is_larger = os.fstat(file.fileno()).st_size > most
        found = b"" if is_larger else file.read(most + 1)
    if is_larger or len(found) > most:  # of what is no file on a disk the size is 0
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return found


def files_of(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a folder and its bytes, in no order.

    Raises:
        OSError: there is what is no file or folder, or a link that leads out of the folder.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.is_symlink():
                require_inside(path, folder)
            elif name in folders:
                continue
            found = path.stat()
            _check(path, found)
            yield path, found.st_size


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a path that a link leads out of a folder; raises `NotRegular`."""
    root = folder.resolve()
    places = [root]
    for parent in (root, *root.parents):
        if parent.parent.name == _SNAPSHOTS:
            places.append(parent.parent.parent / _BLOBS)
    try:
        leads_to = path.resolve(strict=True)
    except RuntimeError as error:  # in a circle, before Python 3.13
        raise NotRegular(path, "a link that leads nowhere", errno.ELOOP) from error
    if not any(leads_to.is_relative_to(place) for place in places):
        raise NotRegular(
            path, "a link that leads out of its folder; copy what it points to", errno.ELOOP
        )


def _raise(error: OSError) -> None:
    raise error


def _check(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IFMT(found.st_mode)
    if mode != stat.S_IFREG:
        what = "a folder" if mode == stat.S_IFDIR else "a pipe, a socket or a device"
        raise NotRegular(path, f"{what}, no file")
