"""LogitLens, Engram gates, and what memory is worth: models in, numbers out, no files."""

from engramcka.lens.curve import lens_curve
from engramcka.lens.gates import TokenText, gate_map, memory_ablation, token_texts
from engramcka.lens.logit_lens import PREFIX, LensReadout, read_head
from engramcka.lens.ngrams import Frequencies, collision_shares, frequencies
from engramcka.lens.passes import (
    require_gates,
    require_logits,
    require_memory,
    token_gates,
    token_losses,
)

__all__ = [
    "PREFIX",
    "Frequencies",
    "LensReadout",
    "TokenText",
    "collision_shares",
    "frequencies",
    "gate_map",
    "lens_curve",
    "memory_ablation",
    "read_head",
    "require_gates",
    "require_logits",
    "require_memory",
    "token_gates",
    "token_losses",
    "token_texts",
]
