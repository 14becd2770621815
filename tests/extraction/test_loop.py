"""The loop around the forward pass: memory that runs out, writers that fail, read-outs, ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_samples import numbered_samples
from transformers import LlamaConfig, LlamaForCausalLM

from engramcka.data import Passages
from engramcka.distributed import World
from engramcka.errors import DataError, StoreError
from engramcka.extraction import extract
from engramcka.extraction.extract import Writer, _check_finite
from engramcka.extraction.forward import ForwardPass
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models.blocks import capture_points
from engramcka.stores import open_activations

COUNT = 60


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def passages() -> Passages:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 20, COUNT)
    number = np.arange(COUNT)
    ids = tuple(random.integers(0, 64, length) for length in lengths.tolist())
    return Passages(ids, number, lengths - 1, lengths - 1, numbered_samples(COUNT))


def run(model: LlamaForCausalLM, passages: Passages, path: Path, **options: object):
    return extract(
        model,
        passages,
        path,
        pad_id=0,
        attributes={},
        inputs={},
        on_rows=lambda done, total: None,
        **options,
    )


def values(store, layer: int = 1) -> np.ndarray:
    return store.layers[layer][0:COUNT]


def refuse_more_than(tokens: int, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch):
    """Memory runs out above so many padded tokens; returns the sizes that were tried."""
    forward, sizes = model.forward, []

    def limited(input_ids: torch.Tensor, **options: object):
        sizes.append(input_ids.numel())
        if input_ids.numel() > tokens:
            raise torch.OutOfMemoryError("no room")
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "forward", limited)
    return sizes


def test_a_batch_too_large_for_memory_is_halved_and_so_are_those_after(
    model, passages, tmp_path, monkeypatch
) -> None:
    whole = values(run(model, passages, tmp_path / "whole.zarr"))
    sizes = refuse_more_than(200, model, monkeypatch)
    small = values(run(model, passages, tmp_path / "small.zarr"))
    assert np.abs(whole - small).max() < 1e-5
    refused = [size for size in sizes if size > 200]
    assert 0 < len(refused) <= 4  # a few halvings, then never as large again
    assert refused == sorted(refused, reverse=True)


def test_what_is_halved_does_not_depend_on_where_a_run_began(
    model, passages, tmp_path, monkeypatch
) -> None:
    """Given the same memory: the second run finds other batches first, and makes the same bits."""
    refuse_more_than(100, model, monkeypatch)
    at_once = run(model, passages, tmp_path / "m.zarr", chunk_samples=20)
    expected = [values(at_once, layer) for layer in (1, 2)]
    for kept in range(3):
        for chunk in range(3):
            if chunk != kept:
                at_once.discard_chunk(chunk)
        resumed = run(model, passages, tmp_path / "m.zarr")
        for layer, before in zip((1, 2), expected, strict=True):
            assert np.array_equal(values(resumed, layer), before)


def test_a_passage_too_large_by_itself_is_one_clear_line(
    model, passages, tmp_path, monkeypatch
) -> None:
    refuse_more_than(5, model, monkeypatch)
    with pytest.raises(DataError, match=r"one passage of \d+ tokens; lower data.max_length"):
        run(model, passages, tmp_path / "m.zarr", points=capture_points(model))
    with pytest.raises(DataError, match="out of memory in a pass over 14 tokens; use a smaller"):
        run(model, passages, tmp_path / "m.zarr")


def test_values_that_are_not_finite_are_named_or_kept(
    model, passages, tmp_path, monkeypatch
) -> None:
    weight = model.get_input_embeddings().weight
    spoilt = weight.detach().clone()
    spoilt[passages.ids[20][passages.last[20]]] = torch.nan
    monkeypatch.setattr(model.get_input_embeddings(), "weight", torch.nn.Parameter(spoilt))
    with pytest.raises(DataError, match=r"layer 1 is not finite at \d+ of 16 samples"):
        run(model, passages, tmp_path / "m.zarr", chunk_samples=16)
    assert open_activations(tmp_path / "m.zarr").missing()  # the chunk is not marked done
    kept = run(model, passages, tmp_path / "kept.zarr", nonfinite="keep")
    assert np.isnan(values(kept)[20]).all()
    assert np.isfinite(values(kept)).any()
    assert not kept.missing()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    store = SimpleNamespace(path="m.zarr")
    random = np.random.default_rng(0)
    rows = torch.randn(33, 67).to(dtype)
    _check_finite(store, 1, 0, rows)
    for value in (torch.nan, torch.inf, -torch.inf):
        for place in [*random.integers(0, rows.numel(), 20).tolist(), 0, rows.numel() - 1]:
            spoilt = rows.clone()
            spoilt.view(-1)[place] = value
            with pytest.raises(DataError, match=f"sample {100 + place // 67};"):
                _check_finite(store, 1, 100, spoilt)


class SumOfWidths:
    """A read-out that can be checked: sums over the width, block by block."""

    columns = {"sums": 2, "maxima": 2}  # noqa: RUF012

    def __call__(self, hidden):
        return {
            "sums": torch.stack([hidden[layer].sum(1) for layer in sorted(hidden)], 1),
            "maxima": torch.stack([hidden[layer].amax(1) for layer in sorted(hidden)], 1),
        }


def test_a_readout_is_stored_beside_the_states_it_was_read_from(model, passages, tmp_path) -> None:
    store = run(model, passages, tmp_path / "m.zarr", readout=SumOfWidths(), chunk_samples=16)
    assert list(store.readouts) == ["maxima", "sums"]
    for column, layer in enumerate((1, 2)):
        rows = values(store, layer)
        sums = store.readouts["sums"][0:COUNT][:, column]
        assert sums == pytest.approx(rows.astype(np.float64).sum(1), abs=1e-5)
        assert (store.readouts["maxima"][0:COUNT][:, column] == rows.max(1)).all()
    (tmp_path / "m.zarr/readouts/sums/c/1/0").unlink()
    with pytest.raises(StoreError, match=r"sums/c/1/0: cannot be read \(the file is gone"):
        store.readouts["sums"][0:COUNT]


def test_a_writer_holds_a_bounded_number_of_jobs_and_says_what_failed() -> None:
    gate, running = threading.Event(), []

    def slow() -> None:
        running.append(1)
        gate.wait(timeout=60)

    with Writer() as writer:
        writer.submit(slow)
        writer.submit(slow)
        third = threading.Thread(target=writer.submit, args=(slow,))
        third.start()
        third.join(timeout=0.2)
        assert third.is_alive()  # no room for a third
        gate.set()
        third.join(timeout=60)
    assert len(running) == 3

    def fail() -> None:
        raise OSError("disk full")

    def fill(writer: Writer) -> None:
        for _ in range(100):
            writer.submit(fail)

    with pytest.raises(OSError, match="disk full"), Writer() as writer:
        fill(writer)
    with pytest.raises(OSError, match="disk full"), Writer() as writer:
        writer.submit(fail)


class Meeting:
    """A rank in a world whose first rank has been through all its meetings before the others."""

    def __init__(self, rank: int, size: int, said: list[object]) -> None:
        self.world = World(rank, size)
        self.first, self.share = self.world.first, self.world.share
        self.said, self.heard = said, iter(said)

    def meet(self, value: object = None, decide: Callable[[list[object]], object] = len) -> object:
        if self.first:
            self.said.append(decide([value]))
            return self.said[-1]
        return next(self.heard)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_fill_one_store_between_them_to_the_same_bits(
    model, passages, tmp_path, ranks
) -> None:
    alone = run(model, passages, tmp_path / "alone.zarr", chunk_samples=8)
    shares: list[int] = []
    said: list[object] = []
    for rank in range(ranks):  # the others look when chunks have been written already
        store = run(
            model, passages, tmp_path / "m.zarr", world=Meeting(rank, ranks, said), chunk_samples=8
        )
        shares.append(8 - len(store.missing()) - sum(shares))
    assert not store.missing()
    for layer in (1, 2):
        assert (values(store, layer) == values(alone, layer)).all()
    assert shares == [len(range(rank, 8, ranks)) for rank in range(ranks)]


def test_batches_do_not_depend_on_who_runs_them(model, passages) -> None:
    forward = ForwardPass(model, passages, ResidualStream(capture_points(model)), 0)
    once = [rows.index.tolist() for rows in forward.run(0, 32)]
    again = [rows.index.tolist() for rows in forward.run(0, 32)]
    assert once == again
