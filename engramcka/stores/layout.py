"""Names, attributes and format versions of everything a run directory holds.

Other names stand where the files are written: manifests and their groups in `manifest`, the locks
of shares in `lock`, `zarr.json` in `nodes`, arrays of a result in `engramcka.results`, what a
training records in `engramcka.training.record`. Imports neither torch nor zarr.

    RUN/config.toml               the config as resolved
    RUN/activations/MODEL.zarr    one group a model, `layer_01` .. (samples, width), `written`;
                                  groups `samples`, `readouts`, `manifest`
                                  (MODEL.step-000025.zarr .. where the model is a series)
    RUN/results.zarr              cka/NAME, map/NAME, baseline/NAME, robustness/NAME, matrix/NAME,
                                  lens/MODEL, gates/MODEL, memory/MODEL, sweep/NAME,
                                  allocation/NAME, slots/NAME, training/MODEL
    RUN/checkpoints/TRAINING/     trained models, a folder each, and tokenizer/; in a model's folder
                                  step-000025/ .. the model as it was after that step;
                                  .TRAINING.training/ while it is trained, gone when the run is
                                  finished
    RUN/figures/  RUN/log.jsonl
    RUN/manifest.json             what all of it was when the run was last finished

Every group that engramcka writes carries its `engramcka_type` and `engramcka_version`; a reader
refuses a version that it does not know. `layer_00` is kept for the embedding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engramcka.errors import StoreError
from engramcka.own_files import check_folder, is_folder, is_regular
from engramcka.results.kinds import KINDS

CONFIG = "config.toml"
ACTIVATIONS = "activations"
RESULTS = "results.zarr"
CHECKPOINTS = "checkpoints"
FIGURES = "figures"
PLACES = (ACTIVATIONS, RESULTS, CHECKPOINTS, FIGURES)  # folders
LOG = "log.jsonl"
LOCK = ".lock"  # held by the run at work; its text says who

TYPE = "engramcka_type"
VERSION = "engramcka_version"
VERSIONS = {
    "activations": 3,  # fingerprints of chunks say whose they are; before 2, no shards
    "results": 2,  # with a checksum
    **{kind.name: kind.version for kind in KINDS.values()},
}
_OLDEST = 2  # versions before are refused
SAMPLES = "samples"  # group of an activation store: the sample table
WRITTEN = "written"  # array of an activation store: a row of sizes and checksums for each chunk
READOUTS = "readouts"  # group of an activation store: what was read off the same forward pass
INPUTS = "inputs"  # attribute: everything the group was made from, as JSON

# A chunk of zeros is written like any other, so that a missing file always means a lost chunk.
KEEP_ZEROS = {"array.write_empty_chunks": True}

_WORK = ".training"  # ends the name of the hidden folder of a training under way
TRAINER = "trainer"  # in that, where the next state is being written; all else there is whole

MAX_CHUNKS = 1 << 17  # of one store
MAX_RESULT_BYTES = 1 << 30  # of all arrays of a result

PART_SAMPLES = 512  # rows that are read at once: half of the usual batch of a map
CHUNK_SAMPLES = 2048  # rows a chunk, which is a file a layer: 4 MB at width 1024 in 16 bits
_MANY_SAMPLES = 32_768  # above, chunks are twice that: 65,536 x 80 layers in 1,400 files
_SHARES, _ROWS = 8, 16  # what the number of chunks, and the rows of a part, are multiples of
_MAX_CHUNK_BYTES = 64 << 20  # of one layer; three chunks of all layers are in memory at a time


def chunk_samples(
    n_samples: int,
    row_bytes: int,
    chunk: int | None = None,
    part: int | None = None,
    most: int | None = None,
) -> tuple[int, int]:
    """Rows of a chunk of activations, and of its parts.

    They depend on the samples and the model alone, as do the batches within a chunk: the same bits
    whoever extracts them, however many they are. Several chunks are a multiple of eight where
    that halves none of them, since machines have two, four or eight GPUs.

    Args:
        n_samples: of the store.
        row_bytes: of one sample of one layer.
        chunk: rows of a chunk of at most `_MANY_SAMPLES` samples; left out, at most ``most``, and
            at least half of that.
        part: rows of a part; left out, at most `PART_SAMPLES`.
        most: rows of a chunk at most, twice that where there are many samples; left out,
            `CHUNK_SAMPLES`.
    """
    most, part = chunk or most or CHUNK_SAMPLES, part or PART_SAMPLES
    size = most if n_samples <= _MANY_SAMPLES else 2 * most
    while size > part and size * row_bytes > _MAX_CHUNK_BYTES:
        size //= 2
    part = min(size, part)
    if n_samples <= part:
        return n_samples, n_samples
    if chunk is not None or n_samples <= size:
        return min(size, -(-n_samples // part) * part), part
    count = _SHARES * -(-n_samples // (_SHARES * size))
    rows = max(-(-n_samples // count), size // 2)
    parts = -(-rows // part)
    part = min(part, -(-rows // (parts * _ROWS)) * _ROWS)
    return parts * part, part


def layer_name(layer: int) -> str:
    """Array name of the residual stream after block ``layer`` (counted from 1; 0: embedding)."""
    return f"layer_{layer:02d}"


def layer_number(name: str) -> int | None:
    """Block number of an array name, or None if it names something else."""
    prefix, _, digits = name.partition("_")
    return int(digits) if prefix == "layer" and digits.isdecimal() else None


def step_name(step: int) -> str:
    """Folder name, inside a trained model's, of the model as it was after a step."""
    return f"step-{step:06d}"


