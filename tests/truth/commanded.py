"""Runs of the real command, what they print, and what the model gives without them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import prose
import real_model
from command import here

from engramcka import open_run
from engramcka.stores.run import Run

DOCUMENTS, WORDS = 64, 3
TOKENS = 700  # samples of positions = "all"

HEAD = """
[run]
dir = "run"
device = "cpu"

[data]
source = "jsonl"
path = "text.jsonl"
"""


@dataclass(frozen=True)
class Done:
    """A run of the command, and what it printed."""

    run: Run
    folder: Path
    said: str

    def caption(self, name: str) -> str:
        """The text beside the figure of a map."""
        return (self.folder / "run" / "figures" / f"cka-{name}.txt").read_text(encoding="utf-8")

    def line(self, name: str) -> str:
        """The sentence of a map on the terminal."""
        (line,) = [one for one in self.said.splitlines() if one.startswith(f"cka/{name} ")]
        return line.removeprefix(f"cka/{name}").strip()

    def warnings(self, name: str) -> list[str]:
        """What the terminal warns of below a map."""
        lines = self.said.splitlines()
        first = next(i for i, one in enumerate(lines) if one.startswith(f"cka/{name} ")) + 1
        block = []
        for line in lines[first:]:
            if not line.startswith(" "):
                break
            block.append(line.strip())
        return [one.removeprefix("warning: ") for one in block if one.startswith("warning: ")]


def run(folder: Path, config: str, *overrides: str) -> Done:
    """``engramcka run`` on a config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config, encoding="utf-8")
    result = here("run", "config.toml", *overrides, cwd=folder)
    assert result.returncode == 0, result.stderr
    return Done(open_run(folder / "run"), folder, result.stdout)


@dataclass(frozen=True)
class RealText:
    """The passages, and what the model gives for them, by transformers alone."""

    passages: list[prose.Passage]

    @property
    def texts(self) -> list[str]:
        """A passage each."""
        return [one.text for one in self.passages]

    @cached_property
    def raw(self) -> real_model.Raw:
        """The model as it is."""
        return real_model.Raw(*real_model.base(), self.texts)

    @cached_property
    def without_block(self) -> real_model.Raw:
        """The same model, in which a block gives what it was given: a block as if not there."""
        model, tokenizer = real_model.base()
        with real_model.skipped(model, real_model.CHANGED):
            return real_model.Raw(model, tokenizer, self.texts)

    def rows(self, done: Done, model: str, raw: real_model.Raw) -> npt.NDArray[np.float32]:
        """(blocks, samples, width) of ``raw``, at the characters that a run's samples end with."""
        table = done.run.activations(model).samples
        ends = zip(numbers(table["document"]), table["end"].tolist(), strict=True)
        return np.stack([raw.at(document, end - 1) for document, end in ends], axis=1)


def numbers(documents: npt.NDArray[np.str_]) -> list[int]:
    """Which passage each is: documents are called after their file and line."""
    return [int(name.rpartition(":")[2]) - 1 for name in documents.tolist()]


def hf(name: str, **keys: str) -> str:
    """A model of the folder that was saved."""
    extra = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    path = os.environ[real_model.BASE]
    return f'\n[models.{name}]\nsource = "hf"\npath = "{path}"\n{extra}'


def python(name: str, function: str) -> str:
    """A model that a function of `real_model` makes."""
    folder = Path(real_model.__file__).parent
    return (
        f'\n[models.{name}]\nsource = "python"\n'
        f'function = "real_model:{function}"\npath = "{folder}"\n'
    )


def cka(name: str, y: str, x: str, **keys: str | int) -> str:
    """A map."""
    values = {"y": y, "x": x, **keys}
    lines = [
        f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"'
        for key, value in values.items()
    ]
    return "\n".join(["\n[[cka]]", f'name = "{name}"', *lines, ""])
