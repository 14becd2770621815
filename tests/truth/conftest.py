"""The real model and the runs over it, made once for all tests that read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import prose
import pytest
import real_model
from commanded import DOCUMENTS, HEAD, TOKENS, WORDS, Done, RealText, cka, hf, python, run


@pytest.fixture(scope="session")
def real_text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealText]:
    """The text, with the model saved where `real_model.BASE` says."""
    folder = tmp_path_factory.mktemp("smollm2")
    os.environ[real_model.BASE] = str(real_model.save(folder))
    yield RealText(prose.passages(DOCUMENTS, WORDS))
    del os.environ[real_model.BASE]
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def words(real_text: RealText, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The model and its variants, at the last token of three words a passage."""
    folder = tmp_path_factory.mktemp("words")
    prose.write_jsonl(folder / "text.jsonl", real_text.passages)
    config = (
        HEAD
        + f"samples = {DOCUMENTS * WORDS}\n"
        + hf("base")
        + hf("half", dtype="bfloat16")
        + "".join(python(name, name) for name in ("cut", "doubled", "permuted", "in_pieces"))
        + cka("itself", "base", "base")
        + cka("cut", "base", "cut", estimator="debiased")
        + cka("doubled", "doubled", "base", estimator="debiased")
        + cka("permuted", "base", "permuted", estimator="debiased")
        + cka("half", "base", "half", estimator="debiased")
        + cka("pieces", "base", "in_pieces", estimator="debiased")
    )
    return run(folder, config)


@pytest.fixture(scope="session")
def tokens(real_text: RealText, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The model at every token."""
    folder = tmp_path_factory.mktemp("tokens")
    prose.write_jsonl(folder / "text.jsonl", real_text.passages)
    return run(
        folder,
        HEAD
        + f'samples = {TOKENS}\npositions = "all"\n'
        + hf("base")
        + cka("kept", "base", "base", estimator="debiased")
        + cka("dropped", "base", "base", estimator="debiased", massive="drop")
        + cka("rms", "base", "base", estimator="debiased", normalize="rms"),
    )


@pytest.fixture(scope="session")
def behind_first(real_text: RealText, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The model at every token but the first of a passage."""
    folder = tmp_path_factory.mktemp("behind")
    prose.write_jsonl(folder / "text.jsonl", real_text.passages[: DOCUMENTS // 2])
    data = 'samples = 500\npositions = "all"\nskip_first = 1\n'
    map_ = cka("behind", "base", "base", estimator="debiased")
    return run(folder, HEAD + data + hf("base") + map_)


@pytest.fixture(scope="session")
def turned_round(real_text: RealText, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The documents in reverse order, and a tokenizer that pads on the left."""
    folder = tmp_path_factory.mktemp("turned")
    prose.write_jsonl(folder / "text.jsonl", real_text.passages[::-1])
    return run(
        folder,
        HEAD
        + f"samples = {DOCUMENTS * WORDS}\n"
        + python("left", "padded_left")
        + cka("itself", "left", "left", estimator="debiased"),
    )
