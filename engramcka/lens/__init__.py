"""LogitLens, Engram gates, and what memory is worth: models in, numbers out, no files."""

from engramcka.lens.collisions import collision_shares
from engramcka.lens.curve import lens_curve
from engramcka.lens.gates import gate_map, memory_ablation
from engramcka.lens.head import read_head
from engramcka.lens.passes import require_engram, require_gates, token_gates, token_losses
from engramcka.lens.readout import PREFIX, LensReadout
from engramcka.lens.tokens import TokenText, token_texts

__all__ = [
    "PREFIX",
    "LensReadout",
    "TokenText",
    "collision_shares",
    "gate_map",
    "lens_curve",
    "memory_ablation",
    "read_head",
    "require_engram",
    "require_gates",
    "token_gates",
    "token_losses",
    "token_texts",
]
