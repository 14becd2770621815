"""Adapters, such as LoRA's, that peft puts into a model.

The config names base and adapter: an adapter's own file may name any base, and is not followed.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.checkpoint_files import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    check_adapter,
    in_short,
    stored_tensors,
)

# What an adapter's config must not ask for: modules to import, blocks that are run twice, and
# weights that are in force for some of the tokens only.
_REFUSED = ("megatron_config", "layer_replication", "alora_invocation_tokens")
_PROBE = tuple(range(3, 10))  # token ids


@torch.no_grad()
def apply(model: PreTrainedModel, adapter: str, *, base: str) -> tuple[PreTrainedModel, Any]:
    """Put an adapter into a model, in place; its class and the names of its blocks stay.

    Args:
        model: in eval mode.
        adapter: local folder or hub name.
        base: the model's path, for messages.

    Returns:
        The model, and what is to be known of it, a sentence each.

    Raises:
        ConfigError: no adapter, peft is not installed, the adapter is of another model, or of a
            kind that is not a change of the model's own modules.
    """
    if find_spec("peft") is None:
        raise ConfigError(f"adapter = {adapter!r} needs peft; pip install 'engramcka[peft]'")
    from peft import PeftModel

    folder = _folder(adapter)
    settings = check_adapter(folder)
    for key in _REFUSED:
        if settings.get(key):
            raise ConfigError(
                f"{adapter}: {ADAPTER} has {key}, which is not applied here; merge the adapter "
                "into its model, and give the folder that the whole was saved in"
            )
    before = _logits(model)
    what = f"{adapter}: peft cannot apply it to {base}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is asked for below
            whole = PeftModel.from_pretrained(model, folder)
    except Exception as error:  # of whatever stands in somebody's file
        raise ConfigError(f"{what} ({in_short(error)})") from error
    whole.eval()
    if whole.active_peft_config.is_prompt_learning:
        raise ConfigError(
            f"{adapter}: {settings.get('peft_type')} puts tokens before the text and leaves the "
            "model as it is; allowed: adapters of its modules, as LORA"
        )
    _require_all(what, folder, whole)
    inside = cast(PreTrainedModel, whole.get_base_model())
    after = _logits(inside)
    if not _equal(after, _logits(whole)):
        raise ConfigError(f"{what}: what it does is not in the model's own modules; merge it")
    named = str(settings.get("base_model_name_or_path") or "")
    notes = []
    if _equal(before, after):
        notes.append(f"the adapter {adapter} changes nothing of {base}")
    if named and Path(named).name != Path(base).name:
        notes.append(f"the adapter {adapter} was made for {named[:80]} and is applied to {base}")
    return inside, tuple(notes)


def _folder(adapter: str) -> str:
    """Where an adapter's files are; those of the hub are fetched."""
    if Path(adapter).exists() or adapter.startswith((".", "/", "~")) or adapter.count("/") != 1:
        return adapter
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(adapter, allow_patterns=[ADAPTER, ADAPTER_WEIGHTS]))
    except Exception as error:
        raise ConfigError(
            f"{adapter}: the adapter cannot be fetched ({in_short(error)})"
        ) from error


def _require_all(what: str, folder: str, whole: Any) -> None:
    """What is stored and what the model has of an adapter must be the same."""
    from peft import get_peft_model_state_dict

    stored = stored_tensors(folder)
    expected = get_peft_model_state_dict(whole, save_embedding_layers=False)
    missing = sorted(set(expected) - set(stored))
    known = set(expected) | set(whole.state_dict())
    unread = sorted(set(stored) - known)
    for names, problem in ((missing, "has no"), (unread, "has a")):
        if names:
            raise ConfigError(
                f"{what}: it {problem} {names[0]} ({len(names):,} such weights); it is an adapter "
                "of another model"
            )


def _logits(model: Any) -> Any:
    ids = torch.tensor([_PROBE], device=next(model.parameters()).device)
    found = model(input_ids=ids, use_cache=False)
    return found.logits if "logits" in found else found[0]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.equal(one, other))
