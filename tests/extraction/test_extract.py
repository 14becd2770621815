"""What is stored is the residual stream after each block, before the final norm, at each sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, LlamaConfig, LlamaForCausalLM

from engramcka.config import EngramConfig
from engramcka.data import Corpus, Document, Passages, draw_samples, place_samples, train_tokenizer
from engramcka.errors import DataError
from engramcka.extraction import extract
from engramcka.extraction import extract as extract_function
from engramcka.extraction.residual_stream import ResidualStream, Spans
from engramcka.models import build_model, find_blocks, find_unembedding
from engramcka.stores import open_activations

TEXT = "".join(
    f"value{n} = os.path.join(a{n}, b)\nif sys.argv[{n}]:\n    pass\n" for n in range(40)
)
DOCUMENTS = [Document("a.py", TEXT), Document("b.py", TEXT[::-1] + TEXT)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, 310)


@pytest.fixture(scope="module")
def passages(tokenizer) -> Passages:
    samples = draw_samples(DOCUMENTS, count=90, passage_length=120, seed=0)
    return place_samples(tokenizer, Corpus((), tuple(DOCUMENTS)), samples, 256)


@pytest.fixture(scope="module")
def models(tokenizer):
    torch.manual_seed(0)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    engram = build_model(
        "moe-tiny", EngramConfig(layers=(2,), table_size=64, d_mem=32), tokenizer, seed=0
    )
    hyper = build_model("engram-tiny-hyper", None, tokenizer, seed=0)
    return {"llama": llama.eval(), "engram": engram.eval(), "hyper": hyper.eval()}


def run(model, passages: Passages, path: Path, **options):
    return extract(
        model,
        passages,
        path,
        pad_id=0,
        attributes={"corpus": "test"},
        inputs={"seed": 0},
        on_rows=lambda done, total: None,
        **options,
    )


def reference(model, passages: Passages) -> dict[int, np.ndarray]:
    """Each passage alone, unpadded, through transformers' own output_hidden_states."""
    streams = len(find_unembedding(model).steps) > 1
    before_norm: list[torch.Tensor] = []
    blocks = find_blocks(model)
    handle = (
        find_unembedding(model)
        .steps[-1]
        .register_forward_pre_hook(lambda m, x: before_norm.append(x[0]))
    )
    rows: dict[int, list[np.ndarray]] = {n: [] for n in range(1, len(blocks.modules) + 1)}
    with torch.no_grad():
        for passage, position in zip(passages.passage, passages.last, strict=True):
            before_norm.clear()
            ids = torch.from_numpy(passages.ids[passage])[None]
            hidden = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
            for layer in rows:
                last = layer == len(rows) and not streams
                row = (before_norm[0] if last else hidden[layer])[0, position]
                rows[layer].append((row.mean(0) if row.dim() == 2 else row).numpy())
    handle.remove()
    if streams:  # transformers leaves the last block's streams out: only those before are compared
        del rows[len(rows)]
    return {layer: np.stack(values) for layer, values in rows.items()}


