"""A causal model runs no token behind the last that is wanted; what is stored stays the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny
from made_samples import numbered_samples
from transformers import AutoConfig, AutoModel

from engramcka.data import Passages
from engramcka.errors import StoreError
from engramcka.extraction import extract, read_passages
from engramcka.extraction.causality import is_causal, keeps_apart
from engramcka.models.blocks import capture_points
from engramcka.stores import ActivationStore, open_activations

COUNT, CHUNK = 96, 16


@pytest.fixture(scope="module")
def passages() -> Passages:
    """A sample a passage, on average in its middle; some passages have a second one."""
    random = np.random.default_rng(0)
    lengths = random.integers(6, 40, COUNT)
    last = (random.uniform(size=COUNT) * lengths).astype(np.int64)
    number = np.arange(COUNT)
    passage = number.copy()
    passage[40], last[40] = 39, min(last[39] + 2, lengths[39] - 1)
    ids = tuple(random.integers(3, 90, length) for length in lengths.tolist())
    return Passages(ids, passage, np.maximum(last - number % 2, 0), last, numbered_samples(COUNT))


def run(model: Any, passages: Passages, path: Path, **attributes: object) -> ActivationStore:
    return extract(
        model,
        passages,
        path,
        pad_id=0,
        attributes=attributes,
        inputs={},
        on_rows=lambda done, total: None,
        chunk_samples=CHUNK,
    )


@contextmanager
def batches_of(model: Any) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the batches that a model takes, without those of few tokens that only try it."""
    seen: list[tuple[int, ...]] = []

    def see(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if given["input_ids"].numel() > 32:
            seen.append(tuple(given["input_ids"].shape))

    handle = model.register_forward_pre_hook(see, with_kwargs=True)
    yield seen
    handle.remove()


def rows(store: ActivationStore, number: int) -> np.ndarray:
    return store.layers[number][0:COUNT]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_stored_is_that_of_whole_passages(
    family: str, passages: Passages, tmp_path: Path
) -> None:
    model = tiny(family, 90)
    with batches_of(model) as cut:
        store = run(model, passages, tmp_path / "cut.zarr")
    with batches_of(model) as whole:
        expected = run(model, passages, tmp_path / "whole.zarr", batches="whole")
    assert (store.attributes["batches"], expected.attributes["batches"]) == ("cut", "whole")
    assert sum(map(np.prod, cut)) <= 0.7 * sum(map(np.prod, whole))
    for number in expected.layers:
        apart = np.abs(rows(store, number) - rows(expected, number)).max()
        assert apart < 1e-5 * max(1.0, np.abs(rows(expected, number)).max())


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3", "engramcka_hyper_deepseek"])
def test_experts_in_16_bits_are_causal_too(family: str, passages: Passages) -> None:
    model = tiny(family, 90).to(torch.bfloat16)
    assert is_causal(model, capture_points(model), passages.ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_passages_have_the_states_of_whole_ones(
    family: str, passages: Passages, tmp_path: Path
) -> None:
    """In rows, one behind the other, as on a GPU; of gpt_oss it cannot be seen, and is refused."""
    model = tiny(family, 90)
    is_apart = keeps_apart(model, capture_points(model), passages.ids)
    assert is_apart == (family != "gpt_oss")
    if not is_apart:
        with pytest.raises(StoreError, match="packed in rows, which this model does not keep"):
            run(model, passages, tmp_path / "packed.zarr", batches="packed")
        return
    with batches_of(model) as packed:
        store = run(model, passages, tmp_path / "packed.zarr", batches="packed")
    expected = run(model, passages, tmp_path / "whole.zarr", batches="whole")
    assert all(rows * length % 16 == 0 for rows, length in packed)
    for number in expected.layers:
        apart = np.abs(rows(store, number) - rows(expected, number)).max()
        assert apart < 1e-5 * max(1.0, np.abs(rows(expected, number)).max())


def test_a_model_that_looks_past_the_beginning_of_a_passage_is_not_packed(
    passages: Passages,
) -> None:
    """A block takes a share of the token before, or positions go on through a row."""
    model = tiny("llama", 90)
    points = capture_points(model)

    def share_before(_: Any, args: Any) -> Any:
        return (args[0] + 0.01 * args[0].roll(1, dims=1), *args[1:])

    def goes_on(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        count = given["input_ids"].shape[1]
        return args, {**given, "position_ids": torch.arange(count)[None]}

    assert keeps_apart(model, points, passages.ids)
    with model.model.layers[2].register_forward_pre_hook(share_before):
        assert not keeps_apart(model, points, passages.ids)
    with model.model.register_forward_pre_hook(goes_on, with_kwargs=True):
        assert not keeps_apart(model, points, passages.ids)
    assert keeps_apart(model, points, passages.ids)


def test_a_mixture_is_packed_where_every_block_is_given_a_mask_that_hides(
    passages: Passages,
) -> None:
    """Its bits differ anyway, so that a small leak would not be seen in them."""
    model = tiny("qwen3_moe", 90)
    points = capture_points(model)

    def unmasked(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**given, "attention_mask": None}

    def opened(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = given["attention_mask"]
        return args, given if mask is None else {
            **given,
            "attention_mask": mask.clone().fill_(True),
        }

    assert keeps_apart(model, points, passages.ids)
    for spoil in (unmasked, opened):
        with model.model.layers[2].register_forward_pre_hook(spoil, with_kwargs=True):
            assert not keeps_apart(model, points, passages.ids)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_encoder_is_run_whole(kind: str, passages: Passages, tmp_path: Path) -> None:
    """With weights as they are drawn its tokens hardly see each other, and yet they do."""
    numbers = {
        "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **numbers)).eval()
    store = run(model, passages, tmp_path / "m.zarr")
    assert store.attributes["batches"] == "whole"
    at = 5
    with torch.no_grad():
        ids = torch.from_numpy(passages.ids[passages.passage[at]])[None]
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
    first, last = int(passages.first[at]), int(passages.last[at])
    np.testing.assert_allclose(rows(store, 1)[at], states[0, first : last + 1].mean(0), atol=1e-5)


def test_what_depends_on_a_batch_s_length_or_cannot_be_told_is_run_whole(
    passages: Passages,
) -> None:
    model = tiny("llama", 90)
    points = capture_points(model)
    assert is_causal(model, points, passages.ids)
    assert not is_causal(model, points, [np.full(20, 7)])  # no other token to put behind
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    model.config.rope_parameters = rope
    assert not is_causal(model, points, passages.ids)


def test_a_pass_that_only_reads_is_cut_too(passages: Passages, tmp_path: Path) -> None:
    class Sums:
        columns = {"sums": 1}  # noqa: RUF012

        def __call__(self, hidden: Any) -> Any:
            return {"sums": hidden[max(hidden)].sum(1, keepdim=True)}

    model = tiny("llama", 90)
    with batches_of(model) as seen:
        read = read_passages(model, passages, Sums(), pad_id=0, on_rows=lambda done, total: None)
    assert sum(map(np.prod, seen)) <= 0.75 * sum(len(ids) for ids in passages.ids)
    points = Passages(
        passages.ids, passages.passage, passages.last, passages.last, passages.samples
    )
    store = run(model, points, tmp_path / "m.zarr", batches="whole")
    expected = rows(store, 3).astype(np.float64).sum(1)
    np.testing.assert_allclose(read["sums"][:, 0], expected, atol=1e-5)


def begin(path: Path, store: ActivationStore, *, said: object = None) -> None:
    """A store as it is after its first two chunks, with what it says of its batches."""
    for chunk in range(2, COUNT // CHUNK):
        store.discard_chunk(chunk)
    file = path / "zarr.json"
    node = json.loads(file.read_text())
    del node["attributes"]["batches"]
    node["attributes"] |= {} if said is None else {"batches": said}
    file.write_text(json.dumps(node))


@pytest.mark.parametrize("plan", ["packed", "cut", "whole", "by-length"])
def test_a_store_is_finished_with_the_batches_it_was_begun_with(
    plan: str, passages: Passages, tmp_path: Path
) -> None:
    model, path = tiny("llama", 90), tmp_path / "m.zarr"
    with batches_of(model) as at_once:
        whole = run(model, passages, path, batches=plan)
    values = {number: rows(whole, number) for number in whole.layers}
    begin(path, open_activations(path), said=None if plan == "by-length" else plan)
    with batches_of(model) as later:
        filled = run(model, passages, path)
    assert filled.is_complete
    assert later == at_once[-len(later) :]
    assert 0 < len(later) < len(at_once)
    for number, expected in values.items():
        assert np.array_equal(rows(filled, number), expected)


def test_a_store_of_unknown_batches_is_not_filled_up(passages: Passages, tmp_path: Path) -> None:
    model, path = tiny("llama", 90), tmp_path / "m.zarr"
    run(model, passages, path)
    begin(path, open_activations(path), said="sorted")
    with pytest.raises(
        StoreError, match=r"batches 'sorted', allowed: packed, cut, whole, by-length"
    ):
        run(model, passages, path)
