"""A config that goes through every stage in seconds, and ways to run the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkstemp
from unittest.mock import patch

CONFIG = """
[run]
dir = "run"

[data]
documents = 100
samples = 64
per_document = 5
passage_length = 120
vocabulary = 400

[models.moe]
source = "train"
label = "MoE"

[models.engram]
source = "train"
label = "Engram [red]"
engram = { layers = [2], table_size = 64, d_mem = 32 }

[training]
steps = 3
batch_size = 2
sequence_length = 16
warmup_steps = 1
validation_sequences = 4

[[cka]]
name = "engram-vs-moe"
y = "moe"
x = "engram"
batch_size = 16

[[cka]]
name = "self"
y = "moe"
x = "moe"
batch_size = 16

[[lens]]
models = ["moe", "engram"]
memory_off = ["engram"]

[[gates]]
models = ["engram"]
passages = 16

[[sweep]]
name = "insertion-layer"
model = "engram"
layers = [1, 2]
"""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def engramcka(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "engramcka", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )


def here(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported everything already."""
    from engramcka.cli import main

    out, err, code = StringIO(), StringIO(), 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        chdir(cwd),
        patch.dict(os.environ, COLUMNS=ENVIRONMENT["COLUMNS"]),
        patch.object(sys, "argv", ["engramcka", *arguments]),
        patch("engramcka.stopping.end"),
        patch("engramcka.stopping.listen"),  # the signals of this process are pytest's
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            code = 1
            traceback.print_exc()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class Forked:
    """A process of the command that began with everything imported, so that its start costs little.

    It is as real as any: it has its own signals and dies of them. Used as `subprocess.Popen` is.
    """

    def __init__(self, *arguments: str, cwd: Path) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._files = [Path(mkstemp()[1]) for _ in range(2)]
        self._process = context.Process(target=_forked, args=(arguments, cwd, self._files))
        with patch.dict(os.environ, ENVIRONMENT):
            self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(f"not at its end after {timeout} s")
        out, errors = (file.read_text() for file in self._files)
        for file in self._files:
            file.unlink()
        return out, errors


PRELOADED = [
    "command",
    *(f"engramcka.{name}" for name in ("cli", "data", "extraction", "figures", "lens", "models")),
    *(f"engramcka.{name}" for name in ("pipeline", "similarity", "stores", "training", "tui")),
    "transformers.models.deepseek_v3.modeling_deepseek_v3",
    "transformers.trainer",
]


def _forked(arguments: tuple[str, ...], cwd: Path, files: list[Path]) -> None:
    from engramcka.__main__ import main

    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    os.environ.update(ENVIRONMENT)
    os.chdir(cwd)
    sys.argv = ["engramcka", *arguments]
    main()


def start(
    *arguments: str, cwd: Path, ranks: int = 1, environment: dict[str, str] = ENVIRONMENT
) -> subprocess.Popen[str]:
    """Start the command, under torchrun if there are several ranks, and leave it running."""
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [*launcher, "-m", "engramcka", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def importing(*folders: Path | str) -> dict[str, str]:
    """An environment in which modules of these folders are found first.

    What was to be imported stays so: another engramcka that is installed is none to compare with.
    """
    paths = [*map(str, folders), os.environ.get("PYTHONPATH", "")]
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def unconnected(folder: Path) -> dict[str, str]:
    """An environment in which every connection is refused, by the hook in this folder."""
    environment = importing(folder / "hook")
    environment.pop("HF_HUB_OFFLINE")
    return environment
