"""Ranks: which of several processes this is, whose work is whose, and how they hear of each other.

torchrun and srun say it in the environment; the key-value store of torch.distributed carries the
messages, as `engramcka.serialization` packs them: nothing that arrives is executed. One process
alone needs neither and loads no torch.

Every rank goes through the same tasks in the same order and meets the others after each. At its
end a rank takes leave, with what it failed with if it did, so that no one waits for it; the first
rank, which may hold the store, leaves last. There is no process group: each rank trains and
extracts by itself, and libraries must not take it for a part of theirs. Only where all ranks train
one model together (`World.torch_distributed_env`) does a library make one, and while they hold one
model as one (`World.as_one`) there is ours.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from engramcka import stopping
from engramcka.errors import ConfigError, EngramckaError, Interrupted
from engramcka.lifeline import Lifelines
from engramcka.plain_text import first_line
from engramcka.serialization import pack, unpack

T = TypeVar("T")

_POLL = 0.2  # seconds between two looks of a rank that waits
_STEP_POLL = 0.005  # between two steps of work that ranks do as one: they are hardly apart
_LOADING = timedelta(hours=2)  # that ranks may be apart in reading a large model
_PATIENCE = 3.0  # seconds that a rank that failed waits for the others to hear of it
_SAVING = 20.0  # that one that a signal stopped waits for the others to save their states
_FAILED = "failed"  # where the first rank to fail puts its words
_RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


class PeerFailed(EngramckaError):
    """Another rank failed; ``is_said`` is whether a message of its own says how."""

    def __init__(self, message: str, *, exit_code: int = 1, is_said: bool = True) -> None:
        super().__init__(message, exit_code=exit_code)
        self.is_said = is_said


def _nothing(values: list[Any]) -> None:
    """Decide nothing: the ranks only wait for each other."""


class World:
    """The processes of one run, all alike; ``World()`` is one process alone."""

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, store: Any = None
    ) -> None:
        self.rank, self.size = rank, size
        self.local_rank = local_rank  # on this machine: which GPU is ours
        self._store = store
        self._meetings = 0  # that this rank has been through
        self._groups = 0  # process groups that there were
        self._lifelines = Lifelines()

    def hold_lifelines(self) -> None:
        """From now on the first rank and each other notice that one is gone; all ranks call it.

        Raises as `meet` does.
        """
        if self.first:
            self._lifelines = Lifelines.of_first()
        port = self.meet(self._lifelines.port, lambda said: said[0])
        if not self.first:
            self._lifelines = Lifelines.to_first(os.environ["MASTER_ADDR"], port, self.rank)

    @property
    def first(self) -> bool:
        """Whether this is the rank that talks and writes what is written once."""
        return self.rank == 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This rank's part of a sequence: every size-th, so that parts differ by one at most."""
        return things[self.rank :: self.size]

    def meet(self, value: Any = None, decide: Callable[[list[Any]], Any] = _nothing) -> Any:
        """Wait for every rank; the first decides from all values, by rank, and all get its answer.

        Messages grow with the number of ranks, not with its square. All ranks call it.

        Args:
            value: this rank's; what `engramcka.serialization` can send.
            decide: takes the values, returns another; the first rank's alone is called.

        Raises:
            PeerFailed: a rank called `fail` instead, or is gone.
            Interrupted: a signal came while waiting.
        """
        if self.size == 1:
            return decide([value])

        def answer(said: list[bytes]) -> bytes:
            return pack(decide([unpack(words) for words in said]))

        return unpack(self._meet(pack(value), answer))

    def step(self) -> None:
        """Meet before a step that no rank can do without the others, such as a pass through a model
        that they hold as one.

        A signal is not heard while waiting here, but after the step, or one rank could leave when
        the others have been told to go on. Raises as `meet` does.
        """
        if self.size > 1:
            self._meet(pack(None), lambda said: pack(None), is_step=True)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on all of them; raises as `meet`."""
        found: list[Any] = self.meet(value, lambda by_rank: by_rank)
        return found

    def leave(self) -> None:
        """Take leave of the other ranks, all being done; the first rank waits for their leave.

        After the last meeting a store that is gone is no failure.
        """
        if self.size == 1:
            return
        from torch import distributed as dist

        if dist.is_initialized():  # a training of all ranks has left its process group
            dist.destroy_process_group()
        with suppress(RuntimeError):
            self._store.set(f"left/{self.rank}", "")
            if self.first:
                self._wait_for_leave(_SAVING)

    def fail(self, error: BaseException) -> BaseException:
        """Take leave of the other ranks with what this one failed with.

        It gives them a moment to hear it, and a longer one to save their states if a signal stopped
        them all: when one rank ends, its launcher ends the others.

        Returns:
            What this rank ends with: the error, or a `PeerFailed` where it need not be said since
            a lower rank says the same, or where the signal came because another rank had failed.
        """
        if self.size == 1:
            return error
        try:
            before = self._failure()
            if before and isinstance(error, Interrupted):
                error = before
            code = error.exit_code if isinstance(error, EngramckaError) else 1
            words = str(error) or type(error).__name__
            if not before:
                self._store.set(_FAILED, pack([f"rank {self.rank}: {words}", code]))
            self._store.set(f"left/{self.rank}", words)
            self._wait_for_leave(_SAVING if code == Interrupted.exit_code else _PATIENCE)
            if any(self._last_words(rank) == words for rank in range(self.rank)):
                return PeerFailed(words, exit_code=code)
        except RuntimeError as gone:
            if isinstance(error, Interrupted):  # sent because the first rank had ended
                return self._lost(gone)
        return error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hide the other ranks from libraries that read the environment, for work of our own."""
        hidden = {name: os.environ.pop(name) for name in _RANK_VARIABLES if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)

    @contextmanager
    def torch_distributed_env(self) -> Iterator[None]:
        """Show the other ranks to libraries that read the environment, as torchrun does; srun not.

        For work that all ranks do in step. The process group that the libraries make stays.
        """
        shown = (self.rank, self.size, self.local_rank)
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(zip(names, map(str, shown), strict=True) if self.size > 1 else ())
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @contextmanager
    def as_one(self, device: str) -> Iterator[None]:
        """A process group of all ranks, while they hold one model as one: gloo, or NCCL on GPUs.

        One that a training of all ranks has left is used and stays.

        Args:
            device: "cpu" or "cuda".

        Raises:
            ConfigError: two ranks have one GPU.
            PeerFailed: another rank failed or is gone.
        """
        import torch
        from torch import distributed as dist
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        gpu = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else None
        if gpu is not None:
            self.require_own_gpus([str(torch.cuda.get_device_properties(gpu).uuid)])
        is_ours = not dist.is_initialized()
        with self.torch_distributed_env():
            if is_ours:
                self._groups += 1
                dist.init_process_group(
                    "gloo" if gpu is None else "nccl",
                    store=PrefixStore(f"group{self._groups}", self._store),
                    rank=self.rank,
                    world_size=self.size,
                    timeout=_LOADING,
                    device_id=gpu,
                )
            try:
                yield
            except RuntimeError as error:
                if isinstance(error, dist.DistError) or "gloo" in str(error):
                    raise self._lost(error) from error
                raise
        if is_ours:  # after an error the process ends: taking NCCL down would wait for the others
            dist.destroy_process_group()

    def require_own_gpus(self, gpus: list[str]) -> None:
        """Refuse ranks that would put parts of a model on the same GPU; all of them call this.

        Args:
            gpus: identities of those that this rank will use.

        Raises:
            ConfigError: two ranks named the same.
        """
        owner: dict[tuple[str, str], int] = {}
        for rank, (host, used) in enumerate(self.gather((socket.gethostname(), gpus))):
            for gpu in used:
                other = owner.setdefault((host, gpu), rank)
                if other != rank:
                    raise ConfigError(
                        f"ranks {other} and {rank} would put parts of a model on one GPU of "
                        f"{host}; give each its own (CUDA_VISIBLE_DEVICES), or start fewer"
                    )

    def _wait_for_leave(self, seconds: float) -> None:
        """Wait until all ranks have taken leave, or so long."""
        end = time.monotonic() + seconds
        ranks = [f"left/{rank}" for rank in range(self.size)]
        while not self._store.check(ranks) and time.monotonic() < end:
            self._note_the_gone()
            time.sleep(_STEP_POLL)

    def _note_the_gone(self) -> list[int]:
        """Take leave for ranks that are gone and have not done it; returns those."""
        gone = [rank for rank in self._lifelines.cut() if not self._store.check([f"left/{rank}"])]
        for rank in gone:
            self._store.set(f"left/{rank}", "is gone")
        return gone

    def _last_words(self, rank: int) -> str | None:
        """What a rank that has taken leave failed with; "" if it had done all."""
        key = f"left/{rank}"
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _failure(self) -> PeerFailed | None:
        """What the first rank to fail said, or that one is gone, if one did or is."""
        gone = self._note_the_gone()
        if not self._store.check([_FAILED]):
            if not gone:
                return None
            words = f"rank {gone[0]} is gone"
            self._store.set(_FAILED, pack([words, 1]))
            return PeerFailed(words, is_said=False)
        words, code = unpack(self._store.get(_FAILED))
        return PeerFailed(words, exit_code=int(code))

    def _lost(self, error: RuntimeError) -> PeerFailed:
        """What another rank failed with, if it says so within a few seconds.

        If none does, the first two say that one is lost: one of them is there.
        """
        end = time.monotonic() + _PATIENCE
        with suppress(RuntimeError):  # the store's host is gone
            while time.monotonic() < end:
                if failure := self._failure():
                    return failure
                time.sleep(_POLL)
        return PeerFailed(
            f"lost contact with another rank ({first_line(error)})", is_said=self.rank > 1
        )

    def _meet(
        self, content: bytes, answer: Callable[[list[bytes]], bytes], is_step: bool = False
    ) -> bytes:
        number = self._meetings
        try:
            self._store.set(f"{number}/{self.rank}", content)
            if self.first:
                said = [self._hear(f"{number}/{rank}", is_step) for rank in range(self.size)]
                self._store.set(f"{number}/answer", answer(said))
            found = self._hear(f"{number}/answer", is_step)
            self._meetings += 1
            self._store.delete_key(f"{number}/{self.rank}")
            if self.first and number:  # all ranks spoke in this one, so all have read that answer
                self._store.delete_key(f"{number - 1}/answer")
            return found
        except RuntimeError as error:
            raise self._lost(error) from error

    def _hear(self, key: str, is_step: bool) -> bytes:
        wait = 0.001
        while not self._store.check([key]):
            if failure := self._failure():
                raise failure
            if not is_step:
                stopping.check()
            time.sleep(wait)
            wait = min(2 * wait, _STEP_POLL if is_step else _POLL)
        words: bytes = self._store.get(key)
        return words


ALONE = World()
