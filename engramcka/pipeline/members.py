"""A model of the config as the checkpoints that it stands for: one, or a series over training.

A series is a model of source "hf" whose path is a glob or whose revision is a list, or a model
trained here that leaves checkpoints on the way. Looks at folder names only and loads nothing.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from engramcka.config import CkaTable, Config, LensTable, LoadedModel, TrainedModel
from engramcka.config.model_tables import ModelTable
from engramcka.stores import layout


@dataclass(frozen=True)
class Member:
    """One checkpoint of a model."""

    model: str  # its name in the config
    table: ModelTable  # the model's table, of this checkpoint alone
    step: int | None = None  # training step, in a series
    folder: str = ""  # within the folder of a model trained here; empty for the trained model
    store: str = ""  # name of its activation store

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", self.store or self.model)


@dataclass(frozen=True)
class Pair:
    """Two checkpoints that are compared, and what the map is called."""

    name: str
    y: Member
    x: Member
    step: int | None = None  # in a series of maps


def members(config: Config, name: str) -> tuple[Member, ...]:
    """The checkpoints of a model, by training step; one where it is no series.

    Raises:
        ConfigError: a series without checkpoints, or without a number to tell them by.
    """
    table = config.models[name]
    if isinstance(table, LoadedModel) and table.is_series:
        return _loaded(config, name, table)
    if isinstance(table, TrainedModel) and config.training.checkpoints:
        steps = [
            Member(name, table, step, layout.step_name(step), store_name(name, step))
            for step in config.training.checkpoints
        ]
        return (*steps, Member(name, table, config.training.steps))
    return (Member(name, table),)


def last_member(config: Config, name: str) -> Member:
    """A model's last checkpoint, which stands for it wherever one is asked for."""
    return members(config, name)[-1]


def pairs(config: Config, cka: CkaTable) -> list[Pair]:
    """What a map compares: in a series, one pair a step, the last under the map's own name.

    Raises:
        ConfigError: two series that share no step.
    """
    ys, xs = members(config, cka.y), members(config, cka.x)
    if len(ys) == len(xs) == 1 and ys[0].step is None and xs[0].step is None:
        return [Pair(cka.name, ys[0], xs[0])]
    y_steps = {member.step: member for member in ys}
    x_steps = {member.step: member for member in xs}
    if None in y_steps:
        y_steps = dict.fromkeys(x_steps, ys[0])
    elif None in x_steps:
        x_steps = dict.fromkeys(y_steps, xs[0])
    steps = [step for step in y_steps if step in x_steps and step is not None]
    if not steps:
        index = config.cka.index(cka)
        raise config.error(
            ("cka", index, "x"),
            f"{cka.y!r} has steps {_listed(y_steps)}, {cka.x!r} has {_listed(x_steps)}",
            "two series are paired by step and need one in common",
        )
    return [
        Pair(
            cka.name if step == steps[-1] else store_name(cka.name, step),
            y_steps[step],
            x_steps[step],
            step,
        )
        for step in steps
    ]


@dataclass(frozen=True)
class Curve:
    """A lens curve: what it is called, and of which checkpoint, with its memory or without."""

    name: str
    member: Member
    memory: bool
    is_last: bool  # the checkpoint that stands for the model


def lens_curves(config: Config, lens: LensTable) -> list[Curve]:
    """The curves of a table; of a series that of the last checkpoint, or of all if it asks so."""
    found = []
    for name, (model, memory) in lens.curves.items():
        *before, last = members(config, model)
        for member in before if lens.checkpoints else ():
            assert member.step is not None, "a series has steps"
            found.append(Curve(store_name(name, member.step), member, memory, is_last=False))
        found.append(Curve(name, last, memory, is_last=True))
    return found


def store_name(name: str, step: int) -> str:
    """What a checkpoint's activation store is called, and the map of a step: NAME.step-000025."""
    return f"{name}.{layout.step_name(step)}"


def _loaded(config: Config, name: str, table: LoadedModel) -> tuple[Member, ...]:
    """The members of a series that is loaded."""
    if isinstance(table.revision, tuple):
        key, found = "revision", list(table.revision)
    else:
        key = "path"
        place = str(Path(table.path).expanduser())
        found = [path for path in glob.glob(place) if (Path(path) / "config.json").is_file()]
    if not found:
        raise config.error(
            ("models", name, key),
            f"no checkpoint matches {table.path!r}",
            "allowed: a glob of folders with a config.json",
        )
    by_step: dict[int, str] = {}
    for one in found:
        digits = re.findall(r"\d+", Path(one).name)
        if not digits or int(digits[-1]) in by_step:
            other = by_step[int(digits[-1])] if digits else ""
            problem = f"has the number of {other}" if digits else "has no number"
            raise config.error(
                ("models", name, key), f"{one} {problem}", "a series is sorted by the last number"
            )
        by_step[int(digits[-1])] = one
    return tuple(
        Member(
            name,
            table.model_copy(update={key: one}),
            step,
            store=store_name(name, step),
        )
        for step, one in sorted(by_step.items())
    )


def _listed(steps: dict[int | None, Member]) -> str:
    return ", ".join(map(str, steps)) or "none"
