"""Open an activation store: for reading, or for writing what is missing or damaged in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engramcka.atomic import atomic_path
from engramcka.errors import StoreError
from engramcka.own_files import is_folder
from engramcka.stores import layout, manifest, nodes
from engramcka.stores.activation_metadata import store_attributes
from engramcka.stores.activations import ActivationStore, open_unchecked
from engramcka.stores.remote import is_url, open_remote


def open_activations(path: Path | str) -> ActivationStore:
    """Open one model's hidden states; of a finished store, all but the data are checked.

    Args:
        path: the store; a URL that fsspec knows, as s3://bucket/moe.zarr, is opened for reading.

    Raises:
        StoreError: nothing there, not such a store, of another format version, or a file of a
            finished store is damaged.
    """
    if isinstance(path, str):
        if is_url(path):
            return open_remote(path)
        path = Path(path)
    if manifest.is_complete(path):
        layout.check_store(path)
        manifest.require_intact(path)
    return open_unchecked(path)


def stored_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store, its inputs among them, also where some of its files are damaged.

    Raises:
        StoreError: not such a store, or both copies of the attributes are damaged.
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


def open_or_create(path: Path, create: Callable[[Path], Any]) -> ActivationStore:
    """Open a store for writing: created if it is not there, its damaged chunks marked as missing.

    Where its metadata or its sample table are damaged, they are written again and intact chunks
    are kept.

    Args:
        path: the store.
        create: creates an empty store at a path, always the same one, under the path's own name.
    """
    if not os.path.lexists(path):
        create(path)
    layout.check_store(path)
    try:
        store = open_activations(path)
    except StoreError:
        if not is_folder(path / layout.WRITTEN):  # not a store, or of another format version
            raise
        _recreate(path, create)
        store = open_activations(path)
        store.discard_damaged(every_byte=True)
    else:
        store.discard_damaged()
    return store


def _recreate(path: Path, create: Callable[[Path], Any]) -> None:
    """Replace a store by an empty one that takes over the old one's chunks."""
    with atomic_path(path) as scratch:
        create(scratch)
        for old in manifest.files_in(path):
            name = old.relative_to(path)
            if "c" in name.parts and name.parts[0] != layout.SAMPLES:
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                _link(old, scratch / name)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without such links
        shutil.copy2(old, new)