def work_folder(trained: Path) -> Path:
    """Where a training keeps its state until the folder of the trained model is whole."""
    return trained.with_name(f".{trained.name}{_WORK}")


def work_folders(run: Path) -> list[Path]:
    """Those of all trainings that are under way, or were left, in a run."""
    return sorted((run / CHECKPOINTS).glob(f".*{_WORK}"))


def is_run(path: Path | str) -> bool:
    """Whether a folder looks like a run directory: it holds a config or results."""
    config, results = os.path.join(path, CONFIG), os.path.join(path, RESULTS, "zarr.json")
    return is_regular(config) or is_regular(results)


def series_of(attributes: Mapping[str, Any]) -> tuple[str, int] | None:
    """(series, training step) of a map's attributes; None where it is in no series."""
    name, step = attributes.get("series"), attributes.get("step")
    return (name, step) if isinstance(name, str) and name and isinstance(step, int) else None


def part_of(attributes: Mapping[str, Any]) -> str:
    """KIND/NAME of the result that a map of these attributes was made for alone; "" for none."""
    found = attributes.get("part_of")
    return found if isinstance(found, str) else ""


def check_store(path: Path) -> None:
    """Refuse a store that is not there, or is a link or a file.

    A run directory that came from somebody else must not lead out of itself.

    Raises:
        StoreError: with what is there instead.
    """
    try:
        check_folder(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if not is_folder(path):
        raise StoreError(f"{path}: there is no such store")


def check_version(path: Path, attributes: Mapping[str, Any], kind: str) -> None:
    """Refuse attributes that are not those of ``kind`` in a version that we know."""
    found, version = attributes.get(TYPE), attributes.get(VERSION)
    if found != kind:
        raise StoreError(f"{path}: holds {found or 'no engramcka data'}, expected {kind}")
    if version not in range(_OLDEST, VERSIONS[kind] + 1) or isinstance(version, bool):
        age = "an older one made it, delete it to make it again"
        if not isinstance(version, int) or version > VERSIONS[kind]:
            age = "a newer one may read it"
        raise StoreError(
            f"{path}: {kind} in format version {version}; this engramcka reads version "
            f"{VERSIONS[kind]}, {age}"
        )


def header(kind: str) -> dict[str, Any]:
    """The attributes that say what a group is."""
    return {TYPE: kind, VERSION: VERSIONS[kind]}
