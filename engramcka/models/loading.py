"""A saved causal LM and its tokenizer, ready to be compared."""

from __future__ import annotations

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
    device: str = "cpu",
) -> tuple[PreTrainedModel, Any]:
    """Model in eval mode on ``device``, and its fast tokenizer.

    Args:
        path: local folder or hub name.
        dtype: "float32", "bfloat16", "float16", or "auto" for the checkpoint's.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the checkpoint.
        device: where the model goes.

    Raises:
        StoreError: nothing there, or the weights cannot be read.
        ConfigError: not a causal LM, or no fast tokenizer.
    """
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    _check_local(path)
    tokenizer = _tokenizer(path, shared)
    _check_causal(path, shared)
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **shared
        )
    except ValueError as error:
        raise ConfigError(f"{path}: not a causal LM that can be loaded ({_line(error)})") from error
    except Exception as error:
        raise StoreError(f"{path}: the model cannot be loaded ({_line(error)})") from error
    model, report = found
    _check_complete(path, report)
    model.eval()
    return model.to(device), tokenizer


def _check_causal(path: str, shared: dict[str, Any]) -> None:
    """Refuse what transformers would open as a causal LM though it was saved as something else."""
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
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{path}: {type(tokenizer).__name__} is not a fast tokenizer and gives no character "
            "offsets, so tokens cannot be matched to text; convert it to a tokenizer.json"
        )
    return tokenizer


def _line(error: Exception) -> str:
    """An error's first line, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:197]}..."
