"""No type of decoder is silently wrong: its states are transformers' own, or it is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import every_type
import pytest

SOME = (  # those that once were wrong or ended with a traceback, and some of each build
    "albert", "bamba", "bert", "bloom", "codegen", "cpmant", "deepseek_v3", "falcon", "gemma2",
    "git", "gpt2", "gptj", "granitemoehybrid", "mamba", "mamba2", "modernbert-decoder", "mpt",
    "openai-gpt", "opt", "prophetnet", "qwen3_next", "recurrent_gemma", "roberta", "rwkv", "xglm",
    "xlm", "xlnet",
)  # fmt: skip


def test_no_type_is_silently_wrong(full: bool) -> None:
    names = every_type.TYPES if full else [name for name in SOME if name in every_type.TYPES]
    found = {name: every_type.try_type(name) for name in names}
    counts = Counter(one.states for one in found.values())
    assert counts["wrong"] == 0, {n: one for n, one in found.items() if one.states == "wrong"}
    assert counts["right"] > len(names) // 2, counts
    expected = {"bert": "right", "openai-gpt": "right", "mamba": "right"}
    expected |= dict.fromkeys(("xlm", "cpmant", "xlnet"), "refused")
    assert {name: found[name].states for name in expected} == expected


def test_the_page_names_every_type() -> None:
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    assert ", 0 wrong," in page
    missing = [name for name in every_type.TYPES if f"| {name} |" not in page]
    # The page is made with the newest transformers that CI has; an older one knows fewer types.
    if len(missing) > len(every_type.TYPES) // 10:
        pytest.fail(f"docs/models.md lacks {missing}: python tests/models/every_type.py")
