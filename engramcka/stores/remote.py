"""Activation stores behind a URL (s3://, gs://, https://, ..): read and never written, by fsspec.

All of a store but its hidden states is small: it is fetched when the store is opened, compared with
the manifest, and kept in a temporary folder. Hidden states are fetched a range of bytes at a time,
and every part is compared with its checksum, as on a local disk. Nothing is written behind a URL,
where there are no locks and nothing is renamed at once.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NoReturn

from engramcka.errors import StoreError
from engramcka.plain_text import first_line
from engramcka.stores import manifest, nodes
from engramcka.stores.activation_metadata import store_attributes
from engramcka.stores.activations import ActivationStore
from engramcka.stores.shards import parallel_map

_THREADS = 16  # requests under way at once: what bounds them is latency, not cores
_MOST_BYTES = 4 << 30  # of all that is fetched to open a store
_EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")


def is_url(path: str) -> bool:
    """Whether a path names a place that fsspec reads."""
    return _URL.match(path) is not None


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder behind a URL; of `pathlib.Path` it has what readers of stores use."""

    url: str
    files: Any  # fsspec's file system
    path: str  # on it

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}", self.files, f"{self.path}/{name}")

    @property
    def threads(self) -> int:
        """Requests at once: file systems of fsspec that are not asynchronous bear only one."""
        return _THREADS if self.files.async_impl else 1

    def open(self, mode: str = "rb", buffering: int = 0) -> RemoteFile:
        """For reading; raises OSError."""
        return RemoteFile(self)

    def lstat(self) -> Any:
        """Its size, and a time that is never later than another; raises OSError."""
        with _as_os_error():
            return SimpleNamespace(st_size=int(self.files.size(self.path)), st_mtime_ns=0)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes start to stop, fewer where it ends before; raises OSError."""
        with _as_os_error():
            found: bytes = self.files.cat_file(self.path, start=start, end=stop)
        if len(found) > stop - start:
            raise OSError("the server sends whole files, and no range of bytes")
        return found


class RemoteFile(io.RawIOBase):
    """A file behind a URL, a request a read."""

    def __init__(self, path: RemotePath) -> None:
        self._path, self._at = path, 0
        self._size = path.lstat().st_size

    def readable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, counted from the start or from the end."""
        assert whence in (io.SEEK_SET, io.SEEK_END)
        self._at = offset + (self._size if whence == io.SEEK_END else 0)
        return self._at

    def read_places(self, starts: list[int], size: int) -> list[bytes]:
        """So many bytes at each of these places, all requests at once."""
        path, files = self._path.path, self._path.files
        with _as_os_error():
            found = files.cat_ranges(
                [path] * len(starts), starts, [start + size for start in starts]
            )
        return [bytes(part) for part in found]

    def readinto(self, target: Any) -> int:
        """Fill ``target`` from here on; gives how many bytes there were."""
        view = memoryview(target).cast("B")
        stop = min(self._at + len(view), self._size)
        found = self._path.read(self._at, stop) if stop > self._at else b""
        view[: len(found)] = found
        self._at += len(found)
        return len(found)


@dataclass(frozen=True)
class RemoteStore(ActivationStore):
    """A finished activation store behind a URL; ``path`` is the folder of its small files."""

    root: RemotePath
    folder: TemporaryDirectory[str]  # deleted with the store

    def write(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StoreError: a store behind a URL is read only."""
        raise self._read_only()

    def discard_chunk(self, chunk: int) -> NoReturn:
        """Raise StoreError: a store behind a URL is read only."""
        raise self._read_only()

    def finalize(self) -> NoReturn:
        """Raise StoreError: a store behind a URL is read only."""
        raise self._read_only()

    @property
    def _root(self) -> Any:
        return self.root

    @cached_property
    def _threads(self) -> int:
        return self.root.threads

    def _read_only(self) -> StoreError:
        return StoreError(f"{self.root}: is read only, as all that is behind a URL", exit_code=2)


def remote_path(url: str) -> RemotePath:
    """The place that a URL names.

    Raises:
        StoreError: a protocol that fsspec does not know, or whose package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url.rstrip("/"))
    except ImportError as error:
        extra = _EXTRAS.get(url.split("::")[-1].partition("://")[0])
        advice = f"install it with: pip install 'engramcka[{extra}]'" if extra else ""
        reason = f"{url}: {first_line(error)}"
        raise StoreError("; ".join(filter(None, (reason, advice))), exit_code=2) from error
    except Exception as error:  # each protocol's package raises its own kinds
        raise StoreError(f"{url}: {first_line(error)}", exit_code=2) from error
    return RemotePath(url.rstrip("/"), files, path.rstrip("/"))


def has_store(root: RemotePath) -> bool:
    """Whether a finished activation store is there; raises StoreError if nobody can say."""
    listing = root / f"{manifest.GROUP}/{nodes.ZARR_JSON}"
    try:
        listing.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(listing, error) from error
    return True


def open_remote(url: str) -> RemoteStore:
    """Open a finished activation store behind a URL, for reading.

    Raises:
        StoreError: none there, unfinished, of another format version, or a file of it is damaged.
    """
    root = remote_path(url)
    folder = TemporaryDirectory(prefix="engramcka-")
    local = Path(folder.name)
    listing = f"{manifest.GROUP}/{nodes.ZARR_JSON}"
    if not _fetch(root, local, listing, nodes.MOST_BYTES):
        raise StoreError(
            f"{root}: no finished activation store there ({listing} is missing)", exit_code=2
        )
    with _named_as(root, local):
        files = manifest.files(local)
        if sum(size for size, _ in files.values()) > _MOST_BYTES:
            raise StoreError(f"{root}: more than {_MOST_BYTES >> 30} GiB beside its hidden states")
        parallel_map(
            lambda one: _fetch(root, local, one[0], one[1][0] + 1), [*files.items()], root.threads
        )
        manifest.require_intact(local)
        attributes = nodes.read_group(local, local)
        return RemoteStore(
            local, attributes, store_attributes(Path(root.path), attributes), root, folder
        )


def _fetch(root: RemotePath, local: Path, name: str, most: int) -> bool:
    """A file, of so many bytes at most, into the temporary folder; whether it is there."""
    content = _fetched(root / name, most)
    if content is None:
        return False
    (local / name).parent.mkdir(parents=True, exist_ok=True)
    (local / name).write_bytes(content)
    return True


def _fetched(path: RemotePath, most: int) -> bytes | None:
    try:
        size = min(path.lstat().st_size, most)
        return path.read(0, size) if size else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: RemotePath, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be read ({error.strerror or error})")


@contextmanager
def _named_as(root: RemotePath, local: Path) -> Iterator[None]:
    """Errors about the temporary folder's files as what they are copies of."""
    try:
        yield
    except StoreError as error:
        raise StoreError(str(error).replace(str(local), str(root))) from error


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever a protocol's package raises as the errors that files raise."""
    try:
        yield
    except FileNotFoundError as error:
        cause = error.__cause__  # of http's, that there was no answer
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise OSError(first_line(cause)) from error
        raise
    except OSError:
        raise
    except Exception as error:
        raise OSError(first_line(error)) from error
