"""A config as pieces of work: what is done, what is left, and doing it.

Making a plan loads neither torch nor transformers; working it off does.
"""

from engramcka.pipeline.findings import Finding, findings
from engramcka.pipeline.pieces import STAGES, Piece, Stage
from engramcka.pipeline.plan import make_plan
from engramcka.pipeline.runner import Outcome, run_config

__all__ = [
    "STAGES",
    "Finding",
    "Outcome",
    "Piece",
    "Stage",
    "findings",
    "make_plan",
    "run_config",
]
