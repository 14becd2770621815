"""A model to compare and its tokenizer: a saved one, or what a user's function returns.

The user's code is run because the config names it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)

import engramcka.models.engram  # noqa: F401  (registers our architectures)
from engramcka.errors import ConfigError, StoreError
from engramcka.models.blocks import OwnModel
from engramcka.models.checkpoint_files import check_files, check_size, opens_as
from engramcka.models.file_tables import tables_in_files
from engramcka.models.tensor_parallel import require_sharding

_NOT_CAUSAL = "not a causal LM or encoder that can be loaded"


def load_model(
    path: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    parallel: str = "none",
    attn_implementation: str | None = None,
    quantization: str = "none",
    tables: str = "memory",
    device: str = "cpu",
) -> tuple[PreTrainedModel, Any]:
    """Model in eval mode on ``device``, and its fast tokenizer.

    Args:
        path: local folder or hub name.
        dtype: "float32", "bfloat16", "float16", or "auto" for the checkpoint's.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the checkpoint.
        parallel: "none" for all of it on ``device``; "auto" spreads its blocks over the GPUs of
            this process; "tp" shares every block out over the ranks of torch.distributed's process
            group, which is there; all of them call this together.
        attn_implementation: "eager", "sdpa", ..; None for transformers' choice.
        quantization: "8bit" or "4bit" quantises while loading, "none" leaves the checkpoint as it
            is (one that is quantised already stays so).
        tables: "file" leaves memory tables in their files, see `engramcka.models.file_tables`.
        device: where the model goes.

    Raises:
        StoreError: nothing there, or the weights cannot be read.
        ConfigError: neither a causal LM nor an encoder, no fast tokenizer, no bitsandbytes to
            quantise with, or it cannot be shared out over the ranks.
    """
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    _check_local(path)
    check_files(path, trust_remote_code)
    tokenizer = _tokenizer(path, shared)
    config = _read_config(path, shared)
    stored = getattr(config, "quantization_config", None)
    is_quantized = quantization != "none" or stored is not None
    options: dict[str, Any] = {"attn_implementation": attn_implementation}
    if not trust_remote_code:
        check_size(path, empty_model(path, config))
    if parallel == "tp":
        if is_quantized:
            raise ConfigError(
                f"{path}: its weights are quantised, and parallel = 'tp' shares out whole ones "
                "only; allowed: 'auto' or 'none'"
            )
        empty = empty_model(path, config, trust_remote_code)
        options["distributed_config"] = _tensor_parallel(path, empty, weight_bytes(config, dtype))
    elif parallel == "auto":
        options["device_map"] = "auto"
    elif is_quantized:
        options["device_map"] = device  # quantised weights are made there and cannot be moved
    if quantization != "none":
        options["quantization_config"] = _bitsandbytes(quantization)
    model_class = _auto_class(config)
    if tables == "file":
        model_class = tables_in_files(path, _concrete(path, config, shared), _dtype(config, dtype))
    try:
        found: Any = model_class.from_pretrained(
            path,
            dtype=dtype,
            output_loading_info=True,
            **shared,
            **{key: value for key, value in options.items() if value is not None},
        )
    except ValueError as error:
        what = "cannot be shared out by parallel = 'tp'" if parallel == "tp" else _NOT_CAUSAL
        raise ConfigError(f"{path}: {what} ({_line(error)})") from error
    except Exception as error:
        raise StoreError(f"{path}: the model cannot be loaded ({_line(error)})") from error
    model, report = found
    _check_complete(path, report)
    model.eval()
    is_placed = "device_map" in options or "distributed_config" in options
    return (model if is_placed else model.to(device)), tokenizer


def empty_model(path: str, config: Any, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model of this config on the meta device: all shapes, no weights.

    Raises:
        ConfigError: it is neither a causal LM nor an encoder.
    """
    try:
        with torch.device("meta"):
            model: PreTrainedModel = _auto_class(config).from_config(
                config, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # of whatever the numbers of somebody's config do
        raise ConfigError(f"{path}: {_NOT_CAUSAL} ({_line(error)})") from error
    return model


def weight_bytes(config: Any, dtype: str) -> int:
    """Bytes of one of a model's weights.

    Args:
        config: the model's.
        dtype: as in `load_model`.
    """
    return _dtype(config, dtype).itemsize


def _dtype(config: Any, dtype: str) -> torch.dtype:
    stored = getattr(config, "dtype", None) or "bfloat16"
    name = str(stored if dtype == "auto" else dtype).removeprefix("torch.")
    found: torch.dtype = getattr(torch, name)
    return found


def _tensor_parallel(path: str, empty: PreTrainedModel, itemsize: int) -> Any:
    """The setting with which transformers splits a model over all ranks.

    Raises:
        ConfigError: this model cannot be, or not over so many.
    """
    from torch import distributed
    from transformers.distributed.configuration_utils import DistributedConfig

    ranks = distributed.get_world_size()
    try:
        require_sharding(empty, itemsize, ranks)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return DistributedConfig(tp_size=ranks)


def _read_config(path: str, shared: dict[str, Any]) -> Any:
    """A model's config; refuses what is neither a causal LM nor an encoder."""
    try:
        config = AutoConfig.from_pretrained(path, **shared)
    except Exception as error:
        raise ConfigError(f"{path}: not a model that can be loaded ({_line(error)})") from error
    if not opens_as(config.architectures or [], config.model_type):
        raise ConfigError(
            f"{path}: it was saved as {', '.join(config.architectures)}, which is neither a causal "
            "LM nor an encoder; give a decoder that was saved with its LM head"
        )
    return config


def _auto_class(config: Any) -> Any:
    """The class of transformers that opens a model of this config."""
    kind = opens_as(config.architectures or [], config.model_type)
    return AutoModel if kind == "encoder" else AutoModelForCausalLM


def _concrete(path: str, config: Any, shared: dict[str, Any]) -> Any:
    """The class itself that the automatic one would choose."""
    auto = _auto_class(config)
    named = getattr(config, "auto_map", None) or {}
    if shared["trust_remote_code"] and auto.__name__ in named:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(
            named[auto.__name__], path, revision=shared["revision"]
        )
    found = auto._model_mapping[type(config)]
    return found[0] if isinstance(found, tuple | list) else found


def _bitsandbytes(quantization: str) -> Any:
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"quantization = {quantization!r} needs bitsandbytes; pip install bitsandbytes, or "
            "load a checkpoint that is quantised already"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**{f"load_in_{quantization}": True})


