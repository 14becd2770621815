"""A Slurm of two nodes on this machine, started for tests in a folder and ended with them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from command import ENVIRONMENT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
NODES = ("127.0.0.1", "127.0.0.2")  # names that every machine can look up
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=15
MpiDefault=none
JobRequeue=1
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why there can be no Slurm here."""
    if missing := [name for name in PROGRAMS if not _program(name)]:
        return f"Slurm is not installed (no {', '.join(missing)})"
    return None if os.geteuid() == 0 else "only root may start Slurm as it is configured here"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


class Slurm:
    """What a person does at the terminal of a cluster."""

    def __init__(self, folder: Path) -> None:
        bin_first = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        conf = str(folder / "slurm.conf")
        self.environment = {**ENVIRONMENT, "PATH": bin_first, "SLURM_CONF": conf}

    def do(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def submit(self, script: Path, *arguments: str, cwd: Path, options: str) -> str:
        """The number of a job; what it says goes to NUMBER.out and NUMBER.err."""
        files = ("--output=%A.out", "--error=%A.err")
        result = self.do(
            "sbatch", "--parsable", *files, *options.split(), str(script), *arguments, cwd=cwd
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, ExitCode, Restarts, .."""
        words = self.do("scontrol", "--oneliner", "show", "job", number).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job is in one of these states, or has ended.

        One that was queued again begins at once, not after the two minutes that Slurm would wait.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.job(number)
            if job["JobState"] in (states or ENDED):
                return job
            if job["Reason"] == "BeginTime":
                self.do("scontrol", "update", f"JobId={number}", "StartTime=now")
            time.sleep(0.2)
        raise TimeoutError(f"not {states or 'at its end'} after {seconds} s: {job}")


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """The cluster, up; its log files are in the folder."""
    cluster = Slurm(folder)
    host = socket.gethostname().partition(".")[0]
    text = CONF.format(folder=folder, host=host, ports=_free_ports(3), nodes=NODES)
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    munge = [f"--{what}-file={folder}/munge.{what}" for what in ("log", "pid", "seed")]
    munge += [f"--key-file={folder}/key", f"--socket={folder}/munge.socket", "--force"]
    daemons = [["munged", "--foreground", *munge], ["slurmctld", "-D"]]
    daemons += [["slurmd", "-D", "-N", node] for node in NODES]
    with ExitStack() as stack:
        for name, *arguments in daemons:
            stack.enter_context(_daemon(_program(name) or name, *arguments, cluster=cluster))
            if name == "munged":
                _wait_for((folder / "munge.socket").exists)
        _wait_for(lambda: cluster.do("sinfo", "-h", "-t", "idle", "-o", "%D").stdout == "2\n")
        try:
            yield cluster
        finally:
            cluster.do("scancel", "--state=pending", "--user=root")
            cluster.do("scancel", "--signal=KILL", "--full", "--user=root")
            with suppress(TimeoutError):
                _wait_for(lambda: not cluster.do("squeue", "-h").stdout)


@contextmanager
def _daemon(*command: str, cluster: Slurm) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _wait_for(is_so: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError("the cluster is not up; its folder has log files")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for it in sockets:
        it.bind(("127.0.0.1", 0))
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports
