"""Making again what is damaged in an activation store, and only that. Knows no models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engramcka.errors import StoreError
from engramcka.regular import is_folder
from engramcka.stores import layout, manifest, nodes, samples
from engramcka.stores.activations import ActivationStore, open_activations
from engramcka.stores.attributes import store_attributes
from engramcka.whole import whole


def stored_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store, its inputs among them, also where some file of it is damaged.

    Raises:
        StoreError: not such a store, or damaged so that it cannot be told.
    """
    layout.check_store(path)
    try:
        return open_activations(path).attributes
    except StoreError as error:
        try:
            attributes = dict(manifest.attributes(path)["store"])
            store_attributes(path, attributes)
            return attributes
        except (StoreError, KeyError, TypeError, ValueError):
            pass  # the manifest is the damaged file: the store's own metadata say it too
        try:
            attributes = nodes.read_group(path, path)
            store_attributes(path, attributes)
        except StoreError:
            raise error from None
        return attributes


def make_or_mend(path: Path, make: Callable[[Path], Any]) -> ActivationStore:
    """Open a store to fill it up: made if it is not there, without the chunks that are damaged.

    Where its metadata or its samples are damaged they are made again, and whole chunks are kept.

    Args:
        path: the store.
        make: makes an empty store at a path, the same one every time, under the path's own name.
    """
    if not os.path.lexists(path):
        make(path)
    layout.check_store(path)
    try:
        store = open_activations(path)
    except StoreError:
        if not is_folder(path / "written"):  # not a store, or of another format version
            raise
        _remake(path, make)
        store = open_activations(path)
        store.forget_damaged(every_byte=True)
    else:
        store.forget_damaged()
    return store


def _remake(path: Path, make: Callable[[Path], Any]) -> None:
    """An empty store in place of another, with the other's chunks."""
    with whole(path) as scratch:
        make(scratch)
        for old in manifest.files_in(path):
            name = old.relative_to(path)
            if "c" in name.parts and name.parts[0] != samples.NAME:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                _link(old, scratch / name)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without such links
        shutil.copy2(old, new)
