"""Silence what libraries print on their own: none of it belongs into a job's log.

Our own warnings are the reporter's and our errors the command line's; neither comes this way.
"""

from __future__ import annotations

import os
import sys
import warnings

_SETTINGS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # our own bars say what is going on
    "TRANSFORMERS_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # c10d warns, with a trace of C++, of a rank that is gone
}


def silence() -> None:
    """Silence libraries that are not loaded yet, unless the environment asks for their words.

    Python's warnings of what a library will change are for who calls it; all others are heard.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:  # -W or PYTHONWARNINGS
        warnings.simplefilter("ignore", FutureWarning)
