"""Files and folders that appear complete or not at all.

Writers fill a scratch folder beside the target, then rename. Four do not: the log, whose last line
may be cut off; hidden states, where a chunk counts once its row in `written` is there; the lock of
a run; and copies of remote files in a temporary folder. A scratch is a hidden folder that shows
whether the process that made it is alive, so that nobody deletes it before:

    .HEX.tmp/lock       locked (flock) while the scratch is filled
    .HEX.tmp/new/NAME   what is being written, under the name it will have
    .HEX.tmp/old        a folder whose place it took, on its way out
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engramcka.own_files import is_folder, is_still, open_descriptor, try_lock

_NAME = re.compile(r"\.[0-9a-f]{12}\.tmp")
_LOCK, _NEW, _OLD = "lock", "new", "old"
_ATTEMPTS = 10
_DAY = 86_400.0  # seconds; where there are no locks, younger scratch may be somebody's


def is_scratch(name: str) -> bool:
    """Whether a name in a folder is that of a scratch."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def atomic_path(target: Path, beside: Path | None = None) -> Iterator[Path]:
    """A path to fill; when the block ends well it becomes ``target``, replacing an older.

    If the block raises, what it wrote is deleted and an older target stays; an OSError names the
    target, not the scratch. Folders change places at once on Linux; elsewhere a reader may meet a
    moment without one, never half of one.

    Args:
        target: file or folder, in a folder that is there when the block ends.
        beside: the scratch is made beside this path instead, where the target's own folder is
            listed by others; on the same file system.
    """
    content: Path | None = None
    try:
        with _scratch((beside or target).parent) as scratch:
            content = scratch / _NEW / target.name
            content.parent.mkdir()
            yield content
            _move(content, target, scratch / _OLD)
    except OSError as error:
        _name_target(error, content, target)
        raise


def remove_at_once(folder: Path) -> None:
    """Delete a folder in such a way that no half of it is ever seen."""
    with _scratch(folder.parent) as scratch:
        os.replace(folder, scratch / _OLD)


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """A folder, made with those above it where it is not there.

    If the block raises, those that were made are deleted again, as far as nobody has put anything
    into them.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def remove_scratch(folder: Path, deep: bool = True) -> None:
    """Delete what killed processes left half-written in a folder; that of living ones stays.

    Args:
        folder: to look in; links are not followed.
        deep: look at every depth, and not only in the folder itself.
    """
    for root, names, _ in os.walk(folder):
        for path in (Path(root, name) for name in filter(is_scratch, names)):
            if is_folder(path):
                _remove_dead(path)
        names[:] = [name for name in names if not is_scratch(name)] if deep else []


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A new scratch, held while the block runs and deleted after it."""
    for _ in range(_ATTEMPTS):
        scratch = place / f".{secrets.token_hex(6)}.tmp"
        scratch.mkdir()
        descriptor = None
        try:
            descriptor = _hold(scratch)
            if descriptor is None:  # taken for a dead process's before it could be held
                continue
            yield scratch
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)  # first: some network file systems keep open files' names
            shutil.rmtree(scratch, ignore_errors=True)
    raise OSError(f"{place}: others delete what is written here")


def _hold(scratch: Path) -> int | None:
    """Lock a scratch of our own making; None if somebody was there before."""
    try:
        descriptor = os.open(scratch / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    except (FileExistsError, FileNotFoundError):
        return None
    try:
        if try_lock(descriptor) is not False and is_still(scratch / _LOCK, descriptor):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _remove_dead(scratch: Path) -> None:
    """Delete a scratch if its maker lives no more."""
    lock = scratch / _LOCK
    with suppress(OSError):  # another has just deleted it, or it is not ours to delete
        descriptor = open_descriptor(lock, os.O_RDWR | os.O_CREAT)
        try:
            held = try_lock(descriptor)
            if is_still(lock, descriptor) and (held or (held is None and _age(scratch) > _DAY)):
                shutil.rmtree(scratch, ignore_errors=True)
        finally:
            os.close(descriptor)
        scratch.rmdir()  # some network file systems keep an open file's name until now


def _age(scratch: Path) -> float:
    """Seconds since anything was written in a scratch."""
    paths = [scratch, *(Path(root, name) for root, _, names in os.walk(scratch) for name in names)]
    return time.time() - max(os.lstat(path).st_mtime for path in paths)


def _move(content: Path, target: Path, old: Path) -> None:
    try:
        os.replace(content, target)
    except OSError:
        if not (is_folder(target) and is_folder(content)):  # a file never takes a folder's place
            raise
        if not _exchange(content, target):
            os.replace(target, old)
            os.replace(content, target)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places at once, where the kernel and the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and not rename(
        here, os.fsencode(one), here, os.fsencode(other), exchange
    )


def _name_target(error: OSError, content: Path | None, target: Path) -> None:
    """Let an error name what was to be written: its scratch is gone when somebody reads this."""
    if error.errno is None:  # in words of its own
        return
    named = error.filename if isinstance(error.filename, str) else None
    inside = content is not None and named is not None and Path(named).is_relative_to(content)
    if inside and content is not None and named is not None:
        error.filename = str(target / Path(named).relative_to(content))
    elif named is None or any(map(is_scratch, Path(named).parts)):
        error.filename = str(target)
