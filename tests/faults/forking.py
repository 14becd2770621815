"""A process with everything imported that forks the command for each line it is given.

What is loaded before libc (LD_PRELOAD) must be there at the start of a process: this is that start.
A line is JSON: [arguments, folder, more environment]; the answer is [exit code, output, errors].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import IO

from command import ENVIRONMENT, PRELOADED


def serve() -> None:
    for name in PRELOADED:
        import_module(name)
    print(json.dumps(None), flush=True)
    for line in sys.stdin:
        arguments, folder, environment = json.loads(line)
        print(json.dumps(fork(arguments, folder, environment)), flush=True)


def fork(arguments: list[str], folder: str, environment: dict[str, str]) -> list[object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        return _fork((out, errors), arguments, folder, environment)


def _fork(
    files: Sequence[IO[bytes]], arguments: list[str], folder: str, environment: dict[str, str]
) -> list[object]:
    pid = os.fork()
    if not pid:
        for number, file in enumerate(files, start=1):
            os.dup2(file.fileno(), number)
        os._exit(command(arguments, folder, environment))
    _, status = os.waitpid(pid, 0)
    told = []
    for file in files:
        file.seek(0)
        told.append(file.read().decode(errors="replace"))
    return [os.waitstatus_to_exitcode(status), *told]


def command(arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    from engramcka.__main__ import main

    os.chdir(folder)
    os.environ.update(ENVIRONMENT | environment)
    sys.argv = ["engramcka", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve()
