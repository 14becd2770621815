"""A sweep over the size of the memory: losses by the rows that the models really have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import here
from safetensors import safe_open

from engramcka import open_run
from engramcka.config import load_config
from engramcka.errors import ComparisonError, ConfigError
from engramcka.figures import slots_figure, to_csv, to_latex
from engramcka.results import SlotSweep
from engramcka.results.statistics import student_quantile

CONFIG = """
[run]
dir = "run"

[data]
documents = 40
samples = 16
passage_length = 120
vocabulary = 300

[models.engram]
source = "train"
label = "Engram"
engram = { layers = [2, 3], table_size = 16, d_mem = 32 }

[training]
steps = 2
batch_size = 2
sequence_length = 16
warmup_steps = 1
validation_sequences = 4

[[slots]]
name = "tables"
model = "engram"
table_size = [16, 40]
seeds = [0, 1]
"""


def sweep(loss, slots=(100.0, 1000.0, 10_000.0, 100_000.0), **fields) -> SlotSweep:
    return SlotSweep(np.array(slots), np.array(loss), np.array([5.0]), **fields)


def test_a_run_holds_what_its_trainings_say(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    result = here("run", "config.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "run"
    found = open_run(run).slots["tables"]
    folders = [path.parent for path in sorted(run.glob("checkpoints/*/training.json"))]
    losses = {}
    for folder in folders:
        record = json.loads((folder / "training.json").read_text())
        engram = record["inputs"]["engram"]
        rows = 0
        if engram:
            with safe_open(folder / "model.safetensors", "np") as file:  # rows that were saved
                tables = [name for name in file.keys() if "memory.weight" in name]  # noqa: SIM118
                rows = sum(file.get_slice(name).get_shape()[0] for name in tables)
        losses[rows, record["inputs"]["seed"]] = record["validation_loss"]
    assert len(losses) == len(folders) == 6
    sizes = sorted({rows for rows, _ in losses if rows})
    assert found.slots.tolist() == sizes
    for index, rows in enumerate(sizes):
        assert found.loss[index].tolist() == [losses[rows, 0], losses[rows, 1]]
    assert found.baseline.tolist() == [losses[0, 0], losses[0, 1]]
    assert (run / "figures/slots-tables.png").stat().st_size > 5000
    assert "slots/tables" in here("info", "run", cwd=tmp_path).stdout
    again = here("run", "config.toml", cwd=tmp_path)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout + again.stderr


def test_a_power_law_comes_back_with_its_interval() -> None:
    random = np.random.default_rng(0)
    x = np.arange(2.0, 6.0, 0.5)
    y = 6.0 - 0.1 * x + random.normal(0, 0.01, len(x))
    line = sweep(y[:, None], 10.0**x).line
    assert line is not None
    design = np.stack([np.ones_like(x), x], axis=1)  # the slow way: normal equations
    inverse = np.linalg.inv(design.T @ design)
    start, slope = inverse @ design.T @ y
    variance = ((y - design @ [start, slope]) ** 2).sum() / (len(x) - 2)
    half = student_quantile(len(x) - 2) * np.sqrt(variance * inverse[1, 1])
    expected = [start, slope, slope - half, slope + half]
    np.testing.assert_allclose([line.start, line.slope, line.low, line.high], expected, rtol=1e-9)
    assert line.low < -0.1 < line.high


def test_no_line_through_two_points_and_no_value_where_none_is() -> None:
    assert sweep([[4.0], [3.9], [np.nan], [np.nan]]).line is None
    text = sweep([[4.0], [3.9], [np.nan], [np.nan]]).summary()
    assert "no memory 5.000, lowest with 1,000 slots: 3.900" in text
    assert "tenfold" not in text
    assert "no point yet" in sweep([[np.nan]] * 4).summary()
    uneven = [[2.7, 2.8], [3.0, 3.1], [2.9, np.nan]]  # the second seed is 0.1 worse everywhere
    found = sweep(uneven, (10_000.0, 100.0, 1000.0), seeds=(0, 1))
    assert found.line.slope == pytest.approx(-0.15)  # of the seed that all points have
    exact = sweep([[4.0], [3.5], [3.0], [2.5]]).summary()
    assert "-0.500 with every tenfold of slots (95 % -0.500 to -0.500)" in exact


@pytest.mark.parametrize("slots", [(0.0, 1.0), (-5.0, 1.0), ((1.0, 2.0), (3.0, 4.0))])
def test_slots_that_are_none_are_refused(slots) -> None:
    with pytest.raises(ComparisonError):
        sweep([[4.0], [3.9]], slots)


def test_the_figure_and_the_tables_hold_the_losses() -> None:
    found = sweep([[4.0, 4.2], [3.9, 3.7], [3.5, 3.6], [3.4, np.nan]], seeds=(0, 1))
    (axes,) = slots_figure(found).axes
    means = axes.containers[0].lines[0]
    np.testing.assert_allclose(means.get_ydata(), [4.1, 3.8, 3.55, 3.4])
    np.testing.assert_allclose(means.get_xdata(), found.slots)
    rows = to_csv(found).splitlines()
    assert rows[0] == "name,slots,seed,loss"
    assert rows[1] == "model,100,0,4.0"
    assert rows[-1] == "no memory,,,5.0"
    assert r"100,000 & 3.4000 & -- \\" in to_latex(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("table_size = [16, 40]", "table_size = [16, 16]"), "names one twice"),
        (("table_size = [16, 40]", "table_size = [1]"), "greater than or equal to 2"),
        (('model = "engram"', 'model = "none"'), "no model 'none'"),
        (("engram = {", "# engram = {"), "has no Engram module"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.replace(*change))
    with pytest.raises(ConfigError, match=r"slots|models") as error:
        load_config(tmp_path / "config.toml")
    assert says in str(error.value)
