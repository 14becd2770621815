"""Every type of decoder that transformers maps to a causal LM, built tiny with random weights.

``python tests/models/every_type.py > docs/models.md`` tries all of them in about two minutes and
writes the page.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers import logging as transformers_logging
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.lens.logit_lens import read_head
from engramcka.models.blocks import capture_points, require_stream

TYPES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
BLOCKS = 3
IDS = np.arange(3, 14)
MOST_PARAMETERS = 60e6

_NUMBERS = {  # pattern over the names of a config's numbers -> what they become
    r"^(hidden_size|d_model|n_embd|dim|emb_dim|embed_dim|decoder_hidden_size)$": 32,
    r"(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|d_inner|inner_hidden_size)$": 48,
    r"^(num_hidden_layers|n_layers?|num_layers|\w+coder_layers|num_decoder_layers)$": BLOCKS,
    r"^(num_attention_heads|n_heads?|num_heads|\w+coder_attention_heads)$": 4,
    r"^num_key_value_heads$": 2,
    r"^vocab_size$": 90,
    r"^head_dim$": 8,
    r"^rotary_dim$": 4,
    r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts)$": 4,
    r"^(num_experts_per_tok|moe_topk|moe_k|num_experts_per_token|top_k)$": 2,
    r"^(max_position_embeddings|n_positions|n_ctx|max_sequence_length)$": 128,
    r"^(q_lora_rank|kv_lora_rank)$": 16,
    r"^(n_group|topk_group|num_expert_group|first_k_dense_replace|n_shared_experts)$": 1,
    r"^(qk_nope_head_dim|v_head_dim)$": 8,
    r"^qk_rope_head_dim$": 4,
    r"^mamba_(n_heads|d_head)$": 8,
    r"^pad_token_id$": 0,
    r"^bos_token_id$": 1,
    r"^eos_token_id$": 2,
}
_MLA = {"num_key_value_heads": 4, "head_dim": 4}
_OWN: dict[str, dict[str, Any]] = {  # numbers that have to fit each other
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "hy_v4",
         "glm_moe_dsa", "minicpm3", "youtu"), _MLA),
    "mamba2": {"num_heads": 8, "head_dim": 8},
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What became of one type."""

    states: str  # right | refused | wrong | not built
    lens: str  # right | refused | ""
    remark: str = ""


def shrink(config: PretrainedConfig) -> None:
    """Make a config's numbers small, those of the configs inside it too."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            shrink(value)
        elif key.endswith(("layer_types", "block_types", "layers_block_type")):
            if isinstance(value, list):
                setattr(config, key, value[:BLOCKS])
        elif isinstance(value, int) and not isinstance(value, bool):
            for pattern, number in _NUMBERS.items():
                if re.search(pattern, key):
                    setattr(config, key, number)


def build(name: str) -> Any:
    """A tiny model of a type, or the reason why it is not one, as text."""
    try:
        config = AutoConfig.for_model(name)
        shrink(config)
        for key, value in _OWN.get(name, {}).items():
            setattr(config, key, value)
        if hasattr(config, "is_decoder"):
            config.is_decoder = True
        torch.manual_seed(0)
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if size > MOST_PARAMETERS:
            return "this test's numbers make it too large"
        model = AutoModelForCausalLM.from_config(config).eval()
        some = torch.from_numpy(IDS)[None]
        with torch.no_grad():
            model(input_ids=some, attention_mask=torch.ones_like(some), use_cache=False)
    except Exception as error:
        return f"this test's numbers do not fit it ({type(error).__name__})"
    return model


def try_type(name: str) -> Found:
    """Build a type and hold its captured states against transformers' own."""
    model = build(name)
    if isinstance(model, str):
        return Found("not built", "", model)
    try:
        points = capture_points(model)
        require_stream(model, points, IDS, is_chain=True)
    except ConfigError as error:
        return Found("refused", "", re.split(r"[;,] (its|as its|only)", str(error))[0])
    stream, ids = ResidualStream(points), torch.from_numpy(IDS)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    at = torch.tensor([5])
    with torch.no_grad():
        with stream.capture(torch.tensor([0]), at, at):
            model(**given)
        states = model(**given, output_hidden_states=True).hidden_states
    if states is None or len(states) != len(points) + 1:
        return Found("right", _lens(model), "transformers gives no states to compare with")
    # Of most types entry 0 is the embedding; a few begin with the first block.
    for shift in (0, 1):
        if all(_same(states[n - shift], stream.selected[n]) for n in range(1, len(points))):
            return Found("right", _lens(model))
    return Found("wrong", "", "not the states that transformers gives")


def _same(state: torch.Tensor, row: torch.Tensor) -> bool:
    there = state[0, 5]
    there = there.mean(0) if there.dim() == 2 else there
    return torch.allclose(there, row[0], atol=1e-5)


def _lens(model: Any) -> str:
    try:
        read_head(model, torch.from_numpy(IDS))
    except ConfigError:
        return "refused"
    return "right"


_PAGE = """# Models

All {count} types that transformers {version} opens as a causal LM, built tiny with random
weights by `python tests/models/every_type.py`. States are right where what is captured after
every block but the last is what transformers itself gives. Before anything is stored, a pass
over a few tokens shows that what leaves a block is what enters the next, of exactly the tokens
that went in; what does not pass is refused in one line that says what to write instead
(`blocks`, `points`, `source = "python"`). The lens is right where final norm and LM head, as it
reads them, give the model's own logits; a map needs neither.

{counts}
"""


def page(found: dict[str, Found]) -> str:
    """docs/models.md."""
    import transformers

    states = Counter(one.states for one in found.values())
    lens = Counter(one.lens for one in found.values() if one.states == "right")
    counts = (
        f"States: {states['right']} right, {states['refused']} refused, {states['wrong']} wrong, "
        f"{states['not built']} not built by this test. Lens, of those that are right: "
        f"{lens['right']} right, {lens['refused']} refused."
    )
    head = _PAGE.format(count=len(found), version=transformers.__version__, counts=counts)
    lines = [*head.splitlines(), "", "| type | states | lens | remark |", "|---|---|---|---|"]
    for name, one in found.items():
        remark = one.remark.replace("|", "\\|")
        lines.append(f"| {name} | {one.states} | {one.lens} | {remark} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    sys.stdout.write(page({name: try_type(name) for name in TYPES}))
