"""Files of our own, in a folder that may come from somebody else: opened if regular, and locked.

A link could lead anywhere, a pipe never ends, a device does things when it is opened: what is no
regular file, or is reached through a link below the folder it belongs to, is refused with an
OSError in words. Readers of a run, a store or a checkpoint open files here, and so do writers that
open a file which may be there already (others: `engramcka.atomic`). Folders that libraries open by
themselves are checked first, see `engramcka.stores.manifest.refuse_unlisted_files`. Files that
belong to no run: `engramcka.foreign_files`.

Locks are the kernel's, on open files; they go when their holder dies. Some file systems have none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO

_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe that came in between cannot hang us
_NONE_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class NotRegular(OSError):
    """A link, a pipe, a socket, a device or a folder where a file of ours should be."""

    def __init__(self, path: Path, what: str, number: int = errno.EINVAL) -> None:
        super().__init__(number, what, str(path))


def open_regular(path: Path, within: Path | None = None) -> BinaryIO:
    """Open a file for reading, unbuffered.

    Args:
        path: the file.
        within: the folder it belongs to; no part of the path below it may be a link.

    Raises:
        OSError: not there, no regular file, or reached through a link.
    """
    if within is not None:
        check_way(path, within)
    return os.fdopen(open_descriptor(path, os.O_RDONLY), "rb", buffering=0)


def open_descriptor(path: Path, flags: int, mode: int = 0o644) -> int:
    """`os.open` of a regular file, which is made where ``flags`` say so; raises as `open_regular`.

    Raises:
        ValueError: ``O_TRUNC``, with which the file would be empty before it is known to be one.
    """
    if flags & os.O_TRUNC:
        raise ValueError("a file is emptied once it is known to be one")
    try:
        _refuse(path, os.lstat(path))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(path, flags | _SAFE, mode)
    try:
        _refuse(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path, most: int, within: Path | None = None) -> bytes:
    """The content of a file of ``most`` bytes at most; raises as `open_regular`."""
    with open_regular(path, within) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, more than ours ever are", str(path))
        return _read_all(file, size)


def is_regular(path: Path | str) -> bool:
    """Whether there is a regular file; a link to one is none."""
    return _mode(path) == stat.S_IFREG


def is_folder(path: Path) -> bool:
    """Whether there is a folder; a link to one is none."""
    return _mode(path) == stat.S_IFDIR


def check_folder(path: Path) -> None:
    """Refuse what is there but is no folder of its own; raises `NotRegular`."""
    mode = _mode(path)
    if mode is not None and mode != stat.S_IFDIR:
        raise NotRegular(path, _what(mode, "folder"), _number(mode))


def check_file(path: Path) -> None:
    """Refuse what is there but is no file of its own; raises `NotRegular`."""
    mode = _mode(path)
    if mode is not None and mode != stat.S_IFREG:
        raise NotRegular(path, _what(mode, "file"), _number(mode))


def check_way(path: Path, within: Path) -> None:
    """Refuse a path of which a folder below ``within`` is a link; raises `NotRegular`."""
    for folder in path.parents:
        if folder == within:
            return
        check_folder(folder)
    raise NotRegular(path, f"not in {within}")


def _refuse(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IFMT(found.st_mode)
    if mode != stat.S_IFREG:
        raise NotRegular(path, _what(mode, "file"), _number(mode))


def _what(mode: int, expected: str) -> str:
    if mode == stat.S_IFLNK:
        return "a link; a run holds none inside, copy what it points to"
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return f"{kinds.get(mode, 'a device')}, no {expected}"


def _number(mode: int) -> int:
    return {stat.S_IFLNK: errno.ELOOP, stat.S_IFDIR: errno.EISDIR}.get(mode, errno.EINVAL)


def _mode(path: Path | str) -> int | None:
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a name that no file can have
        return None


def _read_all(file: BinaryIO, size: int) -> bytes:
    """Everything, a little more than ``size`` where the file grows; fewer where it is cut."""
    found = bytearray()
    while block := file.read(max(1, size - len(found))):
        found += block
        if len(found) > size:
            break
    return bytes(found)


def try_lock(descriptor: int, shared: bool = False) -> bool | None:
    """Lock an open file, alone or together with others that share it; does not wait.

    Returns:
        Whether it is locked now, False where another holds it; None where the file system has no
        locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise
        return None
    return True


def is_still(path: Path, descriptor: int) -> bool:
    """Whether a path is still that of an open file, which another may have deleted."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
