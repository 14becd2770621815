"""One training: same data for all, a folder that is whole or not there, no number that is none."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from once import OPTIONS, sequences, train_once
from transformers import AutoModelForCausalLM, AutoTokenizer

from engramcka.config import EngramConfig
from engramcka.errors import DataError, TrainingError
from engramcka.models import build_model
from engramcka.training import read_record, train_model, validation_loss
from engramcka.training.train import end_of_documents, sequence_losses


def train(tokenizer, folder: Path, engram: EngramConfig | None = None, kept=(), **changes):
    steps: list[int] = []
    record = train_once(
        tokenizer,
        folder,
        engram,
        kept,
        lambda step, info: steps.append(step),
        **{"steps": 4, **changes},
    )
    return record, steps


def test_the_folder_is_a_whole_model_and_its_record(tokenizer, tmp_path: Path) -> None:
    engram = EngramConfig(layers=(2,), table_size=64, d_mem=32)
    record, steps = train(tokenizer, tmp_path / "trained", engram)
    assert steps == [1, 2, 3, 4]
    assert read_record(tmp_path / "trained") == record
    assert json.loads((tmp_path / "trained/training.json").read_text())["inputs"] == {"seed": 0}
    assert [entry.name for entry in tmp_path.iterdir()] == ["trained"]
    assert record.tokens == 4 * 2 * 16
    assert np.mean(record.sequence_losses) == record.validation_loss
    assert record.sequence_documents == (0, 1, 1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    assert validation_loss(model, sequences(tokenizer, 3), 2) == pytest.approx(
        record.validation_loss, abs=1e-6
    )
    assert len(AutoTokenizer.from_pretrained(tmp_path / "trained")) == len(tokenizer)


def test_models_kept_on_the_way_are_whole_and_change_nothing(tokenizer, tmp_path: Path) -> None:
    engram = EngramConfig(layers=(2,), table_size=64, d_mem=32)
    record, _ = train(tokenizer, tmp_path / "trained", engram, kept=(1, 3))
    plain, _ = train(tokenizer, tmp_path / "plain", engram)
    assert record.training_loss == plain.training_loss
    weights = [tmp_path / name / "model.safetensors" for name in ("trained", "plain")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "trained").iterdir() if p.is_dir()) == [
        "step-000001",
        "step-000003",
    ]
    assert [step for step, _ in record.validation_losses] == [1, 3, 4]
    for step, loss in record.validation_losses[:2]:
        folder = tmp_path / f"trained/step-{step:06d}"
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert validation_loss(model, sequences(tokenizer, 3), 2) == pytest.approx(loss, abs=1e-6)
        assert len(AutoTokenizer.from_pretrained(folder)) == len(tokenizer)


def test_the_same_seed_gives_the_same_bits(tokenizer, tmp_path: Path) -> None:
    first, _ = train(tokenizer, tmp_path / "a")
    second, _ = train(tokenizer, tmp_path / "b")
    assert first.validation_loss == second.validation_loss
    assert first.training_loss == second.training_loss


def test_the_validation_loss_is_the_mean_over_tokens_in_nats(tokenizer) -> None:
    model = build_model("moe-tiny", None, tokenizer, seed=0).eval()
    ids = sequences(tokenizer, 3)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)).logits.double().numpy()
    shifted = logits[:, :-1] - logits[:, :-1].max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    token_losses = -np.take_along_axis(log_p, ids[:, 1:, None], -1)[..., 0]
    for batch_size in (1, 3):
        found = sequence_losses(model, ids, batch_size)
        np.testing.assert_allclose(found, token_losses.mean(1), atol=1e-5)
    expected = token_losses.mean()
    assert validation_loss(model, ids, 3) == pytest.approx(expected, abs=1e-5)
    assert validation_loss(model, ids, 1) == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(math.log(len(tokenizer)), rel=0.2)


@pytest.mark.parametrize("preset", ["moe-tiny", "engram-tiny", "engram-tiny-hyper"])
def test_documents_of_a_sequence_have_the_losses_that_they_have_alone(tokenizer, preset) -> None:
    model = build_model(preset, None, tokenizer, seed=0).eval()
    end = tokenizer.eos_token_id
    ids = sequences(tokenizer, 4)
    ids[:, [4, 5, 11]] = end
    found = sequence_losses(model, ids, 2, end)
    for row, loss in zip(ids, found, strict=True):
        parts = [row[:5], row[5:6], row[6:12], row[12:]]
        with torch.no_grad():
            logits = [model(torch.from_numpy(part)[None]).logits[0].double() for part in parts]
        losses = torch.nn.functional.cross_entropy(
            torch.cat(logits)[:-1], torch.from_numpy(row[1:])
        )
        assert loss == pytest.approx(float(losses), abs=1e-5)
    assert np.abs(sequence_losses(model, ids, 2) - found).max() > 1e-4


def test_training_keeps_documents_apart_unless_they_are_joined(tokenizer, tmp_path: Path) -> None:
    ids = sequences(tokenizer, 8)
    ids[:, ::5] = tokenizer.eos_token_id
    losses = {}
    for documents in ("apart", "joined"):
        losses[documents] = train_model(
            build_model("engram-tiny", None, tokenizer, seed=0),
            tokenizer,
            training=ids,
            validation=ids[:3],
            options=OPTIONS.model_copy(update={"steps": 4, "documents": documents}),
            seed=0,
            device="cpu",
            folder=tmp_path / documents,
            inputs={},
            on_step=lambda step, info: None,
        ).sequence_losses
        model = AutoModelForCausalLM.from_pretrained(tmp_path / documents)
        end = tokenizer.eos_token_id if documents == "apart" else None
        found = sequence_losses(model, ids[:3], 2, end)
        np.testing.assert_allclose(found, losses[documents], atol=1e-6)
        assert end_of_documents(model, tokenizer, OPTIONS) == tokenizer.eos_token_id
    assert np.abs(np.subtract(losses["apart"], losses["joined"])).max() > 1e-4


def test_models_without_position_ids_are_trained_on_joined_documents(tokenizer) -> None:
    assert end_of_documents(torch.nn.Linear(2, 2), tokenizer, OPTIONS) is None


def test_a_loss_that_is_no_number_stops_and_leaves_nothing(tokenizer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is (nan|inf)"):
        train(tokenizer, tmp_path / "trained", learning_rate=1e30, steps=8)
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_record_where_nothing_was_trained(tmp_path: Path) -> None:
    assert read_record(tmp_path / "trained") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": np.zeros((0, 16), dtype=np.int64)}, "there is no validation text"),
        ({"validation": np.zeros((3, 1), dtype=np.int64)}, "there is no validation text"),
        ({"training": np.full((2, 16), 320)}, "token ids from 320 to 320, .* vocabulary has 320"),
        ({"tokenizer": range(321)}, "tokenizer has 321 entries, the model's vocabulary 320"),
    ],
)
def test_text_that_does_not_fit_is_one_line(tokenizer, tmp_path: Path, changes, message) -> None:
    ids = sequences(tokenizer, 4)
    given = {"tokenizer": tokenizer, "training": ids, "validation": ids, **changes}
    with pytest.raises(DataError, match=message):
        train_model(
            build_model("moe-tiny", None, tokenizer, seed=0),
            given.pop("tokenizer"),
            **given,
            options=OPTIONS,
            seed=0,
            device="cpu",
            folder=tmp_path / "trained",
            inputs={},
            on_step=lambda step, info: None,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", ["moe-tiny", "engram-tiny", "engram-tiny-hyper"])
def test_a_step_s_loss_keeps_documents_apart_as_the_validation_loss_does(
    tokenizer, tmp_path: Path, preset: str
) -> None:
    """With Engram modules and without: the loss before the first update, over the same text."""
    ids = sequences(tokenizer, 2)
    ids[:, 8] = tokenizer.eos_token_id
    model = build_model(preset, None, tokenizer, seed=0)
    for parameter in model.parameters():  # far from the start, where tokens hardly see each other
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
    options = OPTIONS.model_copy(update={"steps": 1})
    end_id = end_of_documents(model, tokenizer, options)
    expected = validation_loss(model, ids, 2, end_id)
    record = train_model(
        model.train(), tokenizer, training=ids, validation=ids, options=options, seed=0,
        device="cpu", folder=tmp_path / "trained", inputs={}, on_step=lambda step, info: None,
    )  # fmt: skip
    assert record.training_loss[0][1] == pytest.approx(expected, rel=1e-5)
    joined = validation_loss(model, ids, 2, None)
    assert abs(joined - expected) > 1e-3  # else the test could not fail
