"""The first process notices that another is gone, once, and strangers at the door are no harm."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

from engramcka.lifeline import Lifelines, hold

HOLD = """
import sys, time
from engramcka.lifeline import hold
end = hold("127.0.0.1", int(sys.argv[1]), 7)
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_is_noticed_once() -> None:
    lines = Lifelines()
    arguments = [sys.executable, "-c", HOLD, str(lines.port)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stays = hold("127.0.0.1", lines.port, 3)
        assert stays is not None
        assert lines.cut() == []
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.05)
    assert lines.cut() == [7]
    assert lines.cut() == []
    stays.close()


def test_strangers_and_a_closed_door_are_no_harm() -> None:
    lines = Lifelines()
    socket.create_connection(("127.0.0.1", lines.port)).close()
    assert lines.cut() == []
    port = lines.port
    lines._door.close()
    assert hold("127.0.0.1", port, 1) is None
