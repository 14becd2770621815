"""Every type of decoder and encoder that transformers has, built tiny with random weights.

``python tests/models/every_type.py > docs/models.md`` tries all of them in a minute and writes the
page. A test holds the page against what is tried.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from tiny_types import IDS, build, own_fault
from transformers import AutoModel, AutoModelForCausalLM
from transformers import logging as transformers_logging
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from engramcka.errors import ConfigError
from engramcka.extraction.causality import is_causal
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.lens.logit_lens import read_head
from engramcka.models import find_memories, require_stream
from engramcka.models.blocks import capture_points
from engramcka.models.hooks import CapturePoint

TYPES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
_OF_TEXT = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES}
ENCODERS = sorted(
    (_OF_TEXT & {*MODEL_MAPPING_NAMES})
    - {*MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
)
TOKEN = 5
ALIKE = 1e-5

_MEMORY = {  # of no adapter: pattern over the names of modules -> what is looked up there
    r"per_layer_projection$": "per-layer embeddings",
    r"ngram_embedding$": "n-gram embedding",
    r"hash_tok_embedding$": "hashed n-grams at the input",
}


@dataclass(frozen=True)
class Found:
    """What became of one type."""

    states: str  # right | refused | not opened (by transformers) | wrong | not built
    lens: str = ""  # right | refused
    memory: str = ""  # of its own
    remark: str = ""


def try_type(name: str, auto: Any = AutoModelForCausalLM) -> Found:
    """Build a type and hold its captured states against transformers' own."""
    model = build(name, auto)
    if isinstance(model, str):
        fault = own_fault(name, auto)
        return Found("not opened", remark=fault) if fault else Found("not built", remark=model)
    return replace(_try_model(name, model), memory=_memory(model))


def _memory(model: Any) -> str:
    """A type's own memory, and whether its gates are read."""
    with suppress(ConfigError):
        known = find_memories(model)
        if known:
            return "Engram, gates" if all(one.gate_points for one in known.values()) else "Engram"
    names = [path for path, _ in model.named_modules()]
    kinds = (kind for at, kind in _MEMORY.items() if any(re.search(at, path) for path in names))
    return next(kinds, "")


def _try_model(name: str, model: Any) -> Found:
    try:
        points = require_stream(model, capture_points(model), IDS, is_chain=True)
    except ConfigError as error:
        _lens(model)  # refused too, or read: never a traceback
        return Found("refused", remark=_brief(error))
    ids = torch.from_numpy(IDS)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    rows = _captured(model, points, given)
    padded = torch.stack([F.pad(ids[0], (0, 4)), torch.arange(50, 54 + len(IDS))])
    mask = F.pad(torch.ones_like(ids[0]), (0, 4))
    beside = {"input_ids": padded, "attention_mask": torch.stack([mask, torch.ones_like(mask)])}
    again = _captured(model, points, {**beside, "use_cache": False})
    if max(_apart(*pair) for pair in zip(rows, again, strict=True)) > ALIKE:
        return Found("wrong", remark="padded in a batch its states are others")
    if is_causal(model, points, [IDS]):
        short = {"input_ids": ids[:, : TOKEN + 1], "attention_mask": torch.ones(1, TOKEN + 1)}
        cut = _captured(model, points, {**short, "use_cache": False})
        if max(_apart(*pair) for pair in zip(rows, cut, strict=True)) > ALIKE:
            return Found("wrong", remark="without what is behind the token its states are others")
    with torch.no_grad():
        states = model(**given, output_hidden_states=True).hidden_states
    if states is None or len(states) != len(points) + 1:
        return Found("wrong", remark="transformers gives no states to compare with")
    theirs = [_of_token(state, len(ids[0])) for state in states]
    streams = theirs[1].numel() // rows[0].numel()
    means = [state.reshape(streams, -1).mean(0) for state in theirs[: len(points)]]
    still = [n for n in range(1, len(rows)) if _apart(rows[n - 1], rows[n]) < 100 * ALIKE]
    assert not still, f"{name}: blocks {still} do nothing, which shows nothing"
    # Of most types entry 0 is the embedding; a few begin with the first block.
    pairs = ([(means[n - shift], rows[n - 1]) for n in range(1, len(points))] for shift in (0, 1))
    if not any(all(_apart(*pair) < ALIKE for pair in some) for some in pairs):
        return Found("wrong", remark="not the states that transformers gives")
    lens, why = _lens(model)
    remarks = [f"{streams} residual streams"] * (streams > 1) + [f"lens: {why}"] * bool(why)
    return Found("right", lens, remark="; ".join(remarks))


