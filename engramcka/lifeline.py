"""Connections between the first of several processes and the others: each notices a dead end.

The kernel closes what a dead process held, so there is nothing to send and no thread. Where no
connection can be made, nothing is noticed, and the launcher has to end the others.
"""

from __future__ import annotations

import socket
from contextlib import suppress

_PATIENCE = 3.0  # seconds for a connection
_NUMBER = 4  # bytes of a rank's number
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # for a machine that died


class Lifelines:
    """This process's ends, each to another rank."""

    def __init__(self, door: socket.socket | None = None) -> None:
        self._door = door  # where the others call, if this is the first
        self._ends: dict[int, socket.socket] = {}

    @classmethod
    def of_first(cls) -> Lifelines:
        """The first rank's, which the others call at ``port``."""
        door = socket.create_server(("", 0), backlog=4096)
        door.setblocking(False)
        return cls(door)

    @classmethod
    def to_first(cls, host: str, port: int, rank: int) -> Lifelines:
        """Those of another rank, one or none, if none can be had."""
        lines = cls()
        with suppress(OSError):
            end = socket.create_connection((host, port), timeout=_PATIENCE)
            end.sendall(rank.to_bytes(_NUMBER))
            lines._keep(0, end)
        return lines

    @property
    def port(self) -> int | None:
        """Where the others call, if this is the first rank's."""
        return int(self._door.getsockname()[1]) if self._door else None

    def cut(self) -> list[int]:
        """The ranks that were connected and are gone; each is reported once."""
        with suppress(OSError):  # none calls
            while self._door:
                self._take(self._door.accept()[0])
        gone = [rank for rank, end in self._ends.items() if _is_closed(end)]
        for rank in gone:
            self._ends.pop(rank).close()
        return gone

    def _take(self, end: socket.socket) -> None:
        end.settimeout(_PATIENCE)
        with suppress(OSError):
            number = end.recv(_NUMBER, socket.MSG_WAITALL)
            if len(number) == _NUMBER and int.from_bytes(number) not in self._ends:
                self._keep(int.from_bytes(number), end)
                return
        end.close()

    def _keep(self, rank: int, end: socket.socket) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._ends[rank] = end


def _is_closed(end: socket.socket) -> bool:
    try:
        return not end.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
