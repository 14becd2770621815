"""Processes notice once that another is gone, and strangers at the door are no harm."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

from engramcka.lifeline import Lifelines

HOLD = """
import sys, time
from engramcka.lifeline import Lifelines
lines = Lifelines.to_first("127.0.0.1", int(sys.argv[1]), 7)
print("held", flush=True)
time.sleep(60)
"""


def close(lines: Lifelines) -> None:
    assert lines._door
    lines._door.close()


def test_a_killed_process_is_noticed_once() -> None:
    lines = Lifelines.of_first()
    arguments = [sys.executable, "-c", HOLD, str(lines.port)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stays = Lifelines.to_first("127.0.0.1", lines.port or 0, 3)
        assert lines.cut() == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.05)
    assert lines.cut() == [7]
    assert lines.cut() == []
    assert stays.cut() == []
    close(lines)
    lines._ends.pop(3).close()
    assert stays.cut() == [0]


def test_strangers_and_a_closed_door_are_no_harm() -> None:
    lines = Lifelines.of_first()
    socket.create_connection(("127.0.0.1", lines.port)).close()
    assert lines.cut() == []
    port = lines.port or 0
    close(lines)
    assert Lifelines.to_first("127.0.0.1", port, 1).cut() == []
