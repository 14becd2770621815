"""DeepSeek-V3 with hyper-connections: the paper's backbone, from transformers' own parts.

Attention (MLA), experts and norms are transformers' DeepSeek-V3; the manifold-constrained
hyper-connections (mHC) around them are its DeepSeek-V4's. Only the order in which a block calls
them is ours. The residual is M parallel streams, (batch, tokens, M, hidden), from the embedding,
which starts them all alike, to the head that makes them one before the final norm.

Importing this module registers the architecture with transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as v4
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from engramcka.errors import ConfigError
from engramcka.models.caches import cache_name, given_cache

CACHE: Any = cache_name(v3.DeepseekV3Attention.forward)
"""What the parts from transformers call the cache, in what they take and what they return."""
if CACHE is None:
    raise ImportError(
        "transformers' DeepSeek-V3 takes its cache under a name not known here; install a "
        "transformers within engramcka's bounds",
        name="transformers",
    )


class HyperDeepseekConfig(DeepseekV3Config):
    """DeepSeek-V3's config and the hyper-connections'.

    Attributes:
        hc_mult: residual streams M (the expansion factor).
        hc_sinkhorn_iters: normalisations that make the mixing matrix doubly stochastic.
        hc_eps: least value in them.
    """

    model_type = "engramcka_hyper_deepseek"

    hc_mult: int = 4
    hc_sinkhorn_iters: int = 20
    hc_eps: float = 1.0e-6


class HyperDeepseekLayer(v3.DeepseekV3DecoderLayer):
    """A DeepSeek-V3 block whose attention and feed-forward read and write M streams."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.attn_hc = v4.DeepseekV4HyperConnection(config)
        self.ffn_hc = v4.DeepseekV4HyperConnection(config)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The streams after the block, (B, T, M, D), from those before it."""
        post, mix, one = self.attn_hc(hidden_states)
        out, _ = self.self_attn(self.input_layernorm(one), *args, **kwargs)
        hidden_states = _write(hidden_states, out, post, mix)
        post, mix, one = self.ffn_hc(hidden_states)
        out = self.mlp(self.post_attention_layernorm(one))
        return _write(hidden_states, out, post, mix)


def _write(streams: Tensor, out: Tensor, post: Tensor, mix: Tensor) -> Tensor:
    """Mixed streams (transposed mix x streams), and a part's output on each by its weight."""
    mixed = torch.matmul(mix.to(streams.dtype).transpose(-1, -2), streams)
    return mixed + post.to(streams.dtype).unsqueeze(-1) * out.unsqueeze(-2)


class HyperDeepseekPreTrainedModel(v3.DeepseekV3PreTrainedModel):
    """Start weights, and what transformers has to know of the blocks."""

    config_class = HyperDeepseekConfig
    _no_split_modules = ["HyperDeepseekLayer"]  # noqa: RUF012
    _keep_in_fp32_modules_strict = [  # noqa: RUF012
        *v3.DeepseekV3PreTrainedModel._keep_in_fp32_modules_strict,
        "attn_hc",
        "ffn_hc",
        "hc_head",
    ]

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # the experts are V3's; transformers would look for them in this file

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, v4.DeepseekV4HyperConnection):
            init.normal_(module.fn, mean=0.0, std=std)
            init.zeros_(module.base)
            init.ones_(module.scale)
        elif isinstance(module, v4.DeepseekV4HyperHead):
            init.normal_(module.hc_fn, mean=0.0, std=std)
            init.zeros_(module.hc_base)
            init.ones_(module.hc_scale)


class HyperDeepseekModel(HyperDeepseekPreTrainedModel):
    """The decoder without its unembedding."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.layers = nn.ModuleList(
            HyperDeepseekLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.hc_head = v4.DeepseekV4HyperHead(config)
        self.norm = v3.DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = v3.DeepseekV3RotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> MoeModelOutputWithPast:
        """Last hidden state after the final norm, (B, T, D), and the cache.

        Args:
            input_ids: (B, T); or ``inputs_embeds``, (B, T, D).
            attention_mask: (B, tokens so far), 0 where a position is padding.
            position_ids: (B, T); counted on from the cache if left out.
            past_key_values: the cache of the tokens before, under either of its names.
            inputs_embeds: in place of ``input_ids``.
            use_cache: make a cache if none is given.
            cache: as ``past_key_values``.
            **kwargs: transformers' own for every model.

        Raises:
            ValueError: both or neither of input_ids and inputs_embeds, two caches, or a keyword
                that is not known.
        """
        cache = given_cache(cache, past_key_values, kwargs)
        unknown = sorted(set(kwargs) - set(TransformersKwargs.__optional_keys__))
        if unknown:
            raise ValueError(f"{type(self).__name__} does not know {', '.join(unknown)}")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, one of them")
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(embeds.shape[1], device=embeds.device) + seen)[None]
        past: dict[str, Any] = {CACHE: cache}
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **past,
        )
        rotary = self.rotary_emb(embeds, position_ids)
        streams = embeds.unsqueeze(2).repeat(1, 1, self.config.hc_mult, 1)
        for layer in self.layers:
            streams = layer(
                streams,
                attention_mask=mask,
                position_ids=position_ids,
                use_cache=use_cache,
                position_embeddings=rotary,
                **past,
                **kwargs,
            )
        hidden = self.norm(self.hc_head(streams))
        return MoeModelOutputWithPast(last_hidden_state=hidden, **past)


class HyperDeepseekForCausalLM(HyperDeepseekPreTrainedModel, v3.DeepseekV3ForCausalLM):
    """The decoder and its unembedding; the forward pass is DeepSeek-V3's."""

    def __init__(self, config: HyperDeepseekConfig) -> None:
        v3.DeepseekV3PreTrainedModel.__init__(self, config)  # not V3's decoder: it is ours
        self.model = HyperDeepseekModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


def pre_mapping(block: nn.Module, number: int) -> nn.Module:
    """The hyper-connection that gives what a block's attention reads of the residual streams.

    Its output is (.., .., what is read), as in transformers' DeepSeek-V4.

    Raises:
        ConfigError: the block has none.
    """
    found = getattr(block, "attn_hc", None)
    if not isinstance(found, nn.Module):
        raise ConfigError(
            f"engram.fusion = 'pre-mapping': block {number} ({type(block).__name__}) has no "
            "hyper-connection attn_hc; allowed for it: 'streams', 'mean'"
        )
    return found


AutoConfig.register(HyperDeepseekConfig.model_type, HyperDeepseekConfig, exist_ok=True)
AutoModelForCausalLM.register(HyperDeepseekConfig, HyperDeepseekForCausalLM, exist_ok=True)