def _captured(model: Any, points: dict[int, CapturePoint], given: dict[str, Any]) -> list[Any]:
    """What is stored of the first passage's token, a point each."""
    stream, at = ResidualStream(points), torch.tensor([TOKEN])
    with torch.no_grad(), stream.capture(torch.tensor([0]), at, at):
        model(**given)
    return [stream.selected[number][0] for number in points]


def _of_token(state: torch.Tensor, tokens: int) -> torch.Tensor:
    """What a state holds of the one token, of streams that stand first too."""
    if state.dim() == 4 and state.shape[1:3] == (1, tokens):
        state = state.movedim(0, 2)
    return state[0, TOKEN]


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far apart two vectors are, as a share of the first."""
    return float((one - other).norm() / one.norm())


def _lens(model: Any) -> tuple[str, str]:
    """Whether the lens gives the model's own logits, and why it is refused."""
    if model.get_output_embeddings() is None:
        return "", ""
    try:
        read_head(model, torch.from_numpy(IDS))
    except ConfigError as error:
        return "refused", _brief(error)
    return "right", ""


def _brief(error: ConfigError) -> str:
    """What was found, without the model's name, the advice and how far off it was."""
    what = re.split(r"[;,] (?:its|as its|so)|; name ", str(error))[0]
    what = re.sub(r" \((?:off )?by [^)]*\)", "", what)
    return re.sub(r"^\w+(?::| (?=has ))\s*", "", what)


_PAGE = Path(__file__).with_name("models.md.txt")


def _table(found: dict[str, Found], columns: tuple[str, ...]) -> str:
    lines = [f"| type | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [row(name, one, columns) for name, one in found.items()]
    return "\n".join(lines)


DECODER_COLUMNS = ("states", "lens", "memory", "remark")
ENCODER_COLUMNS = ("states", "remark")


def row(name: str, found: Found, columns: tuple[str, ...]) -> str:
    """A type's line in its table."""
    cells = [str(getattr(found, column)).replace("|", "\\|") for column in columns]
    return f"| {' | '.join([name, *cells])} |"


def _counts(found: dict[str, Found]) -> str:
    states = Counter(one.states for one in found.values())
    words = ["right", "refused", "wrong", "not opened", "not built"]
    text = "States: " + ", ".join(
        f"{states[word]} {word}" for word in words if states[word] or word == "wrong"
    )
    lens = Counter(one.lens for one in found.values() if one.lens)
    if lens:
        text += f". Lens, of those that are right: {lens['right']} right, {lens['refused']} refused"
    return text + "."


def page(decoders: dict[str, Found], encoders: dict[str, Found]) -> str:
    """docs/models.md."""
    return _PAGE.read_text().format(
        version=transformers.__version__,
        count=len(decoders),
        counts=_counts(decoders),
        decoders=_table(decoders, DECODER_COLUMNS),
        encoder_count=len(encoders),
        encoder_counts=_counts(encoders),
        encoders=_table(encoders, ENCODER_COLUMNS),
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    sys.stdout.write(
        page(
            {name: try_type(name) for name in TYPES},
            {name: try_type(name, AutoModel) for name in ENCODERS},
        )
    )
