"""A saved causal LM and its tokenizer, ready to be compared."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import engramcka.models.engram
import engramcka.models.hyper  # noqa: F401  (both register architectures)
from engramcka.errors import ConfigError, StoreError


def load_model(
    path: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    device_map: str | None = None,
    attn_implementation: str | None = None,
    quantization: str = "none",
    device: str = "cpu",
) -> tuple[PreTrainedModel, Any]:
    """Model in eval mode on ``device``, and its fast tokenizer.

    Args:
        path: local folder or hub name.
        dtype: "float32", "bfloat16", "float16", or "auto" for the checkpoint's.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the checkpoint.
        device_map: how accelerate spreads the model over GPUs; None for all of it on ``device``.
        attn_implementation: "eager", "sdpa", ..; None for transformers' choice.
        quantization: "8bit" or "4bit" quantises while loading, "none" leaves the checkpoint as it
            is (one that is quantised already stays so).
        device: where the model goes.

    Raises:
        StoreError: nothing there, or the weights cannot be read.
        ConfigError: not a causal LM, no fast tokenizer, or no bitsandbytes to quantise with.
    """
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    _check_local(path)
    tokenizer = _tokenizer(path, shared)
    is_quantized = _check_causal(path, shared) or quantization != "none"
    if is_quantized and device_map is None:
        device_map = device  # quantised weights are made on their device and cannot be moved
    options = {"device_map": device_map, "attn_implementation": attn_implementation}
    if quantization != "none":
        options["quantization_config"] = _bitsandbytes(quantization)
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            output_loading_info=True,
            **shared,
            **{key: value for key, value in options.items() if value is not None},
        )
    except ValueError as error:
        raise ConfigError(f"{path}: not a causal LM that can be loaded ({_line(error)})") from error
    except Exception as error:
        raise StoreError(f"{path}: the model cannot be loaded ({_line(error)})") from error
    model, report = found
    _check_complete(path, report)
    model.eval()
    return (model if device_map is not None else model.to(device)), tokenizer


def _check_causal(path: str, shared: dict[str, Any]) -> bool:
    """Refuse what transformers would open as a causal LM though it was saved as something else.

    Returns:
        Whether the checkpoint is quantised.
    """
    try:
        config = AutoConfig.from_pretrained(path, **shared)
    except Exception as error:
        raise ConfigError(f"{path}: not a model that can be loaded ({_line(error)})") from error
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    names = config.architectures or []
    if names and not any(name in known or name.endswith("ForCausalLM") for name in names):
        raise ConfigError(
            f"{path}: it was saved as {', '.join(names)}, which is not a causal LM; give a decoder "
            "that was saved with its LM head"
        )
    return getattr(config, "quantization_config", None) is not None


def _bitsandbytes(quantization: str) -> Any:
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"quantization = {quantization!r} needs bitsandbytes; pip install bitsandbytes, or "
            "load a checkpoint that is quantised already"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**{f"load_in_{quantization}": True})


def _check_complete(path: str, report: dict[str, Any]) -> None:
    """Refuse weights that transformers has filled with random numbers."""
    unread = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
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
    """An error's first line, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:197]}..."
