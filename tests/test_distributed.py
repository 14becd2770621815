"""Ranks meet, share and fail together; one process alone needs none of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engramcka import distributed, launch
from engramcka.distributed import ALONE, PeerFailed, World
from engramcka.errors import ComparisonError, ConfigError, Interrupted
from engramcka.stores import layout


class Store(dict[str, bytes]):
    """torch.distributed's key-value store, in one process."""

    def set(self, key: str, value: bytes | str) -> None:
        self[key] = value.encode() if isinstance(value, str) else value

    get = dict.__getitem__  # type: ignore[assignment]
    delete_key = dict.__delitem__

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


class Gone:
    """A store whose host has left."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("Connection was likely closed")


def on_ranks(size: int, work: Callable[[World], Any]) -> tuple[list[Any], Store]:
    """What the work gives, or raises, on every rank."""
    store, found = Store(), [None] * size

    def run(rank: int) -> None:
        world = World(rank, size, rank, store)
        try:
            found[rank] = work(world)
            world.leave()
        except Exception as error:
            found[rank] = world.fail(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return found, store


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_get_what_the_first_decides_from_all_values(size: int) -> None:
    def work(world: World) -> list[Any]:
        return [world.meet(world.rank + turn, lambda values: values) for turn in range(4)]

    found, store = on_ranks(size, work)
    assert found == [[[rank + turn for rank in range(size)] for turn in range(4)]] * size
    assert len([key for key in store if not key.startswith("left/")]) <= 1  # nothing piles up


def test_all_get_every_ranks_value_bit_for_bit() -> None:
    found, _ = on_ranks(3, lambda world: world.gather((world.rank, np.array([np.pi, np.nan]))))
    for by_rank in found:
        assert [rank for rank, _ in by_rank] == [0, 1, 2]
        assert all(np.array_equal(a, [np.pi, np.nan], equal_nan=True) for _, a in by_rank)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_rank_that_fails_ends_the_others_with_its_words_and_exit_code(failing: int) -> None:
    def work(world: World) -> None:
        world.meet()
        if world.rank == failing:
            raise ComparisonError("layer 3 is not there", exit_code=2)
        world.meet()

    found, _ = on_ranks(3, work)
    for rank, error in enumerate(found):
        if rank == failing:
            assert isinstance(error, ComparisonError)
        else:
            assert isinstance(error, PeerFailed)
            assert str(error) == f"rank {failing}: layer 3 is not there"
            assert error.exit_code == 2


def test_shares_are_disjoint_and_even() -> None:
    things = list(range(11))
    shares = [World(rank, 4).share(things) for rank in range(4)]
    assert sorted(thing for share in shares for thing in share) == things
    assert {len(share) for share in shares} == {2, 3}


def test_ranks_that_use_one_gpu_are_refused() -> None:
    own = [["a", "b"], ["c"]]
    found, _ = on_ranks(2, lambda world: world.require_own_gpus(own[world.rank]))
    assert found == [None, None]
    own[1] = ["c", "b"]
    found, _ = on_ranks(2, lambda world: world.require_own_gpus(own[world.rank]))
    assert isinstance(found[0], ConfigError)
    assert isinstance(found[1], PeerFailed)  # the first says it
    for error in found:
        assert error.exit_code == 2
        assert "ranks 0 and 1 would put parts of a model on one GPU" in str(error)


def test_a_signal_is_heard_between_steps_and_not_while_waiting_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise Interrupted("stopped by SIGUSR1")

    def late(world: World, meet: Callable[[World], Any]) -> None:
        world.step()
        if world.rank == 1:
            time.sleep(0.1)
        meet(world)

    monkeypatch.setattr(distributed.stopping, "check", interrupted)
    found, _ = on_ranks(2, lambda world: late(world, World.step))
    assert found == [None, None]
    found, _ = on_ranks(2, lambda world: late(world, World.meet))
    assert isinstance(found[0], Interrupted)
    assert isinstance(found[1], PeerFailed | Interrupted)
    assert found[1].exit_code == 75


def chunks(samples: int) -> list[int]:
    """Samples of each chunk of a store at width 2,560 in 16 bits."""
    size, _ = layout.chunk_samples(samples, 2 * 2560)
    return [min(size, samples - start) for start in range(0, samples, size)]


@pytest.mark.parametrize("samples", [8192, 10_000, 16_384, 20_000, 40_000, 65_536, 1_000_000])
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_two_four_and_eight_ranks_have_as_much_to_do(samples: int, ranks: int) -> None:
    loads = [sum(World(rank, ranks).share(chunks(samples))) for rank in range(ranks)]
    assert max(loads) <= 1.05 * samples / ranks
    assert 1024 <= chunks(samples)[0] <= 4096


@pytest.mark.parametrize("samples", [4096, 10_000, 16_384, 65_536, 1_000_000])
@pytest.mark.parametrize("ranks", range(1, 9))
def test_ranks_differ_by_a_chunk_of_samples_at_most(samples: int, ranks: int) -> None:
    loads = [sum(World(rank, ranks).share(chunks(samples))) for rank in range(ranks)]
    assert sum(loads) == samples
    assert max(loads) - min(loads) <= max(chunks(samples))
    if len(chunks(samples)) >= 20 * ranks:
        assert max(loads) < 1.05 * samples / ranks


@pytest.mark.parametrize(("ranks", "over"), [(2, 1), (3, 1.125), (4, 1), (5, 1.25), (8, 1)])
def test_the_busiest_of_few_ranks_has_what_the_docs_say(ranks: int, over: float) -> None:
    loads = [sum(World(rank, ranks).share(chunks(16_384))) for rank in range(ranks)]
    assert max(loads) == pytest.approx(over * 16_384 / ranks)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}, (5, 8, 1)),
        # In a batch script itself, outside srun, tasks are asked for but this is not one of them.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1, 0)),
    ],
)
def test_the_environment_says_which_rank_this_is(
    environment: dict[str, str], place: tuple[int, int, int]
) -> None:
    assert launch.rank_of(environment) == place


def test_other_ranks_can_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("RANK", "1")
    with ALONE.alone():
        assert "RANK" not in os.environ
    assert os.environ["RANK"] == "1"


def test_other_ranks_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("LOCAL_RANK", "7")
    with distributed.World(3, 4, 1, store=None).torch_distributed_env():
        shown = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    assert shown == ["3", "4", "1"]
    assert os.environ["LOCAL_RANK"] == "7"
    assert "RANK" not in os.environ


def test_what_ranks_fail_with_in_the_same_words_is_said_by_the_lowest() -> None:
    def work(world: World) -> None:
        world.meet()
        if world.rank:
            raise ComparisonError("no such layer")

    found, _ = on_ranks(3, work)
    assert [type(error) for error in found] == [type(None), ComparisonError, PeerFailed]

    def own(world: World) -> None:
        raise ComparisonError(f"only rank {world.rank}'s")

    found, _ = on_ranks(2, own)
    assert [type(error) for error in found] == [ComparisonError, ComparisonError]


def test_the_first_rank_leaves_last() -> None:
    def work(world: World) -> bool:
        time.sleep(0.1 * world.rank)
        world.leave()
        return world._store.check([f"left/{rank}" for rank in range(3)])

    found, _ = on_ranks(3, work)
    assert found[0]


def test_a_store_that_is_gone_after_the_last_meeting_is_no_failure() -> None:
    World(1, 2, 0, Gone()).leave()


def test_a_signal_sent_because_another_rank_failed_ends_with_that_ranks_exit_code() -> None:
    def work(world: World) -> None:
        if world.rank == 0:
            raise ComparisonError("layer 3 is not there")
        time.sleep(0.2)
        raise Interrupted("stopped by SIGTERM")  # the launcher's

    found, _ = on_ranks(2, work)
    assert isinstance(found[1], PeerFailed)
    assert (str(found[1]), found[1].exit_code) == ("rank 0: layer 3 is not there", 1)
    ending = World(1, 2, 0, Gone()).fail(Interrupted("stopped by SIGTERM"))  # rank 0 held the store
    assert isinstance(ending, PeerFailed)
    assert ending.exit_code == 1
