"""What every test shares: quiet libraries, few threads, no network, one finished run."""

import fcntl
import os
import signal
from pathlib import Path

import pytest
from command import CONFIG, start, unconnected

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, here and in what we start


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full``: the fault suite at the counts that docs/reliability.md states."""
    parser.addoption("--full", action="store_true", help="fault tests in full, for hours")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the fault tests run in full."""
    return bool(request.config.getoption("--full"))


REFUSE_SOCKETS = """
import socket

def refuse(*_):
    raise AssertionError("a connection was tried")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.toml and the run it gives, made once for all processes of the tests.

    It is made where connections are refused and Hugging Face is not told to be offline.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "finished"
    with (base / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "stderr.txt").is_file():
            _make_finished(folder)
    return folder


def _make_finished(folder: Path) -> None:
    (folder / "hook").mkdir(parents=True, exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(REFUSE_SOCKETS)
    (folder / "config.toml").write_text(CONFIG)
    process = start("run", "config.toml", cwd=folder, environment=unconnected(folder))
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    (folder / "stdout.txt").write_text(out)
    (folder / "stderr.txt").write_text(errors)
