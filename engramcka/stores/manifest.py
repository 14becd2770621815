"""What a finished folder holds, file by file, and metadata that say when they were changed.

A manifest is written last, and held against the files when they are read. It is the metadata of a
Zarr group of its own, `manifest/zarr.json`, which other readers pass by; in a folder that is no
Zarr group (a checkpoint) the file is `manifest.json`. Every such file is written in one form only,
with a checksum inside, so that any byte of it that changes is noticed. Knows no zarr.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c

from engramcka.errors import StoreError
from engramcka.stores import layout
from engramcka.whole import whole

GROUP = "manifest"
PLAIN = "manifest.json"
_METADATA = "zarr.json"
_CHECKSUM = "checksum"
_BLOCK = 16 << 20  # bytes read at once
_CRC_BYTES = 4

Files = dict[str, tuple[int, int]]  # path from the folder -> bytes, crc32c as `_file_crc` has it


def write_node(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata of a Zarr group that holds its own checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / _METADATA) as scratch:
        scratch.write_bytes(_content(attributes))


def read_node(folder: Path) -> dict[str, Any]:
    """Attributes that `write_node` wrote.

    Raises:
        StoreError: the file is gone or is not what was written.
    """
    return _read(folder / _METADATA)


def seal(
    folder: Path,
    skip: Callable[[str], bool] = lambda name: False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest of every file in a folder, but those whose path from it is skipped.

    Args:
        folder: a Zarr group, or any folder.
        skip: says of a path from the folder whether it is left out.
        more: JSON, kept in the manifest too.
    """
    found: dict[str, list[int]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not _is_manifest(name) and not skip(name):
            found[name] = [path.stat().st_size, _file_crc(path)]
    if (folder / _METADATA).is_file():
        write_node(folder / GROUP, {**(more or {}), "files": found})
        return
    with whole(folder / PLAIN) as scratch:
        scratch.write_bytes(_content({**(more or {}), "files": found}))


def is_sealed(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return any(path.is_file() for path in _places(folder))


def files(folder: Path) -> Files:
    """What the manifest of a folder lists.

    Raises:
        StoreError: there is no manifest, it is not what was written, or it lists a file outside of
            the folder.
    """
    try:
        listed = attributes(folder)["files"]
        found = {str(name): (int(size), int(crc)) for name, (size, crc) in listed.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder}: its manifest lists no files") from error
    for name in found:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise StoreError(f"{folder}: its manifest lists {name!r}, outside of it")
    return found


def attributes(folder: Path) -> dict[str, Any]:
    """All that the manifest of a folder holds; raises as `files`."""
    group, plain = _places(folder)
    is_group = group.is_file() or (not plain.is_file() and (folder / _METADATA).is_file())
    return _read(group if is_group else plain)


def damage(folder: Path) -> Iterator[StoreError]:
    """Every listed file that is gone, of another size, or not what was written.

    Raises:
        StoreError: as `files`.
    """
    for name, (size, crc) in files(folder).items():
        what = _damage_of(folder / name, size, crc)
        if what:
            yield StoreError(f"{folder / name}: cannot be read ({what})")


def require_whole(folder: Path) -> None:
    """Refuse a folder of which a listed file is damaged; raises StoreError that names the first."""
    for error in damage(folder):
        raise error


def require_file(folder: Path, name: str) -> None:
    """Refuse one file of a folder if it is damaged or not listed; raises StoreError."""
    try:
        size, crc = files(folder)[name]
    except KeyError:
        raise StoreError(f"{folder}: its manifest lists no {name}") from None
    what = _damage_of(folder / name, size, crc)
    if what:
        raise StoreError(f"{folder / name}: cannot be read ({what})")


def seems_whole(folder: Path) -> bool:
    """Whether, as far as sizes and times tell, a folder is as it was written.

    Files that changed after the manifest are read, the others are not.
    """
    try:
        listed, found = files(folder), stamp(folder)
    except StoreError:
        return False
    return found is not None and not any(
        _damage_of(folder / name, size, crc, since=found[1]) for name, (size, crc) in listed.items()
    )


def stamp(folder: Path) -> tuple[int, int] | None:
    """Which manifest this is: another when the folder is replaced; None where there is none."""
    for place in _places(folder):
        with suppress(OSError):
            found = place.stat()
            return found.st_ino, found.st_mtime_ns
    return None


def unseal(folder: Path) -> None:
    """Delete the manifest, so that the folder counts as not finished."""
    for place in _places(folder):
        place.unlink(missing_ok=True)


def _damage_of(path: Path, size: int, crc: int, since: int | None = None) -> str:
    """What is wrong with a file; one that was not changed after ``since`` (ns) is not read."""
    try:
        if path.is_symlink():
            return "a link; a run holds none inside"
        found = path.stat()
        if found.st_size != size:
            return f"{found.st_size:,} bytes, {size:,} were written"
        if since is not None and found.st_mtime_ns <= since:
            return ""
        return "" if _file_crc(path) == crc else "not what was written"
    except FileNotFoundError:
        return "the file is gone"
    except OSError as error:
        return error.strerror or str(error)


def _places(folder: Path) -> tuple[Path, Path]:
    return folder / GROUP / _METADATA, folder / PLAIN


def _is_manifest(name: str) -> bool:
    return name in (f"{GROUP}/{_METADATA}", PLAIN) or name.endswith((".tmp", ".partial"))


def _content(attributes: Mapping[str, Any]) -> bytes:
    """The one form of a file: attributes as JSON without spaces, with their own checksum."""
    plain = {key: value for key, value in attributes.items() if key != _CHECKSUM}
    node = {
        "attributes": {**plain, _CHECKSUM: _crc(_json(plain))},
        "node_type": "group",
        "zarr_format": 3,
    }
    return _json(node)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.is_symlink() or path.stat().st_size > layout.MAX_METADATA:
            raise StoreError(f"{path}: cannot be read (a link, or larger than ours ever are)")
        content = path.read_bytes()
        attributes = json.loads(content)["attributes"]
        whole_again = _content(attributes) == content
    except FileNotFoundError as error:
        raise StoreError(f"{path}: cannot be read (the file is gone)") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read (not what was written)") from error
    if not whole_again:
        raise StoreError(f"{path}: cannot be read (not what was written)")
    return {key: value for key, value in attributes.items() if key != _CHECKSUM}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _file_crc(path: Path) -> int:
    """crc32c of a file's last four bytes and then the rest.

    Of a file that ends in its own crc32c, as a Zarr chunk does, the plain one would be the same
    whatever it holds.
    """
    with path.open("rb") as file:
        rest = max(0, path.stat().st_size - _CRC_BYTES)
        file.seek(rest)
        found = _crc(file.read(_CRC_BYTES))
        file.seek(0)
        while rest > 0 and (block := file.read(min(_BLOCK, rest))):
            found = google_crc32c.extend(found, block)
            rest -= len(block)
    return found


def _crc(content: bytes) -> int:
    found: int = google_crc32c.value(content)
    return found
