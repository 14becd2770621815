"""What transformers says of a checkpoint that it has read: refused, or a sentence to know.

It fills what is missing with random numbers, and passes over what it has no place for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from transformers import PreTrainedModel

from engramcka.errors import ConfigError, StoreError
from engramcka.models.blocks import find_blocks
from engramcka.models.quantized import refuse_unread_parts

_DAMAGED = "the checkpoint is incomplete or another model's"


def missing_weights(report: Mapping[str, Any]) -> list[str]:
    """Names of the weights that a model has and its checkpoint has not.

    A pooler stands behind all blocks and is not run.
    """
    return sorted(key for key in report["missing_keys"] if "pooler." not in key)


def judge(
    path: str,
    model: PreTrainedModel,
    report: Mapping[str, Any],
    elsewhere: Collection[str] = frozenset(),
) -> tuple[str, ...]:
    """Refuse numbers that would be others than the checkpoint's.

    Args:
        path: the checkpoint, for messages.
        model: what was made of it; it may be without weights.
        report: transformers' ``loading_info``, with mismatched shapes let through.
        elsewhere: names of weights that are not read because they are of no use for text.

    Returns:
        What was not read, as sentences for whoever reads the results.

    Raises:
        StoreError: weights are missing, have another shape, are parts of quantised ones, or are of
            more blocks than the config says.
    """
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        name, stored, expected = mismatched[0]
        raise StoreError(
            f"{path}: {name} is {tuple(stored)} in the checkpoint and {tuple(expected)} by its "
            f"config.json ({len(mismatched):,} such weights); {_DAMAGED}",
            exit_code=2,
        )
    unread = sorted(set(map(str, report["unexpected_keys"])) - set(elsewhere))
    refuse_unread_parts(path, unread)
    missing = missing_weights(report)
    if missing:
        raise StoreError(
            f"{path}: {len(missing):,} weights are not in the checkpoint, the first is "
            f"{missing[0]}; {_DAMAGED}",
            exit_code=2,
        )
    _refuse_more_blocks(path, model, unread)
    if not unread:
        return ()
    count = f"{len(unread):,} weights" if len(unread) > 1 else "one weight"
    which = f"the first is {unread[0]}" if len(unread) > 1 else unread[0]
    return (
        f"{count} of the checkpoint {'are' if len(unread) > 1 else 'is'} not part of the model "
        f"that was opened ({which})",
    )


def _refuse_more_blocks(path: str, model: PreTrainedModel, unread: list[str]) -> None:
    """Blocks that a checkpoint holds behind the last of the config, but for those of drafts."""
    try:
        blocks = find_blocks(model)
    except ConfigError:
        return  # whoever needs them says so
    depth = len(blocks.modules)
    config = model.config.get_text_config(decoder=True)
    drafts = int(getattr(config, "num_nextn_predict_layers", 0) or 0)
    inside = re.compile(rf"^{re.escape(blocks.path)}\.(\d+)\.")
    numbers = [int(found[1]) for found in map(inside.match, unread) if found]
    most = max(numbers, default=-1) + 1
    if most > depth + drafts:
        raise StoreError(
            f"{path}: its config.json says {depth} blocks, and its weights are of {most}; "
            f"{_DAMAGED}",
            exit_code=2,
        )
