"""Tables in host memory: gradients by rows, and the training of dense gradients to the bit."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from live_memory import LiveMemory
from once import ENGRAM, sequences, train_once
from test_data_parallel import torchrun
from test_resume import contents, interrupt_at
from torch import Tensor, nn

from engramcka.config import EngramConfig
from engramcka.errors import Interrupted
from engramcka.models import build_model
from engramcka.training.table_rows import (
    BLOCK,
    TableAdamW,
    blocks,
    gradients_to_clip,
    is_finite,
)

CPU = torch.device("cpu")
TABLE = "engrams.2.memory.weight"
ON_HOST = {"host_memory": True}


def memory(**changes: Any) -> EngramConfig:
    return ENGRAM.model_copy(update=changes)


def pair(tokenizer: Any, **changes: Any) -> list[Any]:
    """A model whose table has a dense gradient, and the same one with a gradient by rows."""
    engrams = memory(**changes), memory(**changes, **ON_HOST)
    return [build_model("moe-tiny", engram, tokenizer, seed=0) for engram in engrams]


def test_the_gradient_is_that_of_the_rows_looked_up(tokenizer) -> None:
    grads, seen = [], set()
    for model in pair(tokenizer, table_size=2003):
        table = model.engrams["2"].memory
        table.register_forward_pre_hook(lambda _, rows: seen.update(rows[0].flatten().tolist()))
        for ids in torch.from_numpy(sequences(tokenizer, 6)).split(2):  # three micro-batches
            model(input_ids=ids, labels=ids).loss.backward()
        grads.append(table.weight.grad)
    dense, by_rows = grads
    assert by_rows.is_sparse
    assert by_rows.coalesce().indices().tolist() == [sorted(seen)]
    assert len(seen) < len(dense) / 8
    assert torch.equal(by_rows.to_dense(), dense)


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping_sees_the_norm_of_all_parameters(tokenizer, most: float) -> None:
    models = pair(tokenizer)
    ids = torch.from_numpy(sequences(tokenizer, 2))
    norms = []
    for model in models:
        model(input_ids=ids, labels=ids).loss.backward()
        clipped = gradients_to_clip(model, CPU)
        norms.append(nn.utils.clip_grad_norm_(clipped, most))
    squares = [float(p.grad.double().square().sum()) for p in models[0].parameters()]
    if most > 1.0:  # not clipped, so that these are still the gradients of the norm
        assert float(norms[1]) == pytest.approx(sum(squares) ** 0.5, rel=1e-5)
    else:
        assert sum(squares) ** 0.5 == pytest.approx(most, rel=1e-5)
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-6, atol=0.0)
    for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(mine.grad.to_dense(), other.grad, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adamw_by_blocks_is_adamw_to_the_bit(width: int, dtype: torch.dtype) -> None:
    """Rows that are not looked up move by their momentum; a dense state is gone on from."""
    random = torch.Generator().manual_seed(0)
    table = nn.Parameter(torch.randn(1000, width, generator=random).to(dtype))
    other = nn.Parameter(table.detach().clone())
    options = {"lr": 0.05, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "fused": True}
    dense = torch.optim.AdamW([other], **options)
    by_rows = TableAdamW([table], elements=200 * width, **options)
    assert [len(block) for block in blocks(table, 200 * width)] == [192] * 5 + [40]
    for step in range(8):
        if step == 4:
            by_rows = TableAdamW([table], elements=200 * width, **options)
            by_rows.load_state_dict(copy.deepcopy(dense.state_dict()))
        numbers = torch.randperm(1000, generator=random)[:90]
        gradient = torch.zeros_like(table).detach()
        gradient[numbers] = torch.randn(90, width, generator=random).to(dtype)
        before = other.detach().clone()
        other.grad, table.grad = gradient.clone(), gradient.to_sparse(1)
        dense.step()
        by_rows.step()
        assert torch.equal(table, other)
        assert int((other != before).any(1).sum()) > (90 if step else 0)
        assert table.grad is not None
    expected, found = (each.state_dict()["state"][0] for each in (dense, by_rows))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert {found[name].dtype for name in ("exp_avg", "exp_avg_sq")} == {dtype}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_by_rows_is_that_of_dense_gradients(
    tokenizer, tmp_path: Path, optimizer: str
) -> None:
    """But for the rounding of the norm that gradients are clipped to: it has no zeros to sum."""
    models = pair(tokenizer, table_size=2003)
    dense, by_rows = (
        train_once(tokenizer, tmp_path / name, model=model, steps=8, optimizer=optimizer)
        for name, model in zip(("dense", "rows"), models, strict=True)
    )
    assert dict(by_rows.training_loss) == pytest.approx(dict(dense.training_loss), rel=1e-6)
    assert by_rows.sequence_losses == pytest.approx(dense.sequence_losses, rel=1e-6)
    for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_no_tensor_of_the_tables_size_is_made_beside_it_and_its_moments(
    tokenizer, tmp_path: Path
) -> None:
    """A training of three steps with a state saved; the moments are made in it."""
    most, size = {}, {}
    for name, rows, on_host in (("dense", 1, False), ("rows", 1, True), ("larger", 2, True)):
        engram = memory(table_size=rows * 100_000, host_memory=on_host)
        model = build_model("moe-tiny", engram, tokenizer, seed=0)
        size[name] = model.get_parameter(TABLE).nbytes
        with LiveMemory() as live:
            train_once(tokenizer, tmp_path / name, model=model, steps=3, save_every=2)
        most[name] = live.most
    beside = {name: most[name] - 2 * size[name] for name in most}
    gradient_of_a_block = 4 * BLOCK
    assert beside["larger"] == pytest.approx(beside["rows"], abs=1 << 16)
    assert beside["dense"] - beside["rows"] >= size["dense"] - gradient_of_a_block


def test_numbers_that_are_none_are_seen_in_any_block() -> None:
    values = torch.zeros(BLOCK + 3)
    assert is_finite(values)
    for place in (0, BLOCK - 1, BLOCK + 2):
        for value in (float("nan"), float("inf")):
            values[place] = value
            assert not is_finite(values)
        values[place] = 0.0


def test_killed_it_ends_with_the_same_bits(tokenizer, tmp_path: Path) -> None:
    engram = memory(**ON_HOST)
    train_once(tokenizer, tmp_path / "whole", engram, (5,), steps=8, save_every=3)
    folder = tmp_path / "trained"
    script = Path(__file__).with_name("once.py")
    changes, memories = json.dumps({"steps": 8, "save_every": 3}), json.dumps(ON_HOST)
    killed = subprocess.run(
        [sys.executable, script, folder, "7", changes, memories],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    steps: list[int] = []
    train_once(
        tokenizer, folder, engram, (5,), lambda step, info: steps.append(step),
        steps=8, save_every=3,
    )  # fmt: skip
    assert steps == [6, 7, 8]
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_state_of_dense_gradients_is_gone_on_from(tokenizer, tmp_path: Path) -> None:
    """As trainings before had it: the optimiser's state is the same."""
    dense, by_rows = pair(tokenizer)
    whole = build_model("moe-tiny", memory(), tokenizer, seed=0)
    train_once(tokenizer, tmp_path / "whole", model=whole, steps=6)
    folder = tmp_path / "trained"
    with pytest.raises(Interrupted):
        train_once(tokenizer, folder, model=dense, on_step=interrupt_at(4), steps=6)
    steps: list[int] = []
    train_once(
        tokenizer, folder, model=by_rows, on_step=lambda step, info: steps.append(step), steps=6
    )
    assert steps == [4, 5, 6]
    for mine, other in zip(by_rows.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[dict[str, Tensor]]]:
    """The weights of each of two ranks, by whether their table is in host memory."""
    folder = tmp_path_factory.mktemp("ranks")
    changes = json.dumps({"steps": 5, "batch_size": 4})
    found = {}
    for on_host in (False, True):
        name = folder / str(on_host)
        engram = json.dumps({"host_memory": on_host, "table_size": 2003})
        job = torchrun(name, changes, engram, script="weights_of_ranks.py")
        assert job.returncode == 0, job.stderr
        found[on_host] = [torch.load(f"{name}.{rank}") for rank in (0, 1)]
    return found


def test_ranks_hold_the_same_weights_to_the_bit(of_two_ranks) -> None:
    """They did not begin with the same ones: the first rank's are taken."""
    first, second = of_two_ranks[True]
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()


def test_two_ranks_train_by_rows_as_by_dense_gradients(of_two_ranks) -> None:
    dense, by_rows = of_two_ranks[False][0], of_two_ranks[True][0]
    for name, expected in dense.items():
        torch.testing.assert_close(by_rows[name], expected, rtol=1e-5, atol=1e-6)
