"""A model to compare and its tokenizer: a saved one, or what a user's function returns.

The user's code is run because the config names it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError, StoreError
from engramcka.models import adapters
from engramcka.models.architectures import NOT_OPENED, concrete
from engramcka.models.blocks import OwnModel
from engramcka.models.checkpoint_files import in_short
from engramcka.models.describing import Described, described, require_offsets
from engramcka.models.file_tables import keys_in_files, tables_in_files
from engramcka.models.loading_report import judge
from engramcka.models.tensor_parallel import require_sharding
from engramcka.plain_text import first_line


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was opened.

    Attributes:
        model: in eval mode.
        tokenizer: a fast one.
        notes: what whoever reads the results should know of the checkpoint, a sentence each.
    """

    model: PreTrainedModel
    tokenizer: Any
    notes: tuple[str, ...] = ()


def load_model(path: str, **options: Any) -> tuple[PreTrainedModel, Any]:
    """Model in eval mode and its fast tokenizer; arguments and errors are `load_checkpoint`'s."""
    loaded = load_checkpoint(path, **options)
    return loaded.model, loaded.tokenizer


def load_checkpoint(
    path: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    parallel: str = "none",
    attn_implementation: str | None = None,
    quantization: str = "none",
    adapter: str | None = None,
    tables: str = "memory",
    device: str = "cpu",
) -> Loaded:
    """A saved model on ``device``.

    Args:
        path: local folder, GGUF file, or hub name.
        dtype: "float32", "bfloat16", "float16", or "auto" for the checkpoint's.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the checkpoint.
        parallel: "none" for all of it on ``device``; "auto" spreads its blocks over the GPUs of
            this process; "tp" shares every block out over the ranks of torch.distributed's process
            group, which is there; all of them call this together.
        attn_implementation: "eager", "sdpa", ..; None for transformers' choice.
        quantization: "8bit" or "4bit" quantises while loading, "none" leaves the checkpoint as it
            is (one that is quantised already stays so, but fp8, mxfp4, compressed-tensors
            and GGUF are dequantised).
        adapter: local folder or hub name of an adapter that peft applies to the model.
        tables: "file" leaves memory tables in their files, see `engramcka.models.file_tables`.
        device: where the model goes.

    Raises:
        StoreError: nothing there, the weights cannot be read, or they are not all the model's.
        ConfigError: neither a causal LM nor an encoder, no fast tokenizer, no package to read or
            quantise its weights with, no adapter that fits, or it cannot be shared out over the
            ranks.
    """
    said: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with described(path, quantization=quantization, device=device, **said) as found:
        tokenizer = found.tokenizer()
        places = _places(found, parallel, quantization, tables, dtype, device)
        if quantization != "none":
            places["quantization_config"] = _bitsandbytes(quantization)
        look = found.looked_at if tables == "memory" else found.not_looked_at
        opener = look.opener
        if tables == "file":
            stored = concrete(opener, found.config, path, found.shared)
            opener = tables_in_files(path, stored, weight_dtype(found.config, dtype))
        if attn_implementation is not None:
            places["attn_implementation"] = attn_implementation
        try:
            model, report = opener.from_pretrained(
                found.place,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **found.shared,
                **found.reading,
                **places,
            )
        except ValueError as error:
            what = "cannot be shared out by parallel = 'tp'" if parallel == "tp" else NOT_OPENED
            raise ConfigError(f"{path}: {what} ({in_short(error)})") from error
        except Exception as error:
            raise StoreError(f"{path}: the model cannot be loaded ({in_short(error)})") from error
        if found.reading and dtype != "auto":
            _cast(model, getattr(torch, dtype))
    elsewhere = look.elsewhere | keys_in_files(model)
    notes = (*look.notes, *judge(path, model, report, elsewhere))
    notes = tuple(dict.fromkeys(notes))
    if "device_map" not in places and "distributed_config" not in places:
        model = model.to(device)
    if adapter is not None:
        model, more = adapters.apply(model, adapter, base=path)
        notes += more
    return Loaded(model.eval(), tokenizer, notes)


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give all weights a dtype, but for those that a model always keeps in float32.

    Of a checkpoint that is dequantised, transformers leaves what was not quantised as it is stored.
    """
    always = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not always & set(name.split(".")):
            weight.data = weight.data.to(dtype)


def _places(
    found: Described, parallel: str, quantization: str, tables: str, dtype: str, device: str
) -> dict[str, Any]:
    """Options of ``from_pretrained`` that say where a model goes.

    Raises:
        ConfigError: it cannot be shared out over the ranks.
    """
    is_quantized = found.is_quantized or quantization != "none"
    if parallel == "tp":
        if is_quantized:
            raise ConfigError(
                f"{found.name}: its weights are quantised, and parallel = 'tp' shares out whole "
                "ones only; allowed: 'auto' or 'none'"
            )
        itemsize = weight_bytes(found.config, dtype)
        return {"distributed_config": _tensor_parallel(found.name, found.empty, itemsize)}
    if parallel == "auto":
        return {"device_map": "auto"}
    if not is_quantized and (device == "cpu" or tables == "file" or not _goes_whole(found)):
        return {}
    if device == "cuda":  # without a number it would be the first, on every rank
        device = f"cuda:{torch.cuda.current_device()}"
    return {"device_map": device}  # tensor by tensor; quantised ones cannot be moved afterwards


def _goes_whole(found: Described) -> bool:
    """Whether all of a model may be read onto one device as it is.

    Ranks that load it side by side do not hold it in host memory then, each a copy of its own.
    """
    has_own_code = found.trust_remote_code and getattr(found.config, "auto_map", None)
    if "gguf_file" in found.shared or has_own_code:
        return False
    return not any(getattr(part, "on_host", False) for part in found.empty.modules())


def weight_bytes(config: Any, dtype: str) -> int:
    """Bytes of one of a model's weights.

    Args:
        config: the model's.
        dtype: as in `load_model`.
    """
    return weight_dtype(config, dtype).itemsize


def weight_dtype(config: Any, dtype: str) -> torch.dtype:
    """The dtype of a model's weights; arguments as in `weight_bytes`."""
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


def _bitsandbytes(quantization: str) -> Any:
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"quantization = {quantization!r} needs bitsandbytes; pip install bitsandbytes, or "
            "load a checkpoint that is quantised already"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**{f"load_in_{quantization}": True})


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
    return ConfigError(f"{function} {what} ({type(error).__name__}: {first_line(error)})")
