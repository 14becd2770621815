"""Two processes under torchrun train one model as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from once import ENGRAM, train_once
from transformers import AutoModelForCausalLM

from engramcka.errors import ConfigError
from engramcka.training import ranks, read_record

CHANGES = {"steps": 8, "batch_size": 4, "save_every": 3, "balancing": "loss-free"}


def torchrun(*arguments: object, script: str = "once.py") -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, Path(__file__).with_name(script), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_two_ranks_lose_as_much_as_one_and_the_first_writes(tokenizer, tmp_path: Path) -> None:
    one = train_once(tokenizer, tmp_path / "one", ENGRAM, (5,), **CHANGES)
    job = torchrun(tmp_path / "two", 0, json.dumps(CHANGES))
    assert job.returncode == 0, job.stderr
    two = read_record(tmp_path / "two")
    assert two is not None
    assert two.validation_loss == pytest.approx(one.validation_loss, abs=1e-3)
    assert two.sequence_losses == pytest.approx(one.sequence_losses, abs=2e-3)
    for name in ("training_loss", "validation_losses"):
        found, expected = getattr(two, name), getattr(one, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        for (_, mine), (_, wanted) in zip(found, expected, strict=True):
            assert mine == pytest.approx(wanted, abs=1e-3)
    assert two.expert_imbalance[0] == pytest.approx(one.expert_imbalance[0])  # all ranks' tokens
    assert two.tokens == one.tokens
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    AutoModelForCausalLM.from_pretrained(tmp_path / "two/step-000005")


def test_a_batch_that_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "rank_and_size", lambda: (0, 2))
    assert ranks.batch_size_per_rank(4) == 2
    with pytest.raises(ConfigError, match="batch_size = 3 cannot be shared out over 2 ranks"):
        ranks.batch_size_per_rank(3)
