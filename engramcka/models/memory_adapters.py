"""Memory modules of the kinds that are known, and of the kind that a config describes.

Our own Engram modules, those of published models that are recognised by their parts (Qwen4's and
DeepSeek-V4.1's), and any other. Letters as in `engramcka.models.memory_modules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from engramcka.config.memory_tables import MemoryTable
from engramcka.errors import ConfigError
from engramcka.models.engram.module import Engram
from engramcka.models.engram.tables import EngramMemory
from engramcka.models.hooks import CapturePoint
from engramcka.models.memory_modules import (
    Ints,
    MemoryModule,
    gate_of,
    has_parts,
    integer_tensor,
    stream_width,
    unit,
    windows_of,
)


class OwnMemory(MemoryModule):
    """Our own `Engram`."""

    is_ours = True

    @property
    def _own(self) -> Engram:
        return cast(Engram, self.module)

    @property
    def _hashing(self) -> Any:
        return self.root.get_submodule("hashing")

    @property
    def gate_points(self) -> Mapping[str, CapturePoint]:
        """The gate's own output."""
        return {} if self._own.gate is None else {"alpha": CapturePoint(self._own.gate)}

    def alpha(self, seen: Mapping[str, Tensor]) -> Tensor:
        """As the gate gives it."""
        return seen["alpha"]

    @property
    def table(self) -> nn.Module | None:
        """All tables of the module as one; None where it was made without."""
        memory = self._own.memory
        return memory if isinstance(memory, EngramMemory) else None

    @property
    def orders(self) -> tuple[int, ...]:
        """Of the model's hash."""
        return tuple(self._hashing.orders)

    @property
    def value_layer(self) -> nn.Module:
        """W_V."""
        return self._own.value

    def hashed(self, ids: Ints) -> Ints | None:
        """N-grams, where they are what the rows are looked up by."""
        is_keyed = self.table is not None and self._hashing.control != "unkeyed-rows"
        return self.ngrams(ids) if is_keyed else None

    def ngrams(self, ids: Ints) -> Ints:
        """Canonical ids, the pad's before the start of a document."""
        hashing = self._hashing
        tokens = torch.from_numpy(ids)[None].to(hashing.token_map.device)
        canonical = hashing.canonical(tokens, None, None)
        windows = hashing.windows(canonical, hashing.since(tokens))
        return cast(Ints, windows[:, 0].T.flip(1).cpu().numpy())

    def stands_before(self, block: nn.Module) -> bool:
        """Not where it adds to what the block's attention reads of the streams."""
        return bool(cast(Any, self.root).config.modules.fusion != "pre-mapping")

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Without running the module."""
        before = self._own.enabled
        self._own.enabled = False
        try:
            yield
        finally:
            self._own.enabled = before


class Qwen4Memory(MemoryModule):
    """The per-layer embedding of Qwen4, an Engram module with another name.

    The score is computed in the module's forward, so it is made again of the normed keys and
    streams; n-grams are cut at an eos token, and token ids are hashed as they are.
    """

    parts = ("ple_embedding.ngram_embedding", "key_proj", "value_proj", "norm_key", "norm_query")

    @classmethod
    def knows(cls, module: nn.Module) -> bool:
        """By its parts."""
        return has_parts(module, cls.parts)

    @property
    def gate_points(self) -> Mapping[str, CapturePoint]:
        """The normed keys and streams."""
        return {
            "key": CapturePoint(self._part("norm_key")),
            "query": CapturePoint(self._part("norm_query")),
        }

    def alpha(self, seen: Mapping[str, Tensor]) -> Tensor:
        """Sigmoid of the signed root of <key, query> / sqrt(D)."""
        width = stream_width(self.root)
        return gate_of(seen["key"], seen["query"], width, signed_sqrt=True)

    @property
    def table(self) -> nn.Module:
        """The joint table of all heads."""
        return self._part("ple_embedding.ngram_embedding")

    @property
    def orders(self) -> tuple[int, ...]:
        """2 up to the n-gram size."""
        return tuple(range(2, int(self._embedding.ngram_size) + 1))

    @property
    def _embedding(self) -> Any:
        return self._part("ple_embedding")

    @property
    def value_layer(self) -> nn.Module:
        """One for all streams."""
        return self._part("value_proj")

    def hashed(self, ids: Ints) -> Ints:
        """Token ids after the last eos before the token; eos stands for what is before them."""
        eos = int(self._embedding.eos_token_id)
        return windows_of(ids, self.orders[-1], cut_at=eos, before=eos)


class DeepSeekMemory(MemoryModule):
    """The Engram module of DeepSeek-V4.1: key and value projections fused, no convolution.

    It gives the stream with the memory added. Its gate is computed in its forward from the stream
    and the keys, both divided by their root mean square in each stream.
    """

    parts = ("embed", "wkv")
    weights = ("q_weight", "k_weight")

    @classmethod
    def knows(cls, module: nn.Module) -> bool:
        """By its parts and weights."""
        return has_parts(module, cls.parts) and all(hasattr(module, name) for name in cls.weights)

    @property
    def gives(self) -> Literal["addition", "stream"]:
        """The stream."""
        return "stream"

    @property
    def gate_points(self) -> Mapping[str, CapturePoint]:
        """The stream that enters it and what the fused projection gives."""
        return {"stream": self.before, "fused": CapturePoint(self._part("wkv"))}

    def alpha(self, seen: Mapping[str, Tensor]) -> Tensor:
        """Sigmoid of the signed root of <h / rms(h) q, k / rms(k)> / sqrt(D)."""
        module: Any = self.module
        scale = module.q_weight.float() * module.k_weight.float()
        streams, width = scale.shape
        key = seen["fused"][..., : streams * width].float().unflatten(-1, (streams, width))
        hidden = seen["stream"].float().reshape(key.shape)
        eps = float(module.eps)
        return gate_of(unit(hidden, eps) * scale, unit(key, eps), width, signed_sqrt=True)

    @property
    def table(self) -> nn.Module:
        """The joint table of all heads."""
        return self._part("embed")

    @property
    def orders(self) -> tuple[int, ...]:
        """2 up to the longest."""
        config = getattr(self.root, "config", None)
        config = config.get_text_config(decoder=True) if config is not None else None
        longest = int(getattr(config, "engram_max_ngram_size", 0))
        return tuple(range(2, longest + 1))

    @property
    def value_layer(self) -> nn.Module:
        """The fused projection: keys of all streams, then the value."""
        return self._part("wkv")

    @property
    def value_outputs(self) -> slice:
        """The last D."""
        return slice(-int(cast(Tensor, self.module.q_weight).shape[-1]), None)

    def hashed(self, ids: Ints) -> Ints | None:
        """Compressed ids, where the model keeps the map that compresses them."""
        found = integer_tensor(self.root, "token_map")
        if found is None or not self.orders:
            return None
        return windows_of(found[ids], self.orders[-1])


@dataclass(frozen=True)
class DescribedMemory(MemoryModule):
    """A module of anybody's model, as ``engram`` of a config describes it."""

    described: MemoryTable

    @property
    def gives(self) -> Literal["addition", "stream"]:
        """As the config says."""
        return self.described.gives

    @property
    def gate_points(self) -> Mapping[str, CapturePoint]:
        """The modules named as gate, or as key and query."""
        named = {"alpha": self.described.gate, "key": self.described.key}
        named["query"] = self.described.query
        return {key: CapturePoint(self._named(name)) for key, name in named.items() if name}

    def alpha(self, seen: Mapping[str, Tensor]) -> Tensor:
        """As the gate's module gives it, or made of keys and queries."""
        if "alpha" not in seen:
            signed_sqrt = self.described.score == "signed-sqrt"
            return gate_of(seen["key"], seen["query"], stream_width(self.root), signed_sqrt)
        found = seen["alpha"].float()
        found = found.squeeze(-1) if found.dim() == 4 else found
        found = found.unsqueeze(-1) if found.dim() == 2 else found
        if found.dim() != 3 or not bool(((found >= 0) & (found <= 1)).all()):
            raise ConfigError(
                f"engram.gate = {self.described.gate!r} of {self.name} gives "
                f"{tuple(found.shape)} from {float(found.min()):.3g} to {float(found.max()):.3g}; "
                "a gate is (batch, tokens) or (batch, tokens, streams) in [0, 1]: name the part "
                "that gives it, or key and query"
            )
        return found

    @property
    def table(self) -> nn.Module | None:
        """The module named as table."""
        return self._named(self.described.table) if self.described.table else None

    @property
    def orders(self) -> tuple[int, ...]:
        """As the config says."""
        return self.described.orders

    @property
    def value_layer(self) -> nn.Module | None:
        """The part named as value."""
        return self._named(self.described.value) if self.described.value else None

    def hashed(self, ids: Ints) -> Ints | None:
        """Token ids, through the map that the config names."""
        name, orders = self.described.token_map, self.orders
        if not name or not orders:
            return None
        if name == "none":
            return windows_of(ids, orders[-1])
        found = integer_tensor(self.root, name)
        if found is None or len(found) <= ids.max():
            raise ConfigError(
                f"engram.token_map = {name!r}: no integer tensor (vocabulary,) of that name in "
                f'{type(self.root).__name__}; "none" if token ids are hashed as they are'
            )
        return windows_of(found[ids], orders[-1])

    def _named(self, name: str) -> nn.Module:
        try:
            return self._part(name)
        except AttributeError:
            inside = ", ".join(part for part, _ in self.module.named_modules() if part)
            raise ConfigError(
                f"engram: {self.name} has no module {name!r} inside; allowed: {inside or 'none'}"
            ) from None


PUBLISHED = (Qwen4Memory, DeepSeekMemory)
"""Modules of published models, recognised by their parts."""