@pytest.mark.parametrize("name", ["llama", "engram", "hyper"])
def test_rows_equal_transformers_own_hidden_states(name, models, passages, tmp_path) -> None:
    store = run(models[name], passages, tmp_path / "m.zarr")
    expected = reference(models[name], passages)
    layers = store.layers
    assert list(layers)[: len(expected)] == list(expected)
    assert len(layers) == len(find_blocks(models[name]).modules)
    for number, rows in expected.items():
        found = layers[number][0 : len(rows)]
        assert np.abs(found - rows).max() < 1e-5 * max(1.0, np.abs(rows).max())
    assert (store.samples["start"] == passages.samples.start).all()


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_an_encoder_sees_no_padding_and_needs_no_head(kind, tokenizer, passages, tmp_path) -> None:
    """Both sides of a token count there, so a padded row must be what it is alone."""
    numbers = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 300,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
        "sep_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **numbers)).eval()
    for parameter in model.parameters():  # far from the start, where attention hardly mixes
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
    store = run(model, passages, tmp_path / "m.zarr")
    assert list(store.layers) == [1, 2, 3]
    with torch.no_grad():
        for row, (passage, position) in enumerate(
            zip(passages.passage, passages.last, strict=True)
        ):
            ids = torch.from_numpy(passages.ids[passage])[None]
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
            for layer in (1, 2) if kind == "modernbert" else (1, 2, 3):  # its last is normed
                expected = hidden[layer][0, position].numpy()
                found = store.layers[layer][row : row + 1][0]
                assert np.abs(found - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_a_single_unpadded_passage_is_the_same_bits(models, passages) -> None:
    model = models["llama"]
    stream = ResidualStream(dict(enumerate(find_blocks(model).modules, start=1)))
    ids = torch.from_numpy(passages.ids[0])[None]
    last = torch.tensor([ids.shape[1] - 1])
    with torch.no_grad():
        with stream.capture(torch.tensor([0]), last, last):
            model(input_ids=ids, use_cache=False)
        hidden = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(stream.selected[1], hidden[1][0, last])
    assert torch.equal(stream.selected[2], hidden[2][0, last])
    assert not torch.equal(stream.selected[3], hidden[3][0, last])  # that one is after the norm


def test_nothing_after_the_last_block_is_run(models, passages) -> None:
    model = models["llama"]
    blocks = find_blocks(model)
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: ran.append(name))
        for name, module in {
            "block 2": blocks.modules[1],
            "block 3": blocks.modules[2],
            "norm": find_unembedding(model).steps[-1],
            "head": find_unembedding(model).lm_head,
        }.items()
    ]
    stream = ResidualStream({1: blocks.modules[0], 2: blocks.modules[1]})
    with torch.no_grad(), stream.capture(*torch.tensor([[0], [1], [1]])):
        model(input_ids=torch.from_numpy(passages.ids[0])[None])
    for handle in handles:
        handle.remove()
    assert ran == ["block 2"]
    assert list(stream.selected) == [1, 2]


def test_a_stopped_extraction_goes_on_to_the_same_bits(models, passages, tmp_path) -> None:
    whole = run(models["engram"], passages, tmp_path / "whole.zarr", chunk_samples=16)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 40:
            raise Stopped

    with pytest.raises(Stopped):
        extract_function(
            models["engram"],
            passages,
            tmp_path / "cut.zarr",
            pad_id=0,
            attributes={"corpus": "test"},
            inputs={"seed": 0},
            on_rows=stop,
            chunk_samples=16,
        )
    assert open_activations(tmp_path / "cut.zarr").missing()[0] == (32, 48)
    cut = run(models["engram"], passages, tmp_path / "cut.zarr")
    assert cut.missing() == []
    for number, layer in whole.layers.items():
        assert (layer[0:90] == cut.layers[number][0:90]).all()


def test_bfloat16_states_are_kept_bit_for_bit(models, passages, tmp_path) -> None:
    model = models["llama"].to(torch.bfloat16)
    try:
        store = run(model, passages, tmp_path / "m.zarr")
    finally:
        models["llama"].to(torch.float32)
    assert store.attributes["dtype"] == "bfloat16"
    layer = store.layers[1]
    assert layer[0:90].dtype.name == "bfloat16"
    assert np.isfinite(layer[0:90].astype(np.float32)).all()
    assert layer[0:90].astype(np.float32).std() > 0


def test_no_sample_at_all_is_refused(models, passages, tmp_path) -> None:
    nothing = Passages(
        passages.ids,
        passages.passage[:0],
        passages.last[:0],
        passages.last[:0],
        passages.samples.take(np.arange(0)),
    )
    with pytest.raises(DataError, match="not one sample could be placed"):
        run(models["llama"], nothing, tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_spans_are_averaged_on_the_way() -> None:
    hidden = torch.randn(3, 7, 4, 5, dtype=torch.float64).float()
    sequence, first, last = torch.tensor([[2, 0, 0, 1], [0, 3, 3, 6], [6, 3, 5, 6]])
    found = Spans(sequence, first, last).mean_of(hidden)
    expected = [
        hidden[s, a : b + 1].double().mean(0) for s, a, b in zip(sequence, first, last, strict=True)
    ]
    assert torch.allclose(found.double(), torch.stack(expected), atol=1e-6)
    assert torch.equal(found[1], hidden[0, 3])
    points = Spans(sequence, last, last).mean_of(hidden.to(torch.bfloat16))
    assert torch.equal(points, hidden.to(torch.bfloat16)[sequence, last])
