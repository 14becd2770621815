"""What went wrong in a run that went on: points that failed, and what cannot be made without them.

A training whose loss is no longer a number, or that needs more memory than there is, is no reason
to lose the others; where all ranks train one model, a rank that runs out of memory is, since the
others wait for it within a step. Everything else (a full disk, a wrong config) ends the run. Knows
no pieces' work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engramcka.errors import EngramckaError, OutOfMemory, TrainingError
from engramcka.pipeline.pieces import Piece

Failed = list[str]  # [what the piece would have made, one line for a person]; JSON


@dataclass
class Failures:
    """The failures of a run so far, on all ranks."""

    lines: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)  # what failed pieces, and those that need it, make
    skipped: int = 0

    def add(self, failed: Sequence[Failed]) -> None:
        """Take in what ranks have told of."""
        self.lost |= {made for made, _ in failed}
        self.lines += [line for _, line in failed]

    def spare(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces that can be made; the others are lost, with all that needs them."""
        spared = [piece for piece in pieces if not self.lost & set(piece.needs)]
        self.lost |= {piece.makes for piece in pieces if piece not in spared}
        self.skipped += len(pieces) - len(spared)
        return spared


def failure(piece: Piece, error: EngramckaError) -> Failed | None:
    """A failure that the run can go on after; None for one that ends it."""
    is_alone = piece.ranks == "each"
    if isinstance(error, TrainingError) and (is_alone or not isinstance(error, OutOfMemory)):
        return [piece.makes, f"{piece.stage} {piece.name}: {error}"]
    return None
