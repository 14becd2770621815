"""What makes logits of the last block's output, as a pass over a few tokens shows it.

Whatever runs between the last block and the LM head is taken, in the order in which it runs: a
final norm, what makes one of several residual streams, a projection. No name is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.blocks import find_blocks
from engramcka.models.hooks import entering, first_of
from engramcka.models.stream import run_probe, same

_PROBE_TOKENS = 5


@dataclass(frozen=True)
class Unembedding:
    """What makes logits of the last block's output.

    Attributes:
        steps: applied to the last block's output one after the other: of most decoders the final
            norm alone; before it, with several residual streams, what makes them one.
        lm_head: unembedding, hidden size to vocabulary.
        logit_scale: what the model multiplies its logits by.
        logit_cap: size the model softly caps its logits at; None if it does not.
    """

    steps: tuple[nn.Module, ...]
    lm_head: nn.Module
    logit_scale: float = 1.0
    logit_cap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (batch, tokens, vocabulary) of a residual stream, as LogitLens reads it.

        Args:
            hidden: what leaves any block, as the model lays it out.
        """
        logits: Tensor = self.lm_head(take_steps(self.steps, hidden)) * self.logit_scale
        if self.logit_cap is None:
            return logits
        return torch.tanh(logits / self.logit_cap) * self.logit_cap


@dataclass
class _Call:
    """One module's part in a pass."""

    module: nn.Module
    entering: Any
    leaving: Any = None


def take_steps(steps: Sequence[nn.Module], hidden: Tensor) -> Tensor:
    """A block's output, (batch, tokens, ..), after the steps that lead to the LM head."""
    for step in steps:
        hidden = first_of(step(hidden))
    return hidden


@torch.no_grad()
def find_unembedding(model: PreTrainedModel, ids: Tensor | None = None) -> Unembedding:
    """What stands between the last block of a causal LM and its logits.

    Where a model does something between them that is no module, the steps end there; whether the
    logits are the model's own is for the caller to see.

    Args:
        model: in eval mode.
        ids: (tokens,) int64 on the model's device, which are run; None for any.

    Raises:
        ConfigError: as `find_blocks`; there is no unembedding, or what leaves the last block is not
            (batch, tokens, ..).
    """
    name = type(model).__name__
    blocks = find_blocks(model)
    lm_head = model.get_output_embeddings()
    if lm_head is None:
        raise ConfigError(
            f"{name} has no unembedding (LM head); load it as a causal LM, or leave it out of the "
            "lens"
        )
    if ids is None:
        ids = torch.arange(_PROBE_TOKENS, device=next(model.parameters()).device)
    hidden, calls, taken = _calls(model, blocks.modules, lm_head, ids[None])
    if not isinstance(hidden, Tensor) or hidden.shape[:2] != (1, len(ids)):
        found = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
        raise ConfigError(
            f"{name}: what leaves its last block is {found}, not (batch, tokens, ..), so no lens "
            "can be read off it"
        )
    steps = next(_paths(hidden, taken, calls), None)
    if steps is None:
        steps = _first_path(hidden, calls)
    return Unembedding(steps=tuple(steps), lm_head=lm_head, **_logit_numbers(model))


def _calls(
    model: PreTrainedModel, blocks: Sequence[nn.Module], lm_head: nn.Module, ids: Tensor
) -> tuple[Any, list[_Call], Any]:
    """One pass: the last block's output, what runs behind it, and what the LM head takes."""
    around = [module for module in model.modules() if _holds(module, (blocks[-1], lm_head))]
    inside = {part for block in blocks for part in block.modules()}
    others = [m for m in model.modules() if m not in inside and not any(m is a for a in around)]
    hidden: list[Any] = []
    taken: list[Any] = []
    calls: list[_Call] = []
    running: list[_Call] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if hidden:
            running.append(_Call(module, entering(args, kwargs)))
            calls.append(running[-1])

    def end(module: nn.Module, args: Any, output: Any) -> None:
        if running and running[-1].module is module:
            running.pop().leaving = first_of(output)

    def to_head(module: nn.Module, args: tuple[Any, ...]) -> None:
        taken.append(entering(args, {}))

    with ExitStack() as hooks:
        for module in others:
            hooks.callback(module.register_forward_pre_hook(begin, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(end).remove)
        last = blocks[-1].register_forward_hook(lambda m, a, out: hidden.append(first_of(out)))
        hooks.callback(last.remove)
        hooks.callback(lm_head.register_forward_pre_hook(to_head).remove)
        run_probe(model, nullcontext(), ids, torch.ones_like(ids))
    return (hidden or [None])[-1], calls, (taken or [None])[-1]


def _holds(module: nn.Module, parts: Sequence[nn.Module]) -> bool:
    """Whether a module is one of these or has one of them inside."""
    return any(inside is part for inside in module.modules() for part in parts)


def _paths(hidden: Tensor, goal: Any, calls: Sequence[_Call]) -> Iterator[list[nn.Module]]:
    """Ways from a hidden state to a goal, each module taking what the one before gives."""
    if same(hidden, goal):
        yield []
        return
    for place, call in enumerate(calls):
        if isinstance(call.leaving, Tensor) and same(hidden, call.entering):
            for rest in _paths(call.leaving, goal, calls[place + 1 :]):
                yield [call.module, *rest]


def _first_path(hidden: Tensor, calls: Sequence[_Call]) -> list[nn.Module]:
    """The first modules that take what the one before gives, as far as they go."""
    for place, call in enumerate(calls):
        if isinstance(call.leaving, Tensor) and same(hidden, call.entering):
            return [call.module, *_first_path(call.leaving, calls[place + 1 :])]
    return []


def _logit_numbers(model: PreTrainedModel) -> dict[str, Any]:
    """What a model does to its logits, by the names that configs use for it."""
    config = model.config.get_text_config(decoder=True)
    scale = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    return {
        "logit_scale": scale / divisor,
        "logit_cap": getattr(config, "final_logit_softcapping", None),
    }
