"""What libraries say on their own account, which has no place in a job's log.

Knows nothing of the work. Our own warnings and errors are the reporter's and the command line's.
"""

from __future__ import annotations

import os

_SILENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # our own bars say what is going on
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # c10d warns, with a C++ trace, of a rank that is gone
}


def silence() -> None:
    """Silence the libraries, unless the environment asks for their words; before they are loaded."""
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
