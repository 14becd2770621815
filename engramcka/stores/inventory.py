"""What a run held when it was last finished: RUN/manifest.json.

A manifest like that of a store, of the files that belong to none: config.toml, figures, and
log.jsonl as long as it was then, since it grows; and the fingerprint of the manifest of each store,
result and trained model, so that one that is gone or was another's is noticed. It is taken when a
run ends and put away before another changes anything; the root of the results says which.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engramcka.errors import StoreError
from engramcka.own_files import is_folder, is_regular
from engramcka.results.kinds import KINDS
from engramcka.stores import layout, manifest, results
from engramcka.stores.lock import hold

FINISHED = "finished"  # attribute of the root of the results
_LOG, _FOLDERS = "log", "folders"


def record(run: Path) -> None:
    """Write down what a run holds; for whoever holds its lock, when all is made."""
    figures = run / layout.FIGURES
    names = [layout.CONFIG, *(f"{layout.FIGURES}/{name}" for name in _listed(figures))]
    files = {
        name: manifest.size_and_crc(run / name, run)
        for name in names
        if is_regular(run / name) and not Path(name).name.startswith(".")
    }
    log = run / layout.LOG
    more = {
        _LOG: manifest.size_and_crc(log, run) if is_regular(log) else None,
        _FOLDERS: {
            folder.relative_to(run).as_posix(): manifest.fingerprint(folder)
            for folder in folders_with_manifest(run)
            if manifest.is_complete(folder)
        },
    }
    manifest.write(run, files, None, more)
    results.update_root(run / layout.RESULTS, **{FINISHED: True})


def mark_unfinished(run: Path) -> None:
    """Let a run count as not finished; for whoever holds its lock, before anything is changed."""
    if is_finished(run):
        results.update_root(run / layout.RESULTS, **{FINISHED: False})
    manifest.mark_incomplete(run)


def delete_changed_figures(run: Path) -> None:
    """Delete figures that changed since the run ended, so that they are drawn again."""
    figures = run / layout.FIGURES
    for name in _listed(figures):
        path = figures / name
        if is_regular(path) and differs(run, path.relative_to(run).as_posix()):
            path.unlink()


def update_file(path: Path) -> None:
    """Take in a listed file that was replaced by hand, so that it counts as the run's own.

    Nothing is done where a run is at work, which takes its inventory at its end, or for a file that
    belongs to no finished run.
    """
    path = path.absolute()
    run = path.parent.parent
    name = path.relative_to(run).as_posix()
    if name not in _files(run):
        return
    with suppress(OSError, StoreError), hold(run):
        listed = _files(run)
        if name in listed:  # still: no run has begun meanwhile
            stored = manifest.attributes(run)
            files = {**listed, name: manifest.size_and_crc(path, run)}
            manifest.write(run, files, None, {key: stored[key] for key in (_LOG, _FOLDERS)})


def is_finished(run: Path) -> bool:
    """Whether a run ended and nothing has begun to change it since."""
    try:
        return results.read_root(run / layout.RESULTS).get(FINISHED) is True
    except StoreError:
        return False


def is_current(run: Path) -> bool:
    """Whether a run is finished and its inventory there, with config.toml and folders as it says.

    Folders are gone that nobody makes again where the config names them no more.
    """
    if not is_finished(run) or layout.CONFIG not in _files(run) or differs(run, layout.CONFIG):
        return False
    try:
        return all(is_folder(run / name) for name in _more(run)[1])
    except StoreError:
        return False


def folders_with_manifest(run: Path) -> list[Path]:
    """Folders of a run that have a manifest each when they are whole: stores, results, models."""
    places = (run / layout.ACTIVATIONS, *(run / layout.RESULTS / kind for kind in KINDS))
    return [folder for place in (*places, run / layout.CHECKPOINTS) for folder in folders_in(place)]


def folders_in(place: Path) -> list[Path]:
    """Folders in a folder, by name; hidden ones and links are left out."""
    return [place / name for name in _listed(place) if name[0] != "." and is_folder(place / name)]


def differs(run: Path, name: str) -> bool:
    """Whether a listed file seems to have changed since; those changed later alone are read."""
    listed = _files(run)
    if name not in listed:
        return False
    size, crc = listed[name]
    _, since = manifest.stamp(run) or (0, 0)
    return bool(manifest.damage_of(run / name, run, size, crc, since))


def damage(run: Path) -> Iterator[StoreError]:
    """What a run held at its end and holds no more, or not as it was."""
    if not os.path.lexists(run / manifest.PLAIN):
        if is_finished(run):
            yield StoreError(f"{run / manifest.PLAIN}: cannot be read (the file is gone)")
        return
    try:
        yield from manifest.damage(run)
        log, folders = _more(run)
    except StoreError as error:
        yield error
        return
    if log is not None and (what := _log_damage(run, *log)):
        yield StoreError(f"{run / layout.LOG}: cannot be read ({what})")
    for name, facts in folders.items():
        folder = run / name
        if not os.path.lexists(folder):
            yield StoreError(f"{folder}: cannot be read (the folder is gone)")
        elif manifest.is_complete(folder):
            try:
                same = manifest.fingerprint(folder) == facts
            except StoreError as error:
                yield error
                continue
            if not same:
                yield StoreError(f"{folder}: cannot be read (not what the run ended with)")


def _files(run: Path) -> manifest.Files:
    """What an inventory lists; nothing where there is none that can be read."""
    try:
        return manifest.files(run)
    except StoreError:
        return {}


def _more(run: Path) -> tuple[tuple[int, int] | None, manifest.Files]:
    """The log's facts and those of folders, as an inventory has them; raises StoreError."""
    said = manifest.attributes(run)
    try:
        found = manifest.checked_files(said[_FOLDERS])
        known = None if said[_LOG] is None else manifest.checked_files({layout.LOG: said[_LOG]})
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{run / manifest.PLAIN}: cannot be read (no inventory)") from error
    return (None if known is None else known[layout.LOG]), found


def _log_damage(run: Path, size: int, crc: int) -> str:
    """What is wrong with the first bytes of the log."""
    try:
        found = manifest.size_and_crc(run / layout.LOG, run, size)
    except FileNotFoundError:
        return "the file is gone"
    except OSError as error:
        return error.strerror or str(error)
    return "" if found == (size, crc) else "not what was written"


def _listed(folder: Path) -> list[str]:
    """Names in a folder, sorted; none where there is no such folder."""
    return sorted(os.listdir(folder)) if is_folder(folder) else []
