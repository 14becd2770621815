"""Libraries' words to developers are not heard in a run; all other warnings are."""

from __future__ import annotations

import os
import subprocess
import sys

WARN = """
import warnings
from engramcka.cli.run import silence_libraries
silence_libraries()
warnings.warn("`rope_scaling` is deprecated", FutureWarning)
warnings.warn("the driver is too old")
"""


def heard(*options: str) -> str:
    command = [sys.executable, *options, "-c", WARN]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return result.stderr


def test_what_a_library_will_change_is_not_said_unless_asked_for() -> None:
    assert "rope_scaling" not in heard()
    assert "the driver is too old" in heard()
    assert "rope_scaling" in heard("-W", "default")
