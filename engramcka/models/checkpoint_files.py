"""Checks of a checkpoint's folder before any library opens it.

Weights and code are read from that folder and nowhere else: an index of weights or an adapter that
names other places is refused, and so are kernels that come from the hub unless the config trusts
remote code. Numbers that would fill the memory are refused too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

from engramcka import foreign_files
from engramcka.errors import ConfigError, StoreError
from engramcka.plain_text import first_line

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GGUF = ".gguf"
_INDEX = ".index.json"
_WEIGHTS = (".safetensors", ".bin")
_TOKENIZERS = ("tokenizer.*", "tokenizer_config.json", "vocab.*", "*.model", "tekken.json")
_MOST_BYTES = 64 << 20  # of a document
_MOST_LAYERS = 10_000
_LAYERS = ("layers", "n_layer")  # ends of keys that count them
_VALUES_A_BYTE = 8  # no quantisation keeps more


def check_files(path: str, trust_remote_code: bool = False) -> None:
    """Refuse a local folder that no checkpoint should look like; a hub name is not checked.

    Raises:
        StoreError: a pipe, a device, weights or a base model that are elsewhere, or a document
            that is damaged or absurdly large.
        ConfigError: absurd numbers, code from the hub, an adapter in place of a model or beside
            one, or no tokenizer.
    """
    folder = Path(path)
    if not folder.is_dir():
        return
    names = _names(path)
    if ADAPTER in names:
        raise ConfigError(in_place_of_a_model(path, whole=bool(names & {"config.json"})))
    for name in sorted(names):
        if name.endswith(_INDEX):
            _check_index(path, folder / name)
    if "config.json" not in names:
        return
    _check_config(path, _document(path, folder / "config.json"), trust_remote_code)
    if not any(file for pattern in _TOKENIZERS for file in folder.glob(pattern)):
        raise ConfigError(
            f"{path}: no tokenizer in this folder (tokenizer.json, tokenizer_config.json, ..); "
            "copy those files from the model that this one was made of"
        )


def in_place_of_a_model(path: str, *, whole: bool) -> str:
    """Why a place that holds an adapter is refused, and what to write instead.

    Args:
        path: the place.
        whole: whether a model lies beside the adapter.
    """
    if whole:
        return (
            f"{path}: a model and an adapter beside it ({ADAPTER}), of which either could be "
            f"meant; put {ADAPTER} and {ADAPTER_WEIGHTS} in a folder of their own, and give that "
            "as adapter where the adapter is to be applied"
        )
    return (
        f"{path}: an adapter ({ADAPTER}) and no model; give its base model as path, and this "
        "as adapter"
    )


def check_adapter(path: str) -> dict[str, Any]:
    """An adapter's config, of a local folder that holds one and nothing that no adapter has.

    Raises:
        StoreError: a pipe, a device, or a document that is damaged or absurdly large.
        ConfigError: no adapter.
    """
    names = _names(path) if Path(path).is_dir() else set()
    for name in (ADAPTER, ADAPTER_WEIGHTS):
        if name not in names:
            raise ConfigError(
                f"{path}: no {name} there; allowed: a folder that peft saved an adapter in, as "
                "safetensors"
            )
    found: dict[str, Any] = _document(path, Path(path) / ADAPTER)
    return found


def stored_tensors(path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of all that a folder's safetensors hold, from their headers alone.

    Args:
        path: a folder; of anything else nothing is known.

    Raises:
        StoreError: a file is damaged.
    """
    found = {}
    for file in sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else ():
        try:
            with foreign_files.open_file(file) as opened:
                header, _ = read_header(opened)
            for name, facts in header.items():
                found[name] = (str(facts["dtype"]), tuple(map(int, facts["shape"])))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: {file.name} is damaged ({in_short(error)})") from error
    return found


def read_header(opened: IO[bytes]) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors by their names, and the first byte of the data.

    Args:
        opened: at its beginning.

    Raises:
        ValueError: no such file.
    """
    size = int.from_bytes(opened.read(8), "little")
    text = opened.read(min(size, _MOST_BYTES))
    if len(text) < size:
        raise ValueError("a header longer than the file")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("a header that is no table")
    header.pop("__metadata__", None)
    return header, 8 + size


def _names(path: str) -> set[str]:
    """Names of a folder's files; raises StoreError for what is no ordinary file."""
    try:
        files = [file for file in sorted(Path(path).iterdir()) if not file.is_dir()]
        for file in files:
            foreign_files.require_file(file)
            if file.suffix == ".json" and file.stat().st_size > _MOST_BYTES:
                raise OSError(f"{file.name} is larger than {_MOST_BYTES:,} bytes")
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise StoreError(f"{path}: {named}{error.strerror or error}") from error
    return {file.name for file in files}


def check_size(path: str, empty: Any) -> None:
    """Refuse a local folder whose files cannot hold a model's numbers, before memory is filled.

    Args:
        path: the folder; a hub name is not checked.
        empty: the model on the meta device.

    Raises:
        StoreError: they cannot.
    """
    folder = Path(path)
    if not folder.is_dir():
        return
    files = [file for file in folder.iterdir() if file.suffix in _WEIGHTS and file.is_file()]
    size = sum(file.stat().st_size for file in files)
    count = sum(part.numel() for part in (*empty.parameters(), *empty.buffers()))
    if files and count > size * _VALUES_A_BYTE:
        raise StoreError(
            f"{path}: its config.json says {count:,} numbers, its files have {size:,} bytes; the "
            "checkpoint is incomplete or another model's"
        )


def _check_index(path: str, index: Path) -> None:
    listed = _document(path, index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise StoreError(f"{path}: {index.name} has no weight_map; the checkpoint is damaged")
    for name in set(listed.values()):
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise StoreError(f"{path}: {index.name} names {name[:80]!r}, outside of its folder")


def _check_config(path: str, config: Any, trust_remote_code: bool) -> None:
    for key, value in _entries(config):
        if key.endswith(_LAYERS) and isinstance(value, int | float) and value > _MOST_LAYERS:
            raise ConfigError(f"{path}: config.json says {key[:40]} = {str(value)[:40]}")
        from_hub = key.endswith("_implementation") and "/" in str(value)
        if from_hub and not trust_remote_code:
            raise ConfigError(
                f"{path}: config.json asks for code from the hub, {key[:40]} = {str(value)[:80]}; "
                "set attn_implementation, or trust_remote_code = true if you trust it"
            )


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of all nested tables; items of a list have the key of the list."""
    waiting = [("", value)]
    while waiting:
        key, found = waiting.pop()
        if isinstance(found, dict):
            waiting += [(str(inside), below) for inside, below in found.items()]
        elif isinstance(found, list):
            waiting += [(key, below) for below in found]
        else:
            yield key, found


def _document(path: str, file: Path) -> Any:
    try:
        found = json.loads(foreign_files.read_file(file, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: {file.name} cannot be read ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path}: {file.name} cannot be read (no JSON object)")
    return found


def in_short(error: Exception) -> str:
    """An error's first line, cut to a readable length; where transformers proposes to trust code
    or a pickle, or misses a package, what to do instead."""
    if isinstance(error, UnpicklingError):
        return "a pickle that holds more than tensors, and is not executed; save as safetensors"
    if "trust_remote_code" in str(error):
        return "it comes with code of its own; set trust_remote_code = true if you trust that"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed; pip install {error.name}"
    return first_line(error)
