"""Folders of ours that libraries open by themselves: checkpoints, tokenizers, states.

Such a library takes whatever lies beside the files that we wrote (another form of the weights, an
adapter, a tokenizer's own code), so that a folder with anything more in it is not opened.
"""

from __future__ import annotations

from pathlib import Path

from engramcka import others
from engramcka.errors import StoreError
from engramcka.stores import manifest


def require_nothing_else(folder: Path) -> None:
    """Refuse a folder that holds a file which its manifest does not list; hidden ones no one reads.

    Raises:
        StoreError: names the first.
    """
    listed = {*manifest.files(folder), manifest.PLAIN}
    try:
        found = {path.relative_to(folder) for path, _ in others.files_of(folder)}
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
