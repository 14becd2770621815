"""Kernel locks on open files, which go when their holder dies, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_NONE_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
