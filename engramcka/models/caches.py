"""The cache of a generation: the names it has in transformers, and what Engram modules add to it.

Up to transformers 5.23 models take and return the cache as ``past_key_values``, from 5.24 on as
``cache``. Models here accept both and pass the cache on under the name that the called function
has. Under the other name it would fall into ``**kwargs``, every step would begin with an empty
cache, and its logits would be wrong without an error.

What Engram modules keep between two steps is one more layer of that cache, so that beam search and
batch selection reorder it with everything else. The layer is a `DummyLayer`, which masks,
offloading and the choice between static and growing caches leave alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import LongTensor, Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DummyLayer

CACHE_NAMES = ("cache", "past_key_values")


def cache_name(function: Callable[..., Any]) -> str | None:
    """The name under which a function takes the cache, None if it has neither."""
    parameters = inspect.signature(function).parameters
    return next((name for name in CACHE_NAMES if name in parameters), None)


def given_cache(cache: Any, past_key_values: Any, others: Mapping[str, Any]) -> Cache | None:
    """The one cache of a call.

    Args:
        cache: what was given under the one name.
        past_key_values: under the other.
        others: the call's further keywords.

    Raises:
        ValueError: two different caches, one of a kind that is no transformers Cache (tuples,
            pages of continuous batching), or one under a name that is not known here.
    """
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise ValueError("cache and past_key_values are two names of one argument; give one")
    found = cache if cache is not None else past_key_values
    if found is not None and not isinstance(found, Cache):
        raise ValueError(
            f"the cache is a {type(found).__name__}; a transformers Cache is needed, such as "
            "DynamicCache or StaticCache (continuous batching is not supported)"
        )
    for name, value in others.items():
        if isinstance(value, Cache):
            raise ValueError(
                f"a cache was given as {name!r}, which this model would not use; the names are "
                f"{' and '.join(CACHE_NAMES)}"
            )
    return found


def returned_cache(outputs: Mapping[str, Any]) -> Any:
    """The cache in a model's outputs, None if there is none."""
    return next((outputs[name] for name in outputs if name in CACHE_NAMES), None)


class EngramCacheLayer(DummyLayer):
    """The last N - 1 canonical ids and each module's last normed values, for one batch.

    Attributes:
        ids: (B, N - 1) int64.
        tails: module name -> (B, reach, M, D); a module that was off or has no convolution is
            not there.
        n_tokens: tokens seen, padding included; keys and values must be of as many.
    """

    is_croppable = False

    def __init__(self, ids: Tensor, tails: dict[str, Tensor], n_tokens: int) -> None:
        super().__init__()
        self.ids = ids
        self.tails = tails
        self.n_tokens = n_tokens

    def _select(self, rows: Tensor) -> None:
        self.ids = self.ids[rows.to(self.ids.device)]
        self.tails = {k: v[rows.to(v.device)] for k, v in self.tails.items()}

    def reorder_cache(self, beam_idx: LongTensor) -> None:
        """Rows in the order of the surviving beams."""
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Only these rows of the batch."""
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row ``repeats`` times."""
        self.ids = self.ids.repeat_interleave(repeats, dim=0)
        self.tails = {k: v.repeat_interleave(repeats, dim=0) for k, v in self.tails.items()}

    def crop(self, tokens_to_remove: int) -> None:
        """Refused unless it removes nothing: older tails are gone."""
        if tokens_to_remove:
            raise NotImplementedError(
                "an Engram model's cache cannot be cut back: generate without an assistant model "
                "and without prompt lookup"
            )

    def reset(self) -> None:
        """Back to before the first token."""
        self.ids = self.ids[:0]
        self.tails = {}
        self.n_tokens = 0


def find_layer(cache: Cache | None) -> EngramCacheLayer | None:
    """The Engram layer of a cache, None where there is nothing in it yet.

    Raises:
        ValueError: keys and values are not of the tokens that the Engram modules have seen: they
            were made by another model, or cut back.
    """
    if cache is None:
        return None
    if cache.layers and not any(isinstance(layer, CacheLayerMixin) for layer in cache.layers):
        raise ValueError(
            "a cache of linear attention alone does not say how many tokens it holds, so an Engram "
            "model cannot go on from it; generate with use_cache=False"
        )
    found = next((x for x in reversed(cache.layers) if isinstance(x, EngramCacheLayer)), None)
    n_tokens, seen = int(cache.get_seq_length()), found.n_tokens if found else 0
    if n_tokens and not seen:
        raise ValueError(
            "the cache holds tokens but no Engram state: it was not made by an Engram model, so "
            "the n-grams that reach into it are unknown"
        )
    if n_tokens != seen:
        raise ValueError(
            f"the cache holds keys of {n_tokens} tokens but Engram state of {seen}: it was cut "
            "back or went through another model; begin with an empty one"
        )
    return found if seen else None


def store_layer(cache: Cache, ids: Tensor, tails: dict[str, Tensor], n_tokens: int) -> None:
    """Put the new tails in the cache, in the place of the old."""
    fresh = EngramCacheLayer(ids, tails, n_tokens)
    for i, layer in enumerate(cache.layers):
        if isinstance(layer, EngramCacheLayer):
            cache.layers[i] = fresh
            return
    cache.layers.append(fresh)
