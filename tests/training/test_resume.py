"""A training that was killed or stopped goes on and ends with the same bits."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from once import ENGRAM, train_once

from engramcka.errors import Interrupted, StoreError, TrainingError
from engramcka.models import build_model
from engramcka.stores import manifest
from engramcka.stores.verify import verify
from engramcka.training import TrainingRecord

MUON = {
    "steps": 8,
    "save_every": 5,
    "optimizer": "muon",
    "balancing": "loss-free",
    "balancing_rate": 0.01,
}


@pytest.fixture(scope="module")
def uninterrupted(tokenizer, tmp_path_factory) -> tuple[Path, TrainingRecord]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "trained"
    return folder, train_once(tokenizer, folder, ENGRAM, kept=(5,), **MUON)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("training.json", "manifest.json")
    }


def what_was_read(record: TrainingRecord) -> tuple[object, ...]:
    return record.training_loss, record.validation_losses, record.expert_imbalance


def kill_at(step: int, folder: Path) -> None:
    killed = subprocess.run(
        [sys.executable, Path(__file__).with_name("once.py"), folder, str(step), json.dumps(MUON)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not folder.exists()


def test_killed_between_two_states_it_ends_with_the_same_bits(
    tokenizer, uninterrupted, tmp_path: Path
) -> None:
    folder = tmp_path / "trained"
    kill_at(7, folder)  # the state is that after step 5
    steps: list[int] = []
    record = train_once(
        tokenizer, folder, ENGRAM, (5,), lambda step, info: steps.append(step), **MUON
    )
    assert steps == [5, 6, 7, 8]
    assert contents(folder) == contents(uninterrupted[0])
    assert what_was_read(record) == what_was_read(uninterrupted[1])
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


def interrupt_at(step: int):
    def on_step(done: int, info: str) -> None:
        if done == step:
            raise Interrupted("stopped by SIGTERM")

    return on_step


def test_a_signal_saves_the_state_of_that_very_step(tokenizer, tmp_path: Path) -> None:
    whole = train_once(tokenizer, tmp_path / "whole", steps=45)
    folder = tmp_path / "trained"
    for step in (3, 20, 44):  # 3 is between two readings of the loss
        with pytest.raises(Interrupted, match="SIGTERM"):
            train_once(tokenizer, folder, on_step=interrupt_at(step), steps=45)
        assert not folder.exists()
    steps: list[int] = []
    record = train_once(tokenizer, folder, on_step=lambda s, info: steps.append(s), steps=45)
    assert steps == [44, 45]
    assert contents(folder) == contents(tmp_path / "whole")
    assert what_was_read(record) == what_was_read(whole)


def test_a_state_of_other_inputs_or_without_a_kept_model_is_not_used(
    tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "trained"
    with pytest.raises(Interrupted):
        train_once(tokenizer, folder, on_step=interrupt_at(3), steps=5)
    steps: list[int] = []
    train_once(tokenizer, folder, None, (2,), lambda step, info: steps.append(step), steps=5)
    assert steps == [1, 2, 3, 4, 5]
    assert (folder / "step-000002/model.safetensors").is_file()


@pytest.fixture(scope="module")
def stopped(tokenizer, tmp_path_factory) -> Path:
    """The work folder of a training stopped after step 2 of 4."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted):
        train_once(tokenizer, folder / "trained", on_step=interrupt_at(2), steps=4)
    return folder / ".trained.training"


