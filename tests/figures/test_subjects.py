"""Every stored result through the real export command, and what the figures stage draws of it."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from drawn import (
    made_allocation,
    made_gates,
    made_lens,
    made_map,
    made_memory,
    made_sweep,
    made_training,
)
from matplotlib.image import imread
from typer.testing import CliRunner

from engramcka.cli.app import app
from engramcka.config import CkaTable, Config
from engramcka.errors import ConfigError, EngramckaError
from engramcka.figures.subjects import choose, subjects, worth_drawing
from engramcka.pipeline.stages import figures as stage
from engramcka.stores import layout, manifest, open_run, write_result
from engramcka.stores.results import open_root

EVERYTHING = {
    "cka": {
        "a": made_map(),
        "b": made_map(shift=0.2),
        "early": made_map(series="over-training", step=100),
        "late": made_map(series="over-training", step=2000),
    },
    "sweep": {"layers": made_sweep()},
    "allocation": {"rho": made_allocation()},
    "lens": {"moe": made_lens(), "engram": made_lens(label="Engram", shift=-1.0)},
    "gates": {"engram": made_gates()},
    "memory": {"engram": made_memory()},
    "training": {"moe": made_training(), "engram": made_training("Engram", -0.2)},
}
NAMES = {
    *(f"{kind}/{name}" for kind, named in EVERYTHING.items() for name in named),
    *(
        "lens",
        "training",
        "allocation",
        "memory",
        "series/over-training",
        "text/engram",
        "maps",
        "paper",
    ),
}


def write_run(folder, results=EVERYTHING):
    open_root(folder / layout.RESULTS)
    for named in results.values():
        for name, result in named.items():
            write_result(folder / layout.RESULTS, name, result, {})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def export(*arguments):
    """Exit code and all that was said, or the error that the entry point turns into a line."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if isinstance(result.exception, EngramckaError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_there_is_a_subject_for_everything_stored(run):
    assert set(subjects(open_run(run))) == NAMES


@pytest.mark.parametrize("what", sorted(NAMES))
def test_everything_stored_is_exported_as_figure_and_as_table(what, run, tmp_path):
    target = tmp_path / "figure.png"
    code, said = export(run, "--what", what, "-o", target, "--dpi", 80, "--caption")
    assert code == 0, said
    width = 6.75 if what in ("maps", "paper") else 3.25
    assert imread(target).shape[1] == pytest.approx(80 * width, abs=1)
    assert len((tmp_path / "figure.txt").read_text()) > 40
    code, said = export(run, "--what", what, "-o", tmp_path / "table.csv")
    if what == "paper":
        assert (code, "one kind of result" in said) == (2, True)
        return
    assert code == 0, said
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert rows
    assert all(None not in row and None not in row.values() for row in rows)
    code, said = export(run, "--what", what, "-o", tmp_path / "table.tex")
    if what.startswith("text/"):
        assert code == 2
        return
    assert code == 0, said
    table = (tmp_path / "table.tex").read_text()
    lines = [line for line in table.splitlines() if line.endswith(r"\\")]
    columns = len(re.search(r"tabular\}\{(l r*|lr*)\}", table).group(1))
    assert {line.count(" & ") + 1 for line in lines} == {columns}
    assert len(lines) > 1


def test_tables_hold_the_numbers(run, tmp_path):
    def table(what):
        assert export(run, "--what", what, "-o", tmp_path / "t.csv")[0] == 0
        return list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))

    curve = EVERYTHING["lens"]["engram"]
    rows = [row for row in table("lens") if row["model"] == "Engram"]
    np.testing.assert_array_equal([float(row["kl"]) for row in rows], curve.kl)
    np.testing.assert_array_equal([float(row["top1_high"]) for row in rows], curve.top1_high)
    rho = EVERYTHING["allocation"]["rho"]
    np.testing.assert_array_equal(
        [float(r["loss"]) for r in table("allocation/rho")], rho.loss.ravel()
    )
    gates = EVERYTHING["gates"]["engram"]
    np.testing.assert_array_equal(
        [float(row["alpha"]) for row in table("gates/engram")], gates.alpha.ravel()
    )
    text = table("text/engram")
    assert [row["token"] for row in text][::8] == list(gates.texts[0].tokens)
    assert float(text[-1]["alpha"]) == gates.texts[0].alpha[-1, -1, -1]
    assert {row["step"] for row in table("series/over-training")} == {"100", "2000"}
    kept = [float(row["kept"]) for row in table("memory/engram")]
    np.testing.assert_allclose(kept, EVERYTHING["memory"]["engram"].kept)


