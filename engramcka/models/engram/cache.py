"""What Engram modules keep between the steps of a generation, beside the keys and values.

It travels as one more layer of the transformers cache, so that beam search and batch selection
reorder it with everything else. Knows nothing of how the tails are made.
"""

from __future__ import annotations

from typing import Any

from torch import LongTensor, Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class EngramCacheLayer(CacheLayerMixin):
    """The last N - 1 canonical ids and each module's last normed values, for one batch.

    Attributes:
        ids: (B, N - 1) int64.
        tails: module name -> (B, reach, M, D); a module that was off or has no convolution is
            not there.
    """

    is_compileable = False
    is_croppable = False
    is_sliding = False
    supports_early_init = False

    def __init__(self, ids: Tensor, tails: dict[str, Tensor]) -> None:
        super().__init__()
        self.ids = ids
        self.tails = tails
        self.is_initialized = True

    def _select(self, rows: Tensor) -> None:
        self.ids = self.ids.index_select(0, rows.to(self.ids.device))
        self.tails = {k: v.index_select(0, rows.to(v.device)) for k, v in self.tails.items()}

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

    def get_seq_length(self) -> int:
        """0: this layer has no keys."""
        return 0

    def get_max_length(self) -> int:
        """-1: any."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As of a layer without keys."""
        return query_length, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do."""

    def offload(self) -> None:
        """Nothing to do: it is small."""

    def prefetch(self) -> None:
        """Nothing to do: it is small."""

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: attention has no business here."""
        raise NotImplementedError("the Engram cache layer holds no keys and values")


def find_layer(cache: Cache | None) -> EngramCacheLayer | None:
    """The Engram layer of a cache, None where there is nothing in it yet.

    Raises:
        ValueError: the cache holds tokens that this kind of model has not seen.
    """
    if cache is None:
        return None
    for layer in reversed(cache.layers):
        if isinstance(layer, EngramCacheLayer):
            return layer if layer.ids.shape[0] else None
    if int(cache.get_seq_length()) > 0:
        raise ValueError(
            "past_key_values holds tokens but no Engram state: it was not made by an Engram model, "
            "so the n-grams that reach into it are unknown"
        )
    return None


def store_layer(cache: Cache, ids: Tensor, tails: dict[str, Tensor]) -> None:
    """Put the new tails in the cache, in the place of the old."""
    fresh = EngramCacheLayer(ids, tails)
    for i, layer in enumerate(cache.layers):
        if isinstance(layer, EngramCacheLayer):
            cache.layers[i] = fresh
            return
    cache.layers.append(fresh)
