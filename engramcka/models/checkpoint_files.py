"""Checks of a checkpoint's folder before any library opens it.

Weights and code are read from that folder and nowhere else: an index of weights or an adapter that
names other places is refused, and so are kernels that come from the hub unless the config trusts
remote code. Numbers that would fill the memory are refused too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from engramcka import foreign_files
from engramcka.errors import ConfigError, StoreError

_INDEX, _ADAPTER = ".index.json", "adapter_config.json"
_WEIGHTS = (".safetensors", ".bin")
_MOST_BYTES = 64 << 20  # of a document
_MOST_LAYERS = 10_000
_LAYERS = ("layers", "n_layer")  # ends of keys that count them
_VALUES_A_BYTE = 8  # no quantisation keeps more


def check_files(path: str, trust_remote_code: bool = False) -> None:
    """Refuse a local folder that no checkpoint should look like; a hub name is not checked.

    Raises:
        StoreError: a pipe, a device, weights or a base model that are elsewhere, or a document
            that is damaged or absurdly large.
        ConfigError: absurd numbers, or code from the hub.
    """
    folder = Path(path)
    if not folder.is_dir():
        return
    try:
        files = [file for file in sorted(folder.iterdir()) if not file.is_dir()]
        for file in files:
            foreign_files.require_file(file)
            if file.suffix == ".json" and file.stat().st_size > _MOST_BYTES:
                raise OSError(f"{file.name} is larger than {_MOST_BYTES:,} bytes")
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise StoreError(f"{path}: {named}{error.strerror or error}") from error
    names = {file.name for file in files}
    if _ADAPTER in names:
        raise StoreError(
            f"{path}: an adapter ({_ADAPTER}), whose base model is elsewhere; merge it into its "
            "model, and give the folder that the whole was saved in"
        )
    for name in sorted(names):
        if name.endswith(_INDEX):
            _check_index(path, folder / name)
    if "config.json" in names:
        _check_config(path, _document(path, folder / "config.json"), trust_remote_code)


def opens_as(architectures: Sequence[str], model_type: str) -> Literal["causal", "encoder", ""]:
    """What a checkpoint is opened as, from its config.json: "" for what cannot be compared.

    A causal LM where it was saved as one, or says nothing; the text decoder of a model for text and
    pictures; else an encoder or a decoder without its head, which maps take and a lens does not.

    Args:
        architectures: the classes that it was saved as.
        model_type: as transformers calls it.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        MODEL_MAPPING_NAMES,
    )

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    causal = [name for name in architectures if name in known or name.endswith("ForCausalLM")]
    if causal or not architectures:
        return "causal"
    if model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return ""
    is_wrapped = any(name.endswith("ForConditionalGeneration") for name in architectures)
    if is_wrapped and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    return "encoder" if model_type in MODEL_MAPPING_NAMES and not is_wrapped else ""


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
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0][:160]
        raise StoreError(f"{path}: {file.name} cannot be read ({reason})") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path}: {file.name} cannot be read (no JSON object)")
    return found
