"""A decoder with Engram modules: one class for every backbone.

`EngramForCausalLM` holds any transformers causal LM, untouched, and adds to the residual stream
through forward pre-hooks on the named blocks. It is built as transformers builds its composite
models (a config that nests the decoder's config under ``text_config``, a model that holds another
model), because that path already gives right saving, loading, weight tying, generation, caches and
Trainer. The other way, a subclass made on the fly for each backbone class, would need a config
class for each too, and classes that exist only at run time cannot be pickled or named in a
checkpoint. The backbone's weights keep their names behind ``backbone.``, the modules are
``engrams.LAYER``, and the hash's integers are ``hashing``.

Hooks rather than wrapped blocks, because a model's forward may read attributes off its blocks, and
because transformers keeps hooks out of gradient checkpointing (each module is a checkpoint of its
own). A hook that is called outside this model's forward has no token ids and raises.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils.generic import can_return_tuple

from engramcka.config.memory_tables import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.blocks import find_blocks
from engramcka.models.caches import (
    CACHE_NAMES,
    cache_name,
    find_layer,
    given_cache,
    returned_cache,
    store_layer,
)
from engramcka.models.engram.configuration import EngramModelConfig
from engramcka.models.engram.hashing import NgramHash, start_id, token_map
from engramcka.models.engram.module import Engram
from engramcka.models.hyper import pre_mapping


@dataclass
class _Call:
    """What the hooks need while one forward pass runs."""

    rows: dict[str, Tensor]
    keep: Tensor | None
    tails: dict[str, Tensor]
    since: Tensor | None = None
    new_tails: dict[str, Tensor] = field(default_factory=dict)


class EngramForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal LM with Engram modules at the input of some blocks.

    Args:
        config: backbone and modules.
        backbone: a ready model to graft onto; built from the config if left out.
    """

    config_class = EngramModelConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _is_stateful = True  # tails cannot be rolled back: no assisted generation
    _can_compile_fullgraph = False
    _tp_plan = {"engrams.*.memory.weight": "embedding_rowwise"}  # noqa: RUF012  (transformers' own)

    def __init__(self, config: EngramModelConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        engram = config.modules
        if backbone is None:
            backbone = AutoModelForCausalLM.from_config(config.text_config)
        self.backbone = backbone
        self.generation_config = copy.deepcopy(backbone.generation_config)
        blocks = find_blocks(backbone)
        _check_layers(engram, len(blocks.modules))
        self.hashing = NgramHash(
            engram,
            torch.zeros(config.vocab_size, dtype=torch.int64),
            config.n_canonical_ids,
            config.pad_canonical_id,
            config.document_end_id,
        )
        streams = config.backbone("hc_mult", 1)
        rows = self.hashing.rows_per_layer
        self.engrams = nn.ModuleDict(
            {
                str(layer): Engram(engram, config.hidden_size, streams, rows[layer])
                for layer in sorted(engram.layers)
            }
        )
        for name in self.engrams:
            self.module(name).enabled = config.memory
        self._call: _Call | None = None
        self._cache_name = cache_name(self.inner.forward)
        in_block = streams > 1 and engram.fusion == "pre-mapping"
        self.supports_gradient_checkpointing = not in_block  # blocks run again, without token ids
        for name in self.engrams:
            block = blocks.modules[int(name) - 1]
            if in_block:
                reads = pre_mapping(block, int(name))
                reads.register_forward_hook(partial(self._insert_after_pre_mapping, name))
            else:
                hook = partial(self._insert, name)
                block.register_forward_pre_hook(hook, with_kwargs=True)
        self.post_init()

    @property
    def inner(self) -> PreTrainedModel:
        """What a forward pass runs through."""
        return self.backbone

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # the backbone's choice; transformers would look for experts in this file

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Engram):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the backbone's."""
        self.backbone.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The backbone's."""
        return self.backbone.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Set the backbone's."""
        self.backbone.set_output_embeddings(new_embeddings)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor | None = None,
        token_mask: Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> Any:
        """The backbone's output, with the modules at work.

        Args:
            input_ids: (B, T); needed, since addresses are made of them.
            attention_mask: as the backbone takes it; a 2-D one also says what is padding.
            past_key_values, cache: cache of the tokens before, under either of its names.
            position_ids, labels, use_cache, logits_to_keep: to the backbone, where given. Trainer
                and generate() look for these names.
            token_mask: (B, T), 0 where a position is padding; only needed beside an
                attention_mask that is not 2-D.
            **kwargs: to the backbone as they are.

        A padded position counts, for n-grams and convolution, as one before the start.

        Raises:
            ValueError: no input_ids, a mask that does not say what is padding, or a cache that
                these modules cannot go on from.
        """
        if input_ids is None:
            raise ValueError("an Engram model needs input_ids: addresses are made of token ids")
        past = given_cache(cache, past_key_values, kwargs)
        given = {
            **self._handed_on(past),
            "position_ids": position_ids,
            "labels": labels,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
        }
        keep = _kept(token_mask, attention_mask, input_ids.shape[1])
        state = find_layer(past)
        canonical = self.hashing.canonical(input_ids, keep, state.ids if state else None)
        since = self.hashing.since(input_ids, position_ids, goes_on=state is not None)
        rows = dict(zip(self.engrams, self.hashing(canonical, since).unbind(0), strict=True))
        for name in rows:
            self.module(name).prefetch(rows[name])
        call = _Call(rows, keep, state.tails if state else {}, since)
        with self._running(call):
            outputs = self.inner(
                input_ids=input_ids,
                attention_mask=attention_mask,
                **{name: value for name, value in given.items() if value is not None},
                **kwargs,
            )
        made = returned_cache(outputs)
        kept = made if isinstance(made, Cache) else past
        if kept is not None:
            ids = self.hashing.next_tail(canonical, input_ids, since)
            reach = self.hashing.reach(input_ids, since)
            tails = {name: _within(tail, reach) for name, tail in call.new_tails.items()}
            n_tokens = input_ids.shape[1] + (state.n_tokens if state else 0)
            store_layer(kept, ids, tails, n_tokens)
        return outputs

    def _handed_on(self, past: Cache | None) -> dict[str, Any]:
        """The cache under the name that the backbone has for it."""
        if past is None:
            return {}
        if self._cache_name is None:
            raise ValueError(
                f"{type(self.inner).__name__} takes no cache under a name known here "
                f"({', '.join(CACHE_NAMES)}); generate with use_cache=False"
            )
        return {self._cache_name: past}

    def module(self, name: str) -> Engram:
        """The Engram module of a block, by its number from 1 as a string."""
        return cast(Engram, self.engrams[name])

    @contextmanager
    def _running(self, call: _Call) -> Iterator[None]:
        self._call = call
        try:
            yield
        finally:
            self._call = None

    def _insert(
        self, name: str, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """H <- H + Y at the input of a block."""
        if not self.module(name).enabled:
            return args, kwargs
        hidden = args[0] if args else kwargs["hidden_states"]
        hidden = hidden + self._added(name, hidden)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    def _insert_after_pre_mapping(self, name: str, reads: nn.Module, args: Any, read: Any) -> Any:
        """h <- h + Y, for the one stream h that a block's attention reads."""
        if not self.module(name).enabled:
            return read
        *others, hidden = read
        return (*others, hidden + self._added(name, hidden))

    def _added(self, name: str, hidden: Tensor) -> Tensor:
        """Y of a module, on the stream's own device."""
        call = self._call
        if call is None:
            raise RuntimeError(
                f"block {name} has an Engram module but runs outside its model's forward, so the "
                "token ids are not known; call the EngramForCausalLM, not its backbone"
            )
        engram = self.module(name)
        added, tail = engram(hidden, call.rows[name], call.keep, call.tails.get(name), call.since)
        if tail is not None:
            call.new_tails[name] = tail
        return added.to(hidden.device)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, **kwargs: Any
    ) -> dict[str, Any]:
        """The backbone's, and which of the positions are padding."""
        mask = kwargs.get("attention_mask")
        backbone: Any = self.backbone
        inputs: dict[str, Any] = backbone.prepare_inputs_for_generation(input_ids, **kwargs)
        ids = inputs["input_ids"]
        if ids is None or inputs.get("attention_mask") is None:
            return inputs
        if mask is None:  # none was needed, yet a static cache has one made
            inputs["token_mask"] = torch.ones_like(ids)
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            inputs["token_mask"] = mask[:, -ids.shape[1] :]
        return inputs

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: sequences packed behind one another would share n-grams."""
        raise NotImplementedError(
            "an Engram model has no continuous batching: its n-grams would reach from one "
            "sequence into the next; use generate()"
        )

    def _valid_auto_compile_criteria(self, *args: Any, **kwargs: Any) -> bool:
        """Never compiled by generate(): a graph replayed would write over the tails it returned."""
        return False


def _kept(token_mask: Tensor | None, attention_mask: Any, n_tokens: int) -> Tensor | None:
    """Which positions are no padding, (B, T) bool; None if all are."""
    if token_mask is not None:
        return token_mask.bool()
    if attention_mask is None:
        return None
    if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        return attention_mask[:, -n_tokens:].bool()
    raise ValueError(
        "attention_mask is not 2-D, so padding cannot be read off it; pass token_mask (batch, "
        "tokens) as well, 0 where a position is padding"
    )


def _within(tail: Tensor, reach: Tensor | None) -> Tensor:
    """A convolution's tail (B, places, M, D), zero where it is not of the next token's document."""
    if reach is None:
        return tail
    lags = torch.arange(tail.shape[1], 0, -1, device=tail.device)
    return tail * (reach.to(tail.device)[:, None] >= lags)[..., None, None].to(tail.dtype)


def _check_layers(engram: EngramConfig, n_blocks: int) -> None:
    outside = [layer for layer in engram.layers if layer > n_blocks]
    if outside:
        raise ConfigError(
            f"engram.layers = {list(engram.layers)}: the model has blocks 1 to {n_blocks}, so "
            f"{', '.join(map(str, outside))} cannot be"
        )


def require_plain(config: Any) -> None:
    """Refuse a model that modules cannot be put on.

    Raises:
        ConfigError: it has Engram modules already, or is made of several models.
    """
    if isinstance(config, EngramModelConfig):
        raise ConfigError(
            "it has Engram modules already; graft onto the model that they were put on, and name "
            "all layers at once"
        )
    if config.get_text_config(decoder=True) is not config:
        raise ConfigError(
            f"a model of type {config.model_type!r} is made of several; graft onto the plain "
            "decoder inside it"
        )


def graft(
    backbone: PreTrainedModel,
    engram: EngramConfig,
    tokenizer: Any,
    seed: int = 0,
    start: Literal["identity", "paper"] = "paper",
) -> EngramForCausalLM:
    """Put Engram modules on a causal LM; its weights are used as they are, not copied.

    Args:
        backbone: any transformers causal LM.
        engram: where and how large.
        tokenizer: the model's, a fast one (for the compression table and the pad id).
        seed: of the modules' start weights, which come from generators of their own: the first
            module's are the same wherever it is put.
        start: "paper", or "identity": as that, but the value projections are zero, so that the
            modules add nothing until they have learned, and the model is the backbone bit for bit.

    Raises:
        ConfigError: a layer the model does not have, a tokenizer that does not fit it, or a model
            that is not a plain decoder: multimodal, or with Engram modules already.
    """
    text_config = backbone.config
    require_plain(text_config)
    ids, n_ids = token_map(tokenizer, text_config.vocab_size, engram.compression, engram.hashing)
    pad_id, n_ids = start_id(tokenizer, ids, n_ids, engram.hashing)
    config = EngramModelConfig(
        text_config=text_config,
        engram=engram.model_dump(mode="json"),
        n_canonical_ids=n_ids,
        pad_canonical_id=pad_id,
        document_end_id=tokenizer.eos_token_id,
    )
    with init.no_init_weights():
        model = EngramForCausalLM(config, backbone)
    model.hashing.token_map.copy_(ids)
    for i, name in enumerate(model.engrams):
        generator = torch.Generator().manual_seed(seed * 1009 + i)
        model.module(name).reset_parameters(generator)
        if start == "identity":
            init.zeros_(model.module(name).value.weight)
    model.engrams.to(device=backbone.device, dtype=backbone.dtype)
    model.hashing.to(device=backbone.device)
    return model.train(backbone.training)


AutoModelForCausalLM.register(EngramModelConfig, EngramForCausalLM, exist_ok=True)
