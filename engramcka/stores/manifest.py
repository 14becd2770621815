"""What a finished folder holds, file by file, and metadata that say when they were changed.

A manifest is written last, and the files are compared with it when they are read. It is the
metadata of a Zarr group of its own, `manifest/zarr.json`, which other readers ignore; in a folder
that is no Zarr group (a checkpoint) the file is `manifest.json`. Every such file is written in one
form only, with a checksum inside, so that any byte of it that changes is noticed, and holds the
name under which its folder was written, so that two that change places are too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from crc32c import crc32c

from engramcka import foreign_files
from engramcka.atomic import atomic_path, is_scratch
from engramcka.errors import StoreError
from engramcka.own_files import check_folder, is_folder, is_regular, open_regular, read_regular
from engramcka.stores import layout, nodes
from engramcka.stores.nodes import CRC_BYTES

GROUP = "manifest"
PLAIN = "manifest.json"
_METADATA = nodes.ZARR_JSON
_NAME = "name"
_CHECKSUM = "checksum"
_BLOCK = 16 << 20  # bytes read at once

Files = dict[str, tuple[int, int]]  # path from the folder -> bytes, crc32c as `_file_crc` has it


def write_node(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata of a Zarr group that holds its own checksum."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / _METADATA) as scratch:
        scratch.write_bytes(_content(attributes))


def read_node(folder: Path) -> dict[str, Any]:
    """Attributes that `write_node` wrote.

    Raises:
        StoreError: the file is gone or is not what was written.
    """
    return _read(folder / _METADATA, folder)


def finalize(
    folder: Path,
    name: str | None = None,
    skip: Callable[[str], bool] = lambda name: False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest of every file in a folder, but those whose path from it is skipped.

    Args:
        folder: a Zarr group, or any folder.
        name: under which it is read: KIND/NAME of a result, TRAINING of a trained model.
        skip: says of a path from the folder whether it is left out.
        more: JSON, kept in the manifest too.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in files_in(folder)}
    found = {
        at: size_and_crc(path, folder)
        for at, path in paths.items()
        if not _is_manifest(at) and not skip(at)
    }
    write(folder, found, name, more)


def write(
    folder: Path, files: Files, name: str | None = None, more: Mapping[str, Any] | None = None
) -> None:
    """Write a manifest that lists these files; see `finalize`."""
    content = {**(more or {}), **({_NAME: name} if name else {}), "files": files}
    if is_regular(folder / _METADATA):
        write_node(folder / GROUP, content)
        return
    with atomic_path(folder / PLAIN) as scratch:
        scratch.write_bytes(_content(content))


def size_and_crc(path: Path, within: Path, most: int | None = None) -> tuple[int, int]:
    """(bytes, fingerprint) of a file, or of its first ``most`` bytes; raises OSError."""
    with open_regular(path, within) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None:
            size = min(size, most)
        return size, _file_crc(file, size)


def is_complete(folder: Path) -> bool:
    """Whether a folder has a manifest."""
    return any(_is_there(path) for path in _places(folder))


def files(folder: Path, name: str | None = None) -> Files:
    """What the manifest of a folder lists.

    Args:
        folder: with a manifest.
        name: that the folder, no link, must have been written under; manifests of before there
            were names have none.

    Raises:
        StoreError: there is no manifest, it is not what was written, it is another folder's, or it
            lists a file outside of the folder.
    """
    if name is not None:
        layout.check_store(folder)
    said = attributes(folder)
    if name is not None and said.get(_NAME, name) != name:
        raise StoreError(
            f"{folder}: holds {said[_NAME]!s:.200}, and not {name}: they have changed places; give "
            "each its own name back, or delete it to make it again"
        )
    try:
        return checked_files(said["files"])
    except KeyError as error:
        raise StoreError(f"{folder}: its manifest lists no files") from error
    except ValueError as error:
        raise StoreError(f"{folder}: its manifest lists {error}") from error


def checked_files(listed: Any) -> Files:
    """Files as JSON lists them: a path that stays inside, and two whole numbers each.

    Raises:
        ValueError: in words, what is not so.
    """
    if not isinstance(listed, dict):
        raise ValueError("no files")
    for path, facts in listed.items():
        if ".." in Path(path).parts or Path(path).is_absolute() or not path.isprintable():
            raise ValueError(f"{path!a:.200}, outside of it")
        if not (isinstance(facts, list | tuple) and len(facts) == 2 and all(map(_is_count, facts))):
            raise ValueError(f"{path:.200} without its size and fingerprint")
    return {path: (size, crc) for path, (size, crc) in listed.items()}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def attributes(folder: Path) -> dict[str, Any]:
    """All that the manifest of a folder holds; raises as `files`."""
    group, plain = _places(folder)
    is_group = _is_there(group) or (not is_regular(plain) and is_regular(folder / _METADATA))
    return _read(group if is_group else plain, folder)


def damage(folder: Path, name: str | None = None) -> Iterator[StoreError]:
    """Every listed file that is gone, of another size, or not what was written.

    Raises:
        StoreError: as `files`.
    """
    for path, (size, crc) in files(folder, name).items():
        what = damage_of(folder / path, folder, size, crc)
        if what:
            yield StoreError(f"{folder / path}: cannot be read ({what})")


def require_intact(folder: Path, name: str | None = None) -> None:
    """Refuse a folder of which a listed file is damaged; raises StoreError that names the first."""
    for error in damage(folder, name):
        raise error


def require_intact_file(folder: Path, path: str, name: str | None = None) -> None:
    """Refuse one file of a folder if it is damaged or not listed; raises StoreError."""
    try:
        size, crc = files(folder, name)[path]
    except KeyError:
        raise StoreError(f"{folder}: its manifest lists no {path}") from None
    what = damage_of(folder / path, folder, size, crc)
    if what:
        raise StoreError(f"{folder / path}: cannot be read ({what})")


def looks_intact(folder: Path, name: str | None = None) -> bool:
    """Whether a folder is as it was written, judged by sizes and times.

    Files that changed after the manifest are read, the others are not.
    """
    try:
        listed, found = files(folder, name), stamp(folder)
    except StoreError:
        return False
    return found is not None and not any(
        damage_of(folder / path, folder, size, crc, since=found[1])
        for path, (size, crc) in listed.items()
    )


def stamp(folder: Path) -> tuple[int, int] | None:
    """Which manifest this is: another when the folder is replaced; None where there is none."""
    for place in _places(folder):
        with suppress(OSError):
            found = place.stat()
            return found.st_ino, found.st_mtime_ns
    return None


def fingerprint(folder: Path) -> tuple[int, int]:
    """(bytes, crc32c) of the manifest of a folder that has one; raises StoreError."""
    group, plain = _places(folder)
    place = group if _is_there(group) else plain
    try:
        return size_and_crc(place, folder)
    except OSError as error:
        raise StoreError(f"{place}: cannot be read ({error.strerror or error})") from error


def mark_incomplete(folder: Path) -> None:
    """Delete the manifest, so that the folder counts as not finished."""
    for place in _places(folder):
        if is_folder(place.parent):  # no link, through which another's would be deleted
            place.unlink(missing_ok=True)


def damage_of(path: Path, within: Path, size: int, crc: int, since: int | None = None) -> str:
    """What is wrong with a file; one that was not changed after ``since`` (ns) is not read."""
    try:
        with open_regular(path, within) as file:
            found = os.fstat(file.fileno())
            if found.st_size != size:
                return f"{found.st_size:,} bytes, {size:,} were written"
            if since is not None and found.st_mtime_ns <= since:
                return ""
            return "" if _file_crc(file, size) == crc else "not what was written"
    except FileNotFoundError:
        return "the file is gone"
    except OSError as error:
        return error.strerror or str(error)


def files_in(folder: Path) -> list[Path]:
    """Every file in a folder, at any depth; links are neither listed nor followed."""
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if is_regular(path))


def _is_there(place: Path) -> bool:
    """Whether a manifest is there, in a folder that is no link."""
    return is_folder(place.parent) and is_regular(place)


def _places(folder: Path) -> tuple[Path, Path]:
    return folder / GROUP / _METADATA, folder / PLAIN


def _is_manifest(name: str) -> bool:
    if name in (f"{GROUP}/{_METADATA}", PLAIN) or name.endswith(".partial"):
        return True
    return any(map(is_scratch, name.split("/")))


def _content(attributes: Mapping[str, Any]) -> bytes:
    """The one form of a file: attributes as JSON without spaces, with their own checksum."""
    plain = {key: value for key, value in attributes.items() if key != _CHECKSUM}
    node = {
        "attributes": {**plain, _CHECKSUM: crc32c(_json(plain))},
        "node_type": "group",
        "zarr_format": 3,
    }
    return _json(node)


def _read(path: Path, within: Path) -> dict[str, Any]:
    try:
        content = read_regular(path, nodes.MOST_BYTES, within)
        attributes = json.loads(content)["attributes"]
        is_ours = _content(attributes) == content
    except FileNotFoundError as error:
        raise StoreError(f"{path}: cannot be read (the file is gone)") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read (not what was written)") from error
    if not is_ours:
        raise StoreError(f"{path}: cannot be read (not what was written)")
    return {key: value for key, value in attributes.items() if key != _CHECKSUM}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _file_crc(file: BinaryIO, size: int) -> int:
    """crc32c of a file's last four bytes and then the rest, of its first ``size`` bytes.

    Of a file that ends in its own crc32c, as a Zarr chunk does, the plain one would be the same
    whatever it holds.
    """
    rest = max(0, size - CRC_BYTES)
    file.seek(rest)
    found = crc32c(file.read(size - rest))
    file.seek(0)
    while rest > 0 and (block := file.read(min(_BLOCK, rest))):
        found = crc32c(block, found)
        rest -= len(block)
    return found


def refuse_unlisted_files(folder: Path) -> None:
    """Refuse a folder that holds a file which its manifest does not list; hidden ones no one reads.

    Raises:
        StoreError: names the first.
    """
    listed = {*files(folder), PLAIN}
    try:
        found = {path.relative_to(folder) for path, _ in foreign_files.files_of(folder)}
    except OSError as error:
        raise StoreError(
            f"{error.filename or folder}: {error.strerror or error}; delete it"
        ) from error
    for name in sorted(path.as_posix() for path in found if not path.name.startswith(".")):
        if name not in listed:
            raise StoreError(
                f"{folder / name}: was put there by something else, and would be read with the "
                "files of the run; delete it"
            )
