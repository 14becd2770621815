"""Stage lens in a whole run: what is stored, what is not done again, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import CONFIG, here

from engramcka import open_run

pytestmark = pytest.mark.xdist_group("whole-run")


def made_last(run: Path) -> set[tuple[str, str]]:
    """Stage and name of every task that the last run made, figures left out."""
    events = open_run(run).log()
    start = max(number for number, event in enumerate(events) if event["event"] == "run")
    done = [event for event in events[start:] if event["event"] == "done"]
    return {(event["stage"], event["name"]) for event in done if event["stage"] != "figures"}


def test_curves_are_the_means_of_what_the_extraction_read(finished: Path) -> None:
    run = open_run(finished / "run")
    assert set(run.lens) == {"moe", "engram", "engram.memory-off"}
    for model in ("moe", "engram"):
        curve, store = run.lens[model], run.activations(model)
        kl = store.readouts["lens_kl_final_layer"][0:64].astype(np.float64)
        assert curve.kl == pytest.approx(kl.mean(axis=0))
        assert curve.kl[-1] == 0
        assert curve.kl[0] > curve.kl_low[0] > 0
        assert curve.layers == (1, 2, 3, 4, 5, 6)
        assert curve.n_tokens == 64
        assert curve.provenance["model"]["path"].startswith("run/checkpoints/moe-tiny")
    silent = run.lens["engram.memory-off"]
    assert not silent.memory
    # The module is before block 2: what leaves block 1 is the same, the rest and the end are not.
    assert silent.entropy[0] == pytest.approx(run.lens["engram"].entropy[0])
    assert silent.final_entropy != run.lens["engram"].final_entropy


def test_gates_and_the_loss_without_memory_are_stored(finished: Path) -> None:
    run = open_run(finished / "run")
    gates, memory = run.gates["engram"], run.memory["engram"]
    assert gates.layers == (2,)
    assert gates.types[:2] == ("all", "outside")
    assert set(gates.types[2:]) <= {"call", "name"}
    assert gates.counts[0] == sum(gates.counts[1:])
    assert ((gates.alpha > 0) & (gates.alpha < 1)).all()
    assert gates.order_share.sum() == pytest.approx(1.0)
    assert (gates.collisions > 0.5).all()  # 64 rows for some hundred n-grams
    assert len(gates.texts) == 3
    assert memory.classes == ("all", "inside an entity", "outside")
    assert memory.counts[0] == gates.counts[0] - gates.provenance["passages"]
    assert (memory.difference_low < memory.loss_off - memory.loss_on).all()


def test_a_lens_that_comes_later_leaves_the_hidden_states_and_gives_the_same(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/results.zarr/lens/moe")
    shutil.rmtree(tmp_path / "run/activations/moe.zarr")
    without = CONFIG.replace(
        'models = ["moe", "engram"]\nmemory_off', 'models = ["engram"]\nmemory_off'
    )
    (tmp_path / "config.toml").write_text(without)
    assert here("run", "config.toml", cwd=tmp_path).returncode == 0
    store = tmp_path / "run/activations/moe.zarr"
    assert not open_run(tmp_path / "run").activations("moe").readouts
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert made_last(tmp_path / "run") == {("lens", "moe")}
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    found, expected = (open_run(path / "run").lens["moe"] for path in (tmp_path, finished))
    assert found.kl == pytest.approx(expected.kl, abs=1e-9)
    assert found.top1_low == pytest.approx(expected.top1_low, abs=1e-9)


def test_a_changed_direction_or_condition_makes_the_curve_alone_anew(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "config.toml").write_text(CONFIG)
    changes = ["--set", "lens.0.direction=layer||final", "--set", "lens.0.where={ kind = 'call' }"]
    result = here("run", "config.toml", *changes, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    curves = ("moe", "engram", "engram.memory-off")
    assert made_last(tmp_path / "run") == {("lens", name) for name in curves}
    curve, store = (
        open_run(tmp_path / "run").lens["moe"],
        open_run(tmp_path / "run").activations("moe"),
    )
    rows = store.samples["kind"] == "call"
    kl = store.readouts["lens_kl_layer_final"][0:64].astype(np.float64)
    assert 0 < rows.sum() < 64
    assert curve.kl == pytest.approx(kl[rows].mean(axis=0))
    assert (curve.direction, curve.where) == ("layer||final", "kind = 'call'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('lens.0.models=["mo"]', "no model 'mo'; did you mean 'moe'?"),
        ('lens.0.models=["moe", "moe"]', "'moe' is there twice"),
        ('lens.0.memory_off=["moe"]', "'moe' has no Engram modules; allowed: engram"),
        ('gates.0.models=["moe"]', "'moe' has no Engram modules; allowed: engram"),
        ("lens.0.direction=backwards", "allowed: 'final||layer', 'layer||final'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here("check", "config.toml", "--set", change, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
