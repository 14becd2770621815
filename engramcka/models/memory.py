"""The memory modules of a model: found, checked against what passes, and switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from engramcka.config.memory_tables import MemoryTable
from engramcka.errors import ConfigError
from engramcka.models.blocks import OwnModel, matches, numbered_blocks
from engramcka.models.engram.module import Engram
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.models.memory_adapters import PUBLISHED, DescribedMemory, OwnMemory
from engramcka.models.memory_modules import MemoryModule
from engramcka.models.stream import run_probe, same

_PROBE_TOKENS = 7  # unlike the number of streams of any model


def find_memories(
    model: Any, described: MemoryTable | None = None, blocks: str | None = None
) -> dict[int, MemoryModule]:
    """The memory modules of a model by the block that they stand in or before, from 1.

    A module inside a block belongs to it. One that stands elsewhere belongs to the block before
    whose end it runs, which a pass over a few tokens shows: names and their numbers say nothing.

    Args:
        model: any decoder or encoder.
        described: modules that a config describes; the known ones if None.
        blocks: a pattern over the names of its blocks; None to find them.

    Raises:
        ConfigError: no module of that description, or two in one block.
    """
    root = _root(model)
    found = {
        name: adapter
        for name, module in root.named_modules()
        if (adapter := _adapter(name, module, described)) is not None
    }
    if not found:
        if described is not None:
            some = ", ".join(name for name, _ in list(root.named_modules())[1:8])
            raise ConfigError(
                f"engram.module = {described.module!r} names no module of {type(root).__name__}; "
                f"its modules are {some}, .."
            )
        return {}
    layers = _layers(model, list(found), numbered_blocks(root, blocks))
    memories: dict[int, MemoryModule] = {}
    for name, adapter in found.items():
        layer = layers[name]
        if layer in memories:
            raise ConfigError(
                f"{memories[layer].name} and {name} both stand in block {layer}; engram.module may "
                "name one module a block"
            )
        memories[layer] = adapter(layer, name, root.get_submodule(name), root)
    return dict(sorted(memories.items()))


@contextmanager
def memory_off(
    model: nn.Module, memories: Mapping[int, MemoryModule] | None = None
) -> Iterator[None]:
    """Silence every memory module: nothing is added to the stream (Engram paper, section 6.3).

    Args:
        model: any model.
        memories: its modules, as `find_memories` gives them; those that are known if None.
    """
    with ExitStack() as stack:
        for memory in (find_memories(model) if memories is None else memories).values():
            stack.enter_context(memory.silenced())
        yield


@torch.no_grad()
def require_memories(
    model: Any, memories: Mapping[int, MemoryModule], blocks: str | None, in_stream: bool
) -> None:
    """Refuse modules that do not give what is said of them, as a pass over a few tokens shows.

    A module whose output is added must be seen to be, or at least must not hand on the stream
    itself, which silencing it would wipe out.

    Args:
        model: in eval mode.
        memories: as `find_memories` gives them.
        blocks: a pattern over the names of its blocks; None to find them.
        in_stream: whether the stream before and after the modules is asked for.

    Raises:
        ConfigError: says which module, what was seen and what to write instead.
    """
    for memory in memories.values():
        if memory.is_ours:
            continue
        seen = _handed_on(model, memory, numbered_blocks(_root(model), blocks)[memory.layer])
        if memory.gives == "stream" and not (seen["stream"] and seen["output"]):
            raise ConfigError(
                f"{memory.name} does not take the stream and hand it on with the memory added; "
                'engram.gives = "addition" if others add what it gives'
            )
        if memory.gives == "addition" and seen["output"] and not seen["sum"] and seen["stream"]:
            raise ConfigError(
                f"what {memory.name} gives is handed on as it is, and nothing is seen to add it to "
                'what it takes; engram.gives = "stream" if it adds the memory itself, else name '
                "the module whose output is added"
            )
        if in_stream and memory.gives == "addition" and not seen["sum"]:
            raise ConfigError(
                f"{memory.name} is not seen to take the stream and to give what is added to it, so "
                "the stream before and after it is not known; take another point (points)"
            )


def _handed_on(model: Any, memory: MemoryModule, block: nn.Module) -> dict[str, bool]:
    """What becomes of a module's output in a pass.

    Returns:
        stream: it takes something of the shape of what it gives; output: that is what another
        module or its block takes next or the block gives; sum: the two together are.

    Raises:
        ConfigError: it gives no tensor, or runs more than once.
    """
    seen = {"stream": False, "output": False, "sum": False}
    taken: list[Any] = []
    given: list[Any] = []
    made: dict[str, Tensor] = {}

    def read(key: tuple[str, int], passing: Any) -> None:
        if key == ("enters", id(memory.module)):
            taken.append(passing)
        elif key == ("leaves", id(memory.module)):
            given.append(passing)
            made.update(_made(taken[-1], passing))
        else:
            for what, tensor in made.items():
                seen[what] |= same(tensor, passing)
        if key == ("leaves", id(block)):
            made.clear()

    inside = set(memory.module.modules()) - {memory.module}
    points: dict[tuple[str, int], CapturePoint] = {
        ("enters", id(module)): CapturePoint(module, "input")
        for module in _root(model).modules()
        if module not in inside
    }
    points |= {("leaves", id(module)): CapturePoint(module) for module in (memory.module, block)}
    _probe(model, PassHooks(points, read))
    if not given:
        return seen
    if not isinstance(given[0], Tensor):
        raise ConfigError(
            f"{memory.name} gives a {type(given[0]).__name__}; name a part that gives a tensor"
        )
    if len(given) > 1:
        raise ConfigError(
            f"{memory.name} runs more than once in a pass, so that it is no one memory: its gates "
            "and its place cannot be told apart"
        )
    return {**seen, "stream": "sum" in _made(taken[0], given[0])}


def _made(taken: Any, given: Any) -> dict[str, Tensor]:
    """What a module gives, and that added to what it takes, where the two can be added."""
    if not isinstance(given, Tensor):
        return {}
    found = {"output": given}
    if isinstance(taken, Tensor) and taken.shape == given.shape and taken.is_floating_point():
        found["sum"] = taken + given.to(taken.device)
    return found


def _adapter(
    name: str, module: nn.Module, described: MemoryTable | None
) -> Callable[..., MemoryModule] | None:
    """What makes a memory module of this one, if it is one."""
    if described is not None:
        is_meant = matches(described.module, name)
        return partial(DescribedMemory, described=described) if is_meant else None
    if isinstance(module, Engram):
        return OwnMemory
    return next((adapter for adapter in PUBLISHED if adapter.knows(module)), None)


def _layers(model: Any, names: Sequence[str], blocks: Mapping[int, nn.Module]) -> dict[str, int]:
    """The block of each module, by its name."""
    root = _root(model)
    inside = {id(part): number for number, block in blocks.items() for part in block.modules()}
    modules = {name: root.get_submodule(name) for name in names}
    found = {name: inside[id(m)] for name, m in modules.items() if id(m) in inside}
    elsewhere = {name: m for name, m in modules.items() if name not in found}
    own = {name for name, m in elsewhere.items() if isinstance(m, Engram)}
    found |= {name: int(name.rpartition(".")[2]) for name in own}
    left = {name: m for name, m in elsewhere.items() if name not in own}
    return found | (_seen_before(model, left, blocks) if left else {})


def _seen_before(
    model: Any, modules: Mapping[str, nn.Module], blocks: Mapping[int, nn.Module]
) -> dict[str, int]:
    """The block before whose end each module runs, in a pass over a few tokens."""
    order: list[str | int] = []
    _probe(model, PassHooks({**modules, **blocks}, lambda key, _: order.append(key)))
    found: dict[str, int] = {}
    for name in modules:
        if name not in order:
            raise ConfigError(
                f"{name} does not run in a forward pass, so it is no memory of the model"
            )
        place = order.index(name)
        following = (key for key in order[place:] if isinstance(key, int))
        block = next(following, None)
        if block is None:
            raise ConfigError(f"{name} runs after the last block, so that it is no memory of one")
        found[name] = block
    return found


@torch.no_grad()
def _probe(model: Any, hooks: PassHooks[Any, None]) -> None:
    """A pass over a few tokens, whichever they are."""
    ids = torch.arange(2 * _PROBE_TOKENS, device=next(model.parameters()).device).view(2, -1)
    run_probe(model, hooks, ids, torch.ones_like(ids))


def _root(model: Any) -> nn.Module:
    return cast(nn.Module, model.inner if isinstance(model, OwnModel) else model)
