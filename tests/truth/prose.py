"""English prose that is on every machine: the topics of Python's own `help`, as documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

_LENGTH = range(70, 110)  # characters of a passage
_WORD = re.compile(r"[A-Za-z]{4,}")


@dataclass(frozen=True)
class Passage:
    """A document: the first sentences of a topic, with as many words marked as asked for."""

    topic: str
    text: str
    words: tuple[tuple[int, int], ...]  # characters, end exclusive


def passages(documents: int, words: int) -> list[Passage]:
    """One passage a topic, in alphabetical order.

    A word at the very start is never marked: a language model's first token is like no other.
    """
    found: list[Passage] = []
    for topic in sorted(topics):
        text = _sentences(topics[topic])
        spans = [match.span() for match in _WORD.finditer(text) if match.start() > 0]
        known = any(one.text == text for one in found)
        if len(text) in _LENGTH and len(spans) >= words and not known:
            found.append(Passage(topic, text, tuple(_spread(spans, words))))
    if len(found) < documents:
        raise ValueError(f"Python's topics hold {len(found)} passages, {documents} were asked for")
    return found[:documents]


def write_jsonl(path: Path, texts: Iterable[Passage]) -> Path:
    """The passages as rows for ``source = "jsonl"``."""
    rows = []
    for one in texts:
        spans = [{"start": a, "end": b, "type": f"word-{i}"} for i, (a, b) in enumerate(one.words)]
        rows.append({"text": one.text, "entities": spans})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _sentences(topic: str) -> str:
    """The first paragraphs of plain prose, in one line, cut at a word."""
    paragraphs = [part for part in topic.split("\n\n") if re.match(r"[A-Z]", part)]
    prose = [" ".join(part.split()) for part in paragraphs if "\n**" not in part]
    text = " ".join(part for part in prose if not part.endswith(":"))
    return text[: _LENGTH.stop - 1].rsplit(" ", 1)[0]


def _spread(spans: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """As many of them, evenly from the first to the last."""
    return [spans[round(i * (len(spans) - 1) / max(1, count - 1))] for i in range(count)]
