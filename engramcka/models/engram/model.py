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
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.utils.generic import can_return_tuple

import engramcka.models.hyper  # noqa: F401  (registers the backbone with hyper-connections)
from engramcka.config.model_tables import EngramConfig
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
from engramcka.models.engram.hashing import NgramHash, token_map
from engramcka.models.engram.module import Engram


class EngramModelConfig(PreTrainedConfig):
    """Config of `EngramForCausalLM`.

    The backbone's config is called ``text_config``, the name under which transformers looks for
    the decoder in a composite config (generation, caches, Trainer).

    Attributes:
        text_config: the backbone's config, of its own class.
        engram: the fields of `EngramConfig`.
        n_canonical_ids: canonical ids after tokenizer compression.
        pad_canonical_id: the one that stands before the start and under padding.
    """

    model_type = "engramcka"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    engram: dict[str, Any] | None = None
    n_canonical_ids: int = 0
    pad_canonical_id: int = 0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # Left to itself, the base class sets both to None, on the backbone's config too.
        kwargs.setdefault("attn_implementation", {})
        kwargs.setdefault("experts_implementation", {})
        super().__post_init__(**kwargs)

    @property
    def modules(self) -> EngramConfig:
        """The Engram modules' numbers as a validated object."""
        return EngramConfig.model_validate_json(json.dumps(self.engram))

    def backbone(self, name: str, default: Any = None) -> Any:
        """A value of the backbone's config."""
        return getattr(self.text_config, name, default)

    @property
    def vocab_size(self) -> int:
        """The backbone's."""
        return self.backbone("vocab_size")

    @property
    def hidden_size(self) -> int:
        """The backbone's."""
        return self.backbone("hidden_size")

    @property
    def num_hidden_layers(self) -> int:
        """The backbone's."""
        return self.backbone("num_hidden_layers")


@dataclass
class _Call:
    """What the hooks need while one forward pass runs."""

    rows: dict[str, Tensor]
    keep: Tensor | None
    tails: dict[str, Tensor]
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
        )
        streams = config.backbone("hc_mult", 1)
        rows = self.hashing.rows_per_layer
        self.engrams = nn.ModuleDict(
            {
                str(layer): Engram(engram, config.hidden_size, streams, rows[layer])
                for layer in sorted(engram.layers)
            }
        )
        self._call: _Call | None = None
        self._cache_name = cache_name(backbone.forward)
        for name in self.engrams:
            hook = partial(self._insert, name)
            blocks.modules[int(name) - 1].register_forward_pre_hook(hook, with_kwargs=True)
        self.post_init()

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
        rows = dict(zip(self.engrams, self.hashing(canonical).unbind(0), strict=True))
        for name in rows:
            self.module(name).prefetch(rows[name])
        call = _Call(rows, keep, state.tails if state else {})
        with self._running(call):
            outputs = self.backbone(
                input_ids=input_ids,
                attention_mask=attention_mask,
                **{name: value for name, value in given.items() if value is not None},
                **kwargs,
            )
        made = returned_cache(outputs)
        kept = made if isinstance(made, Cache) else past
        if kept is not None:
            ids = canonical[:, canonical.shape[1] - self.hashing.window + 1 :]
            n_tokens = input_ids.shape[1] + (state.n_tokens if state else 0)
            store_layer(kept, ids, call.new_tails, n_tokens)
        return outputs

    def _handed_on(self, past: Cache | None) -> dict[str, Any]:
        """The cache under the name that the backbone has for it."""
        if past is None:
            return {}
        if self._cache_name is None:
            raise ValueError(
                f"{type(self.backbone).__name__} takes no cache under a name known here "
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
        engram, call = self.module(name), self._call
        if not engram.enabled:
            return args, kwargs
        if call is None:
            raise RuntimeError(
                f"block {name} has an Engram module but runs outside its model's forward, so the "
                "token ids are not known; call the EngramForCausalLM, not its backbone"
            )
        hidden = args[0] if args else kwargs["hidden_states"]
        added, tail = engram(hidden, call.rows[name], call.keep, call.tails.get(name))
        if tail is not None:
            call.new_tails[name] = tail
        hidden = hidden + added.to(hidden.device)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

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


def _check_layers(engram: EngramConfig, n_blocks: int) -> None:
    outside = [layer for layer in engram.layers if layer > n_blocks]
    if outside:
        raise ConfigError(
            f"engram.layers = {list(engram.layers)}: the model has blocks 1 to {n_blocks}, so "
            f"{', '.join(map(str, outside))} cannot be"
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
    if text_config.get_text_config(decoder=True) is not text_config:
        raise ConfigError(
            f"{type(backbone).__name__} is made of several models; graft onto the plain decoder "
            "inside it, and name all Engram layers at once"
        )
    ids, n_ids = token_map(tokenizer, text_config.vocab_size, engram.compression)
    pad_id = tokenizer.pad_token_id
    config = EngramModelConfig(
        text_config=text_config,
        engram=engram.model_dump(mode="json"),
        n_canonical_ids=n_ids if pad_id is not None else n_ids + 1,
        pad_canonical_id=int(ids[pad_id]) if pad_id is not None else n_ids,
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


AutoConfig.register(EngramModelConfig.model_type, EngramModelConfig, exist_ok=True)
AutoModelForCausalLM.register(EngramModelConfig, EngramForCausalLM, exist_ok=True)
