"""What the extraction reads off is what each passage alone gives, computed naively in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import tiny

from engramcka.config import EngramConfig
from engramcka.data import Corpus, Document, Passages, draw_samples, place_samples, train_tokenizer
from engramcka.extraction import extract, read_passages
from engramcka.lens import PREFIX, LensReadout
from engramcka.models import build_model, find_blocks, find_unembedding, memory_off

TEXT = "".join(
    f"value{n} = os.path.join(a{n}, b)\nif sys.argv[{n}]:\n    pass\n" for n in range(20)
)
DOCUMENTS = [Document("a.py", TEXT), Document("b.py", TEXT[::-1] + TEXT)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, 310)


def passages_of(tokenizer, positions: str) -> Passages:
    samples = draw_samples(DOCUMENTS, count=24, passage_length=120, seed=0, positions=positions)
    corpus = Corpus((), tuple(DOCUMENTS))
    return place_samples(tokenizer, corpus, samples, 256, positions=positions)


def make(name: str, tokenizer):
    if name == "engram":
        engram = EngramConfig(layers=(2,), table_size=64, d_mem=32)
        model = build_model("moe-tiny", engram, tokenizer, seed=0)
        model.module("2").memory.weight.data.mul_(50.0)  # so that the memory is heard
        return model.eval()
    return tiny(name, len(tokenizer))


def naive(model, passages: Passages) -> dict[str, np.ndarray]:
    """Every passage alone; every block's own read-out by the model's modules; float64 softmax."""
    blocks, head = find_blocks(model), find_unembedding(model)
    rows = []
    for passage, last in zip(passages.passage, passages.last, strict=True):
        seen: list[torch.Tensor] = []
        handles = [
            block.register_forward_hook(
                lambda m, i, o, seen=seen: seen.append(o[0] if isinstance(o, tuple) else o)
            )
            for block in blocks.modules
        ]
        with torch.no_grad():
            ids = torch.from_numpy(passages.ids[passage])[None]
            logits = model(input_ids=ids, use_cache=False).logits[0, last].double()
            q = [head(hidden)[0, last].double().log_softmax(-1) for hidden in seen]
        for handle in handles:
            handle.remove()
        p = logits.log_softmax(-1)
        rows.append(
            [
                [float((p.exp() * (p - one)).sum()) for one in q],
                [float((one.exp() * (one - p)).sum()) for one in q],
                [float(-(one.exp() * one).sum()) for one in q],
                [float(one.argmax() == p.argmax()) for one in q],
            ]
        )
    found = np.array(rows)
    names = ("kl_final_layer", "kl_layer_final", "entropy", "top1")
    return {f"{PREFIX}{name}": found[:, index] for index, name in enumerate(names)}


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("gemma3_text", "entity-last"),
        ("engram", "entity-last"),
        ("engramcka_hyper_deepseek", "mean"),  # streams collapse, and the span's last token is read
        ("deepseek_v4", "entity-last"),
    ],
)
def test_read_outs_in_the_extractions_pass_are_the_naive_ones(
    name: str, positions: str, tokenizer, tmp_path: Path
) -> None:
    model, passages = make(name, tokenizer), passages_of(tokenizer, positions)
    store = extract(
        model,
        passages,
        tmp_path / "m.zarr",
        pad_id=0,
        attributes={},
        inputs={},
        on_rows=lambda done, total: None,
        readout=LensReadout(model, passages.ids[0]),
    )
    expected = naive(model, passages)
    assert sorted(store.readouts) == sorted(expected)
    assert expected[f"{PREFIX}kl_final_layer"][:, 0].mean() > 0.01
    for key, values in expected.items():
        found = store.readouts[key][0 : len(values)]
        assert found == pytest.approx(values, rel=1e-6, abs=1e-5), key


def test_without_memory_the_pass_of_its_own_reads_the_silenced_model(tokenizer) -> None:
    model, passages = make("engram", tokenizer), passages_of(tokenizer, "entity-last")
    readings = {}
    for silent in (False, True):
        context = memory_off(model) if silent else torch.no_grad()
        with context:
            readings[silent] = read_passages(
                model,
                passages,
                LensReadout(model, passages.ids[0]),
                pad_id=0,
                on_rows=lambda done, total: None,
            )
            expected = naive(model, passages)
        for key, values in expected.items():
            assert readings[silent][key] == pytest.approx(values, rel=1e-6, abs=1e-5), key
    entropy = f"{PREFIX}entropy"
    assert readings[False][entropy][:, 0] == pytest.approx(readings[True][entropy][:, 0])
    assert np.abs(readings[False][entropy][:, 1] - readings[True][entropy][:, 1]).max() > 1e-3