def test_a_difference_is_exported_as_figure_and_as_cells(run, tmp_path):
    pair = ("--what", "cka/b", "--minus", "cka/a")
    assert export(run, *pair, "-o", tmp_path / "d.png")[0] == 0
    assert export(run, *pair, "-o", tmp_path / "d.csv")[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "d.csv").read_text())))
    maps = EVERYTHING["cka"]
    np.testing.assert_array_equal(
        [float(row["similarity"]) for row in rows],
        (maps["b"].similarity - maps["a"].similarity).ravel(),
    )
    code, said = export(run, "--what", "lens", "--minus", "cka/a", "-o", tmp_path / "d.png")
    assert (code, "only maps are subtracted" in said) == (2, True)
    code, said = export(run, *pair, "-o", tmp_path / "d.tex")
    assert (code, ".png, .pdf, .svg" in said) == (2, True)


def test_a_series_is_exported_as_a_moving_picture_and_nothing_else_is(run, tmp_path):
    pair = ("--what", "series/over-training", "--seconds", "0.1")
    assert export(run, *pair, "-o", tmp_path / "s.gif")[0] == 0
    assert (tmp_path / "s.gif").read_bytes().startswith(b"GIF89a")
    code, said = export(run, "--what", "lens", "-o", tmp_path / "l.gif")
    assert (code, "only series/NAME" in said) == (2, True)


def test_names_with_commas_are_composed_in_that_order(run, tmp_path):
    stored = open_run(run)
    chosen = choose(stored, "lens/moe, cka/b,cka/a")
    assert chosen.sources == (("lens", "moe"), ("cka", "b"), ("cka", "a"))
    assert export(run, "--what", "lens,cka/a", "-o", tmp_path / "two.png")[0] == 0
    with pytest.raises(ConfigError, match="memory/engram: only lens, cka and sweep"):
        choose(stored, "cka/a,memory/engram")


