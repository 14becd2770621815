"""A config as tasks: what is done, what is left, and doing it.

Making a plan loads neither torch nor transformers; working it off does.
"""

from engramcka.pipeline.findings import Finding, findings
from engramcka.pipeline.plan import make_plan
from engramcka.pipeline.runner import Outcome, run_config
from engramcka.pipeline.tasks import STAGES, Stage, Task

__all__ = [
    "STAGES",
    "Finding",
    "Outcome",
    "Stage",
    "Task",
    "findings",
    "make_plan",
    "run_config",
]
