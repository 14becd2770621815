"""Hooks that read what passes chosen points of a model, and that can end the forward pass there.

The one mechanism for hidden states, read-outs, gates and losses of single tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


STREAMS_FIRST: Final = "streams-first"
TOKENS_FIRST: Final = "tokens-first"


@dataclass(frozen=True)
class CapturePoint:
    """One place in a model: what leaves a module, what enters it, or the sum of the two.

    Attributes:
        module: the module.
        side: which of them.
        taps_stream: whether what passes is the residual stream itself, and not a part of a block.
        layout: how what passes lies, which a pass shows (`engramcka.models.require_stream`): the
            number of streams that stand flattened, (batch, tokens, streams x width), 1 for one
            stream or streams behind the tokens; "streams-first" for (streams, batch, tokens,
            width), "tokens-first" for (tokens, batch, width).
    """

    module: nn.Module
    side: Literal["output", "input", "sum"] = "output"
    taps_stream: bool = True
    layout: int | Literal["streams-first", "tokens-first"] = 1

    def arrange(self, passing: Any) -> Any:
        """A view of it as (batch, tokens, width), of streams (batch, tokens, streams, width)."""
        if self.layout == 1 or not isinstance(passing, Tensor):
            return passing
        if self.layout == STREAMS_FIRST:
            return passing.movedim(0, 2)
        if self.layout == TOKENS_FIRST:
            return passing.transpose(0, 1)
        return passing.unflatten(-1, (int(self.layout), -1))


def first_of(passing: Any) -> Any:
    """What a module passes on, of several things the first: the hidden state."""
    return passing[0] if isinstance(passing, tuple | list) and passing else passing


def entering(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What enters a module first: its first argument, by position or by name."""
    if args:
        return first_of(args[0])
    return kwargs.get("hidden_states", next(iter(kwargs.values()), None))


class PassEnded(Exception):
    """Ends a forward pass; raised and caught by the same `PassHooks`."""

    def __init__(self, hooks: PassHooks[Any, Any]) -> None:
        super().__init__()
        self.hooks = hooks


class PassHooks(Generic[Key, Kept]):
    """Hooks on points of a model; a context manager around forward passes.

    Attributes:
        found: key -> what ``read`` returned for it in the last pass that came there.

    Args:
        points: key -> a point, or a module for what leaves it.
        read: takes a key and what passes its point, of several things the first, with several
            streams arranged; its result is kept.
        first: see what enters a module before other hooks change it (an Engram module adds to the
            stream there).
        end: end the pass as soon as every point has been passed. The ``with`` block is then left
            as well, so nothing in it that stands after the model's call is run.
    """

    def __init__(
        self,
        points: Mapping[Key, CapturePoint | nn.Module],
        read: Callable[[Key, Any], Kept],
        *,
        first: bool = False,
        end: bool = False,
    ) -> None:
        self._points, self._read, self._first, self._end = points, read, first, end
        self._handles: list[RemovableHandle] = []
        self.found: dict[Key, Kept] = {}

    @property
    def complete(self) -> bool:
        """Whether every point has been passed."""
        return len(self.found) == len(self._points)

    def __enter__(self) -> PassHooks[Key, Kept]:
        self._handles = [self._register(key, point) for key, point in self._points.items()]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        for handle in self._handles:
            handle.remove()
        return isinstance(error, PassEnded) and error.hooks is self

    def _register(self, key: Key, place: CapturePoint | nn.Module) -> RemovableHandle:
        point = CapturePoint(place) if isinstance(place, nn.Module) else place

        def keep(passing: Any) -> None:
            self.found[key] = self._read(key, point.arrange(first_of(passing)))
            if self._end and self.complete:
                raise PassEnded(self)

        if point.side == "output":
            return point.module.register_forward_hook(lambda module, inputs, output: keep(output))
        if point.side == "sum":
            return point.module.register_forward_hook(
                lambda module, args, kwargs, output: keep(
                    _sum(entering(args, kwargs), first_of(output))
                ),
                with_kwargs=True,
            )
        return point.module.register_forward_pre_hook(
            lambda module, args, kwargs: keep(entering(args, kwargs)),
            with_kwargs=True,
            prepend=self._first,
        )


def _sum(taken: Tensor, given: Tensor) -> Tensor:
    return taken + given.to(taken.device)