def test_what_is_not_there_names_what_is(run, tmp_path):
    for arguments in (("--what", "cka/none"), ("--what", "cka/a,cka/none"), ()):
        code, said = export(run, *arguments, "-o", tmp_path / "x.png")
        assert code == 2
        assert "there is cka/a, cka/b" in said
    for wrong in (("-o", "x.bmp"), ("-o", "x.png", "--width", "wide"), ("-o", "x")):
        assert export(run, "--what", "lens", *wrong)[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_the_only_result_needs_no_name(tmp_path):
    run = write_run(tmp_path / "run", {"memory": {"m": made_memory()}})
    assert choose(open_run(run), None).name == "memory/m"


def test_curves_stand_in_the_configs_order(tmp_path):
    run = write_run(tmp_path / "run", {"lens": EVERYTHING["lens"]})
    assert [name for _, name in subjects(open_run(run))["lens"].sources] == ["engram", "moe"]
    (run / "config.toml").write_text("[models.moe]\n[models.engram]\n")
    assert [name for _, name in subjects(open_run(run))["lens"].sources] == ["moe", "engram"]


def test_a_result_of_a_newer_format_stops_only_what_needs_it(tmp_path):
    run = write_run(tmp_path / "run", {k: EVERYTHING[k] for k in ("cka", "gates", "lens")})
    for kind, name in (("cka", "late"), ("gates", "engram")):
        path = run / layout.RESULTS / kind / name / "zarr.json"
        path.write_text(
            re.sub(r'"engramcka_version": \d', '"engramcka_version": 9', path.read_text())
        )
        manifest.finalize(path.parent)
    assert export(run, "--what", "cka/a", "-o", tmp_path / "x.png")[0] == 0
    for what in ("cka/late", "gates/engram"):
        code, said = export(run, "--what", what, "-o", tmp_path / "x.png")
        assert (code, "format version 9" in said, "\n" in said) == (1, True, False)


class Recorder:
    """A task of a run, for its readings."""

    def __init__(self):
        self.seen = []

    def update(self, done, total=None, info=""):
        self.seen.append((done, total, info))


class Ran:
    def __init__(self, run):
        self.run = run


def drawn_by_stage(run):
    task = Recorder()
    stage.draw_all(Ran(run), task)
    return [info for _, _, info in task.seen]


def test_the_stage_draws_every_result_once_and_again_only_when_it_is_newer(tmp_path, monkeypatch):
    few = {"cka": {"a": made_map()}, "lens": EVERYTHING["lens"], "memory": EVERYTHING["memory"]}
    monkeypatch.setattr(stage, "FIGURE_FORMATS", ("svg",))
    run = write_run(tmp_path / "run", few)
    config = Config.model_construct(
        cka=(CkaTable(y="a", x="b"),)
    )  # that there is one is all that is asked
    (task,) = stage.figure_tasks(config, run)
    assert not task.is_done()
    assert drawn_by_stage(run) == ["cka/a", "memory/engram", "lens", "paper"]
    assert task.is_done()
    there = {path.name for path in (run / "figures").iterdir()}
    assert there == {
        f"{stem}.{form}"
        for stem in ("cka-a", "memory-engram", "lens", "paper")
        for form in ("svg", "txt")
    }
    assert drawn_by_stage(run) == []
    write_result(run / layout.RESULTS, "moe", made_lens(shift=1.0), {})
    assert not task.is_done()
    assert drawn_by_stage(run) == ["lens", "paper"]


def test_the_stage_draws_a_series_as_one_and_leaves_out_what_does_not_fit(run):
    names = [subject.name for subject in worth_drawing(open_run(run))]
    assert names == [
        "cka/a", "cka/b", "gates/engram", "memory/engram", "sweep/layers", "allocation/rho",
        "lens", "training", "series/over-training", "text/engram", "paper",
    ]  # fmt: skip


def test_directions_of_two_kinds_are_drawn_apart(tmp_path):
    other = replace(made_lens(label="other way"), direction="layer||final")
    run = write_run(
        tmp_path / "run", {"cka": {"a": made_map()}, "lens": {"a": made_lens(), "b": other}}
    )
    assert [subject.name for subject in worth_drawing(open_run(run))] == ["cka/a", "lens"]
    assert export(run, "--what", "lens", "-o", tmp_path / "lens.png")[0] == 0
    code, said = export(run, "--what", "paper", "-o", tmp_path / "paper.png")
    assert (code, "different divergences" in said) == (1, True)


def test_a_figure_that_fails_does_not_keep_the_others_from_being_drawn(tmp_path):
    twice = {name: made_map(series="s", step=5) for name in ("a", "b")}
    run = write_run(tmp_path / "run", {"cka": twice, "memory": EVERYTHING["memory"]})
    with pytest.raises(EngramckaError, match="series/s: two maps of the series are of step 5"):
        drawn_by_stage(run)
    assert (run / "figures" / "memory-engram.png").is_file()


@pytest.mark.parametrize(
    ("target", "options", "bare"),
    [
        ("t.csv", (), "a table (t.csv)"),
        ("t.tex", (), "a table (t.tex)"),
        ("f.png", ("--minus", "cka/b"), "the difference of two maps"),
    ],
)
def test_what_has_no_caption_is_refused_one_before_anything_is_written(
    target, options, bare, tmp_path
):
    run = write_run(tmp_path / "run", {"cka": {"a": made_map(), "b": made_map()}})
    what = ("--what", "cka/a", "-o", tmp_path / target)
    code, said = export(run, *what, *options, "--caption")
    assert (code, said) == (
        2,
        f"--caption: {bare} has no caption; leave it out, or write a figure",
    )
    assert not (tmp_path / target).exists()
    assert export(run, *what, *options)[0] == 0


@pytest.mark.parametrize("what", ["cka/a", "series/s", "paper"])
def test_maps_are_exported_without_their_interval(what, tmp_path):
    noise = np.random.default_rng(1).normal(0, 0.3, (10, 6, 6))
    wide = [
        replace(cka, jackknife=np.clip(cka.similarity + noise, 0.01, 1))
        for cka in (made_map(), made_map(step=1, series="s"), made_map(step=2, series="s"))
    ]
    maps = dict(zip(("a", "s.step-1", "s.step-2"), wide, strict=True))
    run = write_run(tmp_path / "run", {"cka": maps, "lens": {"l": made_lens()}})
    target, bare = tmp_path / "with.png", tmp_path / "without.png"
    for file, options in ((target, ()), (bare, ("--no-interval",))):
        code, said = export(run, "--what", what, "-o", file, "--dpi", 80, "--caption", *options)
        assert code == 0, said
    assert (imread(target) != imread(bare)).any()
    assert "95 % interval over" in target.with_suffix(".txt").read_text()
    assert "95 % interval over" not in bare.with_suffix(".txt").read_text()
    assert ("Bands: 95 %" in bare.with_suffix(".txt").read_text()) == (what == "paper")


def test_more_maps_than_the_papers_figure_holds_stand_together_in_the_models_order(tmp_path):
    pairs = [("C", "B"), ("A", "C"), ("A", "B"), ("A", "other")]
    maps = {f"{x}-vs-{y}": made_map(y_label=y, x_label=x) for y, x in pairs}
    run = write_run(tmp_path / "run", {"cka": maps})
    (run / "config.toml").write_text('[models.A]\n[models.c]\nlabel = "C"\n[models.B]\n')
    of_maps = open_run(run)
    names = [subject.name for subject in worth_drawing(of_maps)]
    assert names == ["cka/B-vs-A", "cka/B-vs-C", "cka/C-vs-A", "cka/other-vs-A", "maps"]
    ordered = [name for _, name in subjects(of_maps)["maps"].sources]
    assert ordered == ["C-vs-A", "B-vs-A", "other-vs-A", "B-vs-C"]
    assert choose(of_maps, ",".join(names[:4])).name == "maps"
    assert choose(of_maps, ",".join(names[:3])).name == "paper"
    assert export(run, "--what", "maps", "-o", tmp_path / "maps.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "maps.csv").open()))
    assert [rows[0][key] for key in ("map", "y", "x")] == ["C-vs-A", "A", "C"]
    assert len(rows) == 4 * 36
    assert float(rows[0]["similarity"]) == maps["C-vs-A"].similarity[0, 0]