def _check_complete(path: str, report: dict[str, Any]) -> None:
    """Refuse weights that transformers has filled with random numbers.

    A pooler stands behind all blocks and is not run.
    """
    missing = [key for key in report["missing_keys"] if "pooler." not in key]
    unread = sorted(missing) + sorted(map(str, report["mismatched_keys"]))
    if unread:
        raise StoreError(
            f"{path}: {len(unread)} weights are not in the checkpoint or have another shape, the "
            f"first is {unread[0]}; the checkpoint is incomplete or another model's"
        )


def _check_local(path: str) -> None:
    """A path that can only be a local one must be there and be a model."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise StoreError(f"{path}: no config.json in this folder; give a saved model's folder")
    elif folder.exists():
        raise StoreError(f"{path}: a file; give the folder that a model was saved in")
    elif folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise StoreError(f"{path}: no such folder; give a saved model's folder or a hub name")


def _tokenizer(path: str, shared: dict[str, Any]) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, **shared)
    except Exception as error:
        raise StoreError(f"{path}: its tokenizer cannot be loaded ({_line(error)})") from error
    require_offsets(path, tokenizer)
    return tokenizer


def require_offsets(where: str, tokenizer: Any) -> None:
    """Refuse a tokenizer that gives no character offsets.

    Raises:
        ConfigError: it is not a fast tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{where}: {type(tokenizer).__name__} is not a fast tokenizer and gives no character "
            "offsets, so tokens cannot be matched to text; convert it to a tokenizer.json"
        )


def _line(error: Exception) -> str:
    """An error's first line, cut to a readable length; where transformers proposes to trust code
    or a pickle, what to do instead."""
    if isinstance(error, UnpicklingError):
        return "a pickle that holds more than tensors, and is not executed; save as safetensors"
    if "trust_remote_code" in str(error):
        return "it comes with code of its own; set trust_remote_code = true if you trust that"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:197]}..."


def call_function(function: str, folder: str, device: str) -> tuple[nn.Module, Any]:
    """Call ``module:function`` without arguments; its model in eval mode on ``device``.

    Args:
        function: what to call; it returns (model, tokenizer).
        folder: where its module is imported from, before what is installed.
        device: where the model goes.

    Raises:
        ConfigError: no such module or function, or what it returns is not a model and a fast
            tokenizer; an error inside it, with its own message.
    """
    module_name, _, name = function.partition(":")
    with _importing_from(folder):
        try:
            made = getattr(importlib.import_module(module_name), name)
        except Exception as error:
            raise _failed(function, "cannot be imported", error) from error
        try:
            found = made()
        except Exception as error:
            raise _failed(function, "failed", error) from error
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], nn.Module):
        raise ConfigError(
            f"{function} returned {type(found).__name__}; allowed: (a torch module, its tokenizer)"
        )
    model, tokenizer = found
    require_offsets(function, tokenizer)
    if not isinstance(model, PreTrainedModel):
        model = OwnModel(model)
    return model.eval().to(device), tokenizer


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    place = str(Path(folder).expanduser().absolute())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _failed(function: str, what: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [""]
    return ConfigError(f"{function} {what} ({type(error).__name__}: {lines[0][:200]})")