class _Bomb:
    """Unpickled with trust, it leaves a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    tokenizer, stopped: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(stopped, tmp_path / stopped.name)
    trace = tmp_path / "trace"
    state = tmp_path / stopped.name / "state"
    (state / name).write_bytes(pickle.dumps(_Bomb(trace)))
    manifest.finalize(state)
    with pytest.raises(StoreError, match=r"cannot be read .* delete .* to train from the start"):
        train_once(tokenizer, tmp_path / "trained", steps=4)
    assert not trace.exists()
    assert (state / name).is_file()  # what is refused is kept


def spoil(name: str, text: str | None):
    def change(state: Path) -> None:
        if text is None:
            (state / name).unlink()
        else:
            (state / name).write_text(text)

    return change


@pytest.mark.parametrize(
    "change",
    [
        spoil("model.safetensors", "no"),
        spoil("progress.json", "{}"),
        spoil("progress.json", '{"inputs": {"seed": 0}, "progress": {"step": "x"}}'),
        spoil("progress.json", None),
        spoil("optimizer.pt", None),
        spoil("trainer_state.json", None),
        spoil("pytorch_model.bin", "another's"),
    ],
)
def test_a_broken_state_is_one_line(tokenizer, stopped: Path, tmp_path: Path, change) -> None:
    shutil.copytree(stopped, tmp_path / stopped.name)
    change(tmp_path / stopped.name / "state")
    manifest.finalize(tmp_path / stopped.name / "state")  # by a stranger
    with pytest.raises(StoreError) as error:
        train_once(tokenizer, tmp_path / "trained", steps=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "progress.json"])
def test_a_flipped_bit_in_a_state_is_named(
    tokenizer, stopped: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / stopped.name / "state" / name
    shutil.copytree(stopped, tmp_path / stopped.name)
    content = bytearray(path.read_bytes())
    content[-40] ^= 1  # a weight, or a digit
    path.write_bytes(content)
    (checked,) = verify(tmp_path / stopped.name / "state")
    assert len(checked.broken) == 1
    assert f"{path}: cannot be read" in checked.broken[0]
    with pytest.raises(StoreError, match=r"cannot be read .* delete .* to train from the start"):
        train_once(tokenizer, tmp_path / "trained", steps=4)


def test_a_damaged_state_is_not_taken_for_that_of_another_config(
    tokenizer, stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / stopped.name)
    path = tmp_path / stopped.name / "state/progress.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed"', b'"seee"', 1))
    assert path.read_bytes() != content
    with pytest.raises(StoreError, match=r"cannot be read .* delete .* to train from the start"):
        train_once(tokenizer, tmp_path / "trained", steps=4)
    assert path.is_file()


@pytest.mark.parametrize("name", ["state", "step-000002"])
def test_a_state_that_is_a_link_or_has_no_manifest_is_named(
    stopped: Path, tmp_path: Path, name: str
) -> None:
    work = tmp_path / "run/checkpoints" / stopped.name
    shutil.copytree(stopped, work)
    (tmp_path / "run/activations").mkdir()
    shutil.copytree(work / "state", tmp_path / "outside")
    shutil.rmtree(work / name, ignore_errors=True)
    (work / name).symlink_to(tmp_path / "outside")
    named = [line for checked in verify(tmp_path / "run") for line in checked.broken]
    assert [line for line in named if f"{work / name}: cannot be read" in line]
    (work / name).unlink()
    shutil.copytree(tmp_path / "outside", work / name)
    (work / name / "manifest.json").unlink()
    named = [line for checked in verify(tmp_path / "run") for line in checked.broken]
    assert [line for line in named if f"{work / name}" in line]


def test_a_loss_that_is_no_number_keeps_the_state_before(tokenizer, tmp_path: Path) -> None:
    model = build_model("moe-tiny", None, tokenizer, seed=0)

    def spoil_weights(step: int, info: str) -> None:
        if step == 5:
            model.get_input_embeddings().weight.data[7] = math.nan

    options = {"steps": 8, "save_every": 2}
    with pytest.raises(TrainingError, match=r"loss is nan at step 6; the last state .* is kept in"):
        train_once(tokenizer, tmp_path / "trained", on_step=spoil_weights, model=model, **options)
    assert not (tmp_path / "trained").exists()
    steps: list[int] = []
    record = train_once(
        tokenizer, tmp_path / "trained", on_step=lambda s, info: steps.append(s), **options
    )
    assert steps == [4, 5, 6, 7, 8]
    assert record.training_loss == train_once(tokenizer, tmp_path / "b", **options).training_loss


def test_weights_that_are_no_numbers_are_never_saved(tokenizer, tmp_path: Path) -> None:
    model = build_model("moe-tiny", None, tokenizer, seed=0)

    def spoil_last(step: int, info: str) -> None:
        if step == 1:
            model.model.layers[1].mlp.gate.weight.data[:] = math.inf
            raise Interrupted("stopped by SIGTERM")

    with pytest.raises(TrainingError, match="weights are not all numbers after step 1; nothing"):
        train_once(tokenizer, tmp_path / "trained", on_step=spoil_last, model=model, steps=4)
    assert list(tmp_path.iterdir()) == []
