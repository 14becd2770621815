"""Compare every byte of a store, a run or a checkpoint with what was written.

Goes through the folders and reports for each how much was read and what is broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engramcka.errors import StoreError
from engramcka.own_files import is_folder, is_regular
from engramcka.results.kinds import KINDS
from engramcka.stores import activations, inventory, layout, manifest, nodes, results
from engramcka.stores.remote import is_url, open_remote
from engramcka.stores.run import check_frame


@dataclass
class Checked:
    """What was found in one folder."""

    path: Path | str  # a URL's as it was given
    files: int = 0
    bytes: int = 0
    broken: list[str] = field(default_factory=list)  # a line a file
    unfinished: bool = False  # a run that may lack more than was found
    samples_missing: int = 0  # of a store that is not finished; nothing is broken by it


def verify(path: Path | str) -> Iterator[Checked]:
    """Check a run, an activation store, a result or a checkpoint, a folder at a time.

    Args:
        path: the folder, or the URL of a finished activation store.

    Raises:
        StoreError: nothing there that could be checked.
    """
    if is_url(str(path)):
        yield check_remote(str(path))
        return
    path = Path(path)
    if not path.is_dir():
        raise StoreError(f"{path}: there is no such folder", exit_code=2)
    if layout.is_run(path) or any(
        is_folder(path / part) for part in (layout.RESULTS, layout.ACTIVATIONS)
    ):
        yield from _check_run(path)
    elif path.name == layout.RESULTS:
        yield from _check_results(path)
    elif any(is_folder(path / part) for part in (layout.WRITTEN, layout.SAMPLES)):
        yield check_store(path)
    elif path.parent.name in KINDS and path.parent.parent.name == layout.RESULTS:
        yield _check_result(path, None)
    elif manifest.is_complete(path) or is_regular(path / nodes.ZARR_JSON):
        yield check_folder(path)
    else:
        raise StoreError(
            f"{path}: neither a run nor a store, a result or a checkpoint", exit_code=2
        )


def check_folder(folder: Path, name: str | None = None) -> Checked:
    """Compare every file of a result or a checkpoint with its manifest, and that with its name.

    Args:
        folder: with a manifest.
        name: that it must have been written under, see `engramcka.stores.manifest.files`.
    """
    found = Checked(folder)
    try:
        listed = manifest.files(folder, name)
    except StoreError as error:
        found.broken.append(str(error))
        return found
    found.files, found.bytes = len(listed) + 1, sum(size for size, _ in listed.values())
    found.broken += [str(error) for error in manifest.damage(folder)]
    return found


def check_store(folder: Path) -> Checked:
    """Compare every file of an activation store with its manifest and the rows of `written`."""
    found = check_folder(folder) if manifest.is_complete(folder) else Checked(folder)
    try:
        store = activations.open_unchecked(folder)
        _ = store.samples
        found.broken += [str(error) for _, error in store.damaged(every_byte=True)]
        found.samples_missing = sum(stop - start for start, stop in store.missing())
        sizes = store.sizes()
    except StoreError as error:
        found.broken.append(f"{error}; its data could not be checked")
    else:
        found.files, found.bytes = found.files + len(sizes), found.bytes + sum(sizes)
        if not found.samples_missing and not store.is_complete:
            found.broken += check_folder(folder).broken
    for place, _, _ in os.walk(folder):
        found.broken += _odd(Path(place))
    found.broken = list(dict.fromkeys(found.broken))
    return found


def check_remote(url: str) -> Checked:
    """Fetch every byte of an activation store behind a URL and compare it with its checksums.

    Raises:
        StoreError: no such store there.
    """
    found = Checked(url)
    try:
        store = open_remote(url)
    except StoreError as error:
        if error.exit_code == 2:
            raise
        found.broken.append(str(error))
        return found
    sizes = store.sizes()
    found.files = len(manifest.files(store.path)) + 1 + len(sizes)
    found.bytes = sum(size for size, _ in manifest.files(store.path).values()) + sum(sizes)
    found.broken += [str(error) for _, error in store.damaged(every_byte=True)]
    return found


def _check_run(run: Path) -> Iterator[Checked]:
    yield _check_inventory(run)
    for store in inventory.folders_in(run / layout.ACTIVATIONS):
        yield check_store(store)
    if is_folder(run / layout.RESULTS):
        yield from _check_results(run / layout.RESULTS)
    for checkpoint in inventory.folders_in(run / layout.CHECKPOINTS):
        yield check_folder(checkpoint, checkpoint.name)
    for training in layout.work_folders(run):
        yield Checked(training, broken=_odd(training))
        for part in inventory.folders_in(training):
            if part.name != layout.TRAINER:
                yield _check_state(part)


def _check_inventory(run: Path) -> Checked:
    """What belongs to no store, result or model, and what is gone; links and whatever is odd."""
    found = Checked(run, unfinished=not inventory.is_finished(run))
    try:
        check_frame(run)
    except StoreError as error:
        found.broken.append(str(error))
    found.broken += [str(error) for error in inventory.damage(run)]
    if os.path.lexists(run / manifest.PLAIN):
        with suppress(StoreError):
            listed = manifest.files(run)
            found.bytes = sum(size for size, _ in listed.values())
            found.files = len(listed) + 1 + is_regular(run / layout.LOG)
    for place in (run, *(run / part for part in layout.PLACES)):
        found.broken += _odd(place)
    return found


def _odd(folder: Path) -> list[str]:
    """What in a folder is neither a file nor a folder."""
    if not is_folder(folder):
        return []
    paths = [folder / name for name in sorted(os.listdir(folder))]
    return [
        f"{path}: cannot be read (a link, a pipe or a device; a run holds none)"
        for path in paths
        if os.path.lexists(path) and not is_regular(path) and not is_folder(path)
    ]


def _check_state(folder: Path) -> Checked:
    """Check a state of a training; one that a run replaces meanwhile is checked again."""
    while folder.exists():
        before = manifest.stamp(folder)
        found = check_folder(folder)
        if not found.broken or manifest.stamp(folder) == before:
            return found
    return Checked(folder)


def _check_results(folder: Path) -> Iterator[Checked]:
    root = Checked(folder)
    for place in (folder, *(folder / kind for kind in KINDS if is_folder(folder / kind))):
        root.files += 1
        try:
            results.read_root(folder) if place == folder else manifest.read_node(place)
        except StoreError as error:
            root.broken.append(str(error))
        root.broken += _odd(place)
    yield root
    for kind in KINDS:
        for result in inventory.folders_in(folder / kind):
            yield _check_result(result, f"{kind}/{result.name}")


def _check_result(folder: Path, name: str | None) -> Checked:
    """Compare its bytes with its manifest, and read it as a result."""
    found = check_folder(folder, name)
    if not found.broken:
        try:
            results.read_result(folder.parent.parent, folder.parent.name, folder.name)
        except StoreError as error:
            found.broken.append(str(error))
    return found
