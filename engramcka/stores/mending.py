"""Making again what is damaged in an activation store, and only that. Knows no models."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engramcka.errors import StoreError
from engramcka.stores import layout, manifest
from engramcka.stores.activations import ActivationStore, open_activations
from engramcka.whole import whole


def stored_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store, its inputs among them, also where some file of it is damaged.

    Raises:
        StoreError: not such a store, or damaged so that it cannot be told.
    """
    try:
        return open_activations(path).attributes
    except StoreError as error:
        try:
            return dict(manifest.attributes(path)["store"])
        except (StoreError, KeyError, TypeError, ValueError):
            pass  # the manifest is the damaged file: the store's own metadata say it too
        try:
            node = json.loads((path / "zarr.json").read_bytes())["attributes"]
            layout.check_version(path, node, "activations")
            return dict(node)
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            raise error from None


def make_or_mend(path: Path, make: Callable[[Path], Any]) -> ActivationStore:
    """Open a store to fill it up: made if it is not there, without the chunks that are damaged.

    Where its metadata or its samples are damaged they are made again, and whole chunks are kept.

    Args:
        path: the store.
        make: makes an empty store at a path, the same one every time.
    """
    if not path.exists():
        make(path)
    try:
        store = open_activations(path, mode="r+")
    except StoreError:
        if not (path / "written").is_dir():  # not a store, or of another format version
            raise
        _remake(path, make)
        store = open_activations(path, mode="r+")
        store.forget_damaged(every_byte=True)
    else:
        store.forget_damaged()
    return store


def _remake(path: Path, make: Callable[[Path], Any]) -> None:
    """An empty store in place of another, with the other's chunks."""
    with whole(path) as scratch:
        make(scratch)
        for old in sorted(path.rglob("c/*/**/*")):
            name = old.relative_to(path)
            if old.is_file() and not old.is_symlink() and name.parts[0] != "samples":
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                _link(old, scratch / name)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without such links
        shutil.copy2(old, new)
