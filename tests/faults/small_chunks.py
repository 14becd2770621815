"""The command with small chunks of samples, killed after so many of them have been written.

torchrun small_chunks.py KILL_AFTER ARGUMENTS..: 0 is never.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from engramcka.cli import main
from engramcka.stores import ActivationStore, layout

layout.CHUNK_SAMPLES = 16

kill_after = int(sys.argv.pop(1))
write, written = ActivationStore.write, 0


def write_and_count(self: ActivationStore, *arguments: Any) -> None:
    global written
    write(self, *arguments)
    written += 1
    if written == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)


ActivationStore.write = write_and_count  # type: ignore[method-assign]
main()
