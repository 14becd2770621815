"""Which rank this process is, and where it meets the others: what torchrun or srun left behind.

The launcher says both in the environment. Under torchrun its agent holds the store that ranks meet
in; under srun the first rank does, on the first host of the step.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from engramcka import stopping
from engramcka.distributed import ALONE, PeerFailed, World
from engramcka.errors import ConfigError
from engramcka.plain_text import first_line

_POLL = 0.2  # seconds between two calls at the first rank's door
_COMING = 1800.0  # seconds that ranks may be apart in their start
_PATIENCE = 3.0  # seconds for one connection


def join_world() -> World:
    """Meet the other processes that torchrun or srun started with this one, if there are any.

    Raises:
        ConfigError: the environment names ranks but not where they meet.
        PeerFailed: they do not meet there.
        Interrupted: a signal came while waiting for the first rank.
    """
    rank, size, local_rank = rank_of(os.environ)
    if size == 1:
        return ALONE
    import torch

    if torch.cuda.is_available():
        local_rank %= torch.cuda.device_count()  # of those that this process sees
        torch.cuda.set_device(local_rank)
    try:
        world = World(rank, size, local_rank, _meeting_place(rank, size))
        world.hold_lifelines()
        return world
    except (RuntimeError, ValueError) as error:
        raise PeerFailed(
            f"rank {rank} cannot meet the others ({first_line(error)})", is_said=False
        ) from error


def rank_of(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """(rank, ranks, rank on this machine), as torchrun or a Slurm step of several tasks says."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # not set in a batch script itself
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    else:
        return 0, 1, 0
    rank, size, local_rank = (int(environment.get(name, "0")) for name in names)
    return rank, size, local_rank


def _meeting_place(rank: int, size: int) -> Any:
    """The store in which the ranks meet: torchrun's, or one that the first rank holds."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store, _, _ = next(rendezvous("env://", rank, size))
        return PrefixStore("engramcka", store)
    name = _set_address(size)
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank:
        _wait_for_host(host, port)
    store = TCPStore(host, port, size, rank == 0, wait_for_workers=False, multi_tenant=True)
    return PrefixStore(name, store)


def _wait_for_host(host: str, port: int) -> None:
    """Wait until the first rank holds its store; TCPStore itself hears no signal while it waits."""
    end = time.monotonic() + _COMING
    while True:
        stopping.check()
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
            return
        except socket.gaierror as error:
            raise ConfigError(f"MASTER_ADDR: found {host!r}, which is no host here") from error
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{host}:{port}: {error}") from error
            time.sleep(_POLL)


def _set_address(size: int) -> str:
    """Set where ranks meet, unless it is: under srun, the step's first host and a port of the step.

    Returns:
        A name for the ranks' words that no other step has, should its port be the same.
    """
    job, step = (int(os.environ.get(f"SLURM_{name}", "0")) for name in ("JOB_ID", "STEP_ID"))
    os.environ.setdefault("MASTER_PORT", str(20_000 + (job * 101 + step) % 12_000))
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = _first_host(size)
    return f"engramcka/{job}.{step}"


def _first_host(size: int) -> str:
    hosts = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    if hosts is None:
        raise ConfigError(
            f"{size} ranks, but MASTER_ADDR is not set; start them with torchrun or srun"
        )
    if any(mark in hosts for mark in "[,"):
        listed = subprocess.run(
            ["scontrol", "show", "hostnames", hosts], capture_output=True, text=True, check=True
        )
        hosts = listed.stdout.split()[0]
    return hosts
