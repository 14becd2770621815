"""Connections by which the first of several processes notices that another is gone.

The kernel closes what a dead process held, so there is nothing to send and no thread. Where no
connection can be made, nothing is noticed, and the launcher has to end the others. Knows nothing of
the work.
"""

from __future__ import annotations

import socket
from contextlib import suppress

_PATIENCE = 3.0  # seconds for a connection
_NUMBER = 4  # bytes of a rank's number
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # for a machine that died


class Lifelines:
    """The first rank's ends; ``port`` is where the others call."""

    def __init__(self) -> None:
        self._door = socket.create_server(("", 0), backlog=4096)
        self._door.setblocking(False)
        self._ends: dict[int, socket.socket] = {}
        self.port = int(self._door.getsockname()[1])

    def cut(self) -> list[int]:
        """The ranks that were there and are gone; each is told once."""
        with suppress(BlockingIOError):
            while True:
                self._take(self._door.accept()[0])
        gone = [rank for rank, end in self._ends.items() if _is_closed(end)]
        for rank in gone:
            self._ends.pop(rank).close()
        return gone

    def _take(self, end: socket.socket) -> None:
        end.settimeout(_PATIENCE)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        with suppress(OSError):
            number = end.recv(_NUMBER, socket.MSG_WAITALL)
            if len(number) == _NUMBER:
                end.setblocking(False)
                self._ends.setdefault(int.from_bytes(number), end)
                return
        end.close()


def _is_closed(end: socket.socket) -> bool:
    try:
        return not end.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def hold(host: str, port: int, rank: int) -> socket.socket | None:
    """Another rank's end, to be kept until the process ends; None if none can be had."""
    try:
        end = socket.create_connection((host, port), timeout=_PATIENCE)
        end.sendall(rank.to_bytes(_NUMBER))
        return end
    except OSError:
        return None
