"""A folder of runs: filters, order, marks, comparing from the tree."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from small_runs import LIVE, full_map, screen_text, settle, until, write_log

from engramcka.stores import write_cka
from engramcka.tui.catalog import facts, find_runs
from engramcka.tui.filters import matching
from engramcka.tui.widgets.run_tree import RunTree

DAYS = {"run1": "2026-10-03", "run2": "2026-11-20", "run10": "2026-11-28"}
CONFIGS = {
    "run1": '[data]\npath = "pythia.jsonl"\n'
    '[models.smol]\nlabel = "Small"\npath = "HuggingFaceTB/SmolLM2-135M"\n',
    "run2": '[models.moe]\npreset = "moe-tiny"\n\n[models.moe.engram]\nlayers = [2]\n',
    "run10": '[models."odd\\u001b name"]\nlabel = "Pythia [b]"\n',
}


@pytest.fixture
def folder(apart, template) -> Path:
    """Three runs of three days and three models."""
    for name, day in DAYS.items():
        run = Path("many") / name
        shutil.copytree(template, run)
        (run / "config.toml").write_text(CONFIGS[name])
        seconds = time.mktime(time.strptime(f"{day} 12:00", "%Y-%m-%d %H:%M"))
        os.utime(run / "config.toml", (seconds, seconds))
    return Path("many")


def listed(app) -> list[str]:
    """The runs in the tree."""
    return [str(node.data.parent.name) for node in app.browser.query_one(RunTree).root.children
            if isinstance(node.data, Path)]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "runs"),
    [
        ("model:smol", ["run1"]),
        ("model:SmolLM2-135M", ["run1"]),
        ("model:moe-tiny", ["run2"]),
        ("model:pythia", ["run10"]),
        ("date:2026-11", ["run2", "run10"]),
        ("date:2026-11-28", ["run10"]),
        ("kind:sweep date:2026", ["run1", "run2", "run10"]),
        ("kind:cka model:smol date:2026-10", ["run1"]),
        ("kind:cka model:smol date:2026-11", []),
        ("state:failed", ["run2"]),
        ("state:silent", ["run1"]),
        ("state:running", ["run10"]),
        ("kind:sw model:small", ["run1"]),
        ("kind:weep", []),
        ("later run10", ["run10"]),
    ],
)
def test_filters(folder, pattern, runs):
    """Each by itself and together."""
    failed = {"time": "2026-03-01T10:00:00+00:00", "event": "failed"}
    write_log(folder / "run2", (failed,))
    os.utime(folder / "run10" / "log.jsonl")  # its job writes now
    found = [facts(ref) for ref in find_runs([folder])]
    assert [run.ref.label for run in found if matching(run, pattern)] == runs


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_filters_typed_into_the_find_field(folder, make_app, size):
    """Runs that pass stay in the tree; esc lists all again."""
    app = make_app(folder)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"kind:cka date:2026-11")
        await until(pilot, lambda: listed(app) == ["run2", "run10"])
        await pilot.press(*" model:pythia")
        await until(pilot, lambda: listed(app) == ["run10"])
        await pilot.press(*"s")
        await until(pilot, lambda: listed(app) == [])
        assert "no result" in " ".join(screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: listed(app) == list(DAYS))


async def test_o_lists_the_newest_first_and_by_name_again(folder, make_app):
    """The result on screen and the cursor stay; `n` follows the list."""
    app = make_app(folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        assert listed(app) == ["run1", "run2", "run10"]
        entry = app.browser.entry
        await pilot.press("o")
        await until(pilot, lambda: listed(app) == ["run10", "run2", "run1"])
        assert app.browser.entry == entry
        await pilot.press("N")
        await settle(pilot)
        assert app.browser.entry.ref.label == "run2"
        await pilot.press("o")
        await until(pilot, lambda: listed(app) == ["run1", "run2", "run10"])


@pytest.mark.parametrize("size", [(100, 30), (80, 24)])
async def test_the_tree_says_how_runs_are_and_the_filter_has_the_same_words(folder, make_app, size):
    write_log(folder / "run1", ({"event": "failed"},))
    os.utime(folder / "run2" / "log.jsonl", (time.time() + 3600,) * 2)  # grows all the while
    app = make_app(folder)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for state, run in (("failed", "run1"), ("running", "run2"), ("silent", "run10")):
            shown = "\n".join(screen_text(app))
            assert shown.count(f"[{state}]") == 1
            await pilot.press("slash", *f"state:{state}")
            await until(pilot, lambda run=run: listed(app) == [run])
            assert f"{run} [{state}]" in "\n".join(screen_text(app))
            await pilot.press("escape")
            await until(pilot, lambda: len(listed(app)) == 3)
        write_log(folder / "run10", ({"event": "finished"},))
    again = make_app(folder)
    async with again.run_test(size=size) as pilot:
        await settle(pilot)
        shown = "\n".join(screen_text(again))
        assert "[silent]" not in shown
        assert "[finished]" not in shown
        await pilot.press("slash", *"state:finished")
        await until(pilot, lambda: listed(again) == ["run10"])


async def test_no_run_moves_while_jobs_write(folder, make_app):
    """By name, and the newest first, which goes by when the config was written."""
    app = make_app(folder, pause=LIVE)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        for order in (["run1", "run2", "run10"], ["run10", "run2", "run1"]):
            assert listed(app) == order
            name = f"new-{order[0]}"
            write_cka(folder / "run2" / "results.zarr", name, full_map(), {})
            os.utime(folder / "run1" / "log.jsonl")
            await until(
                pilot,
                lambda name=name: any(e.name == name for r in app.browser.runs for e in r.entries),
            )
            assert listed(app) == order
            if order[0] == "run1":
                await pilot.press("o")
                await until(pilot, lambda: listed(app)[0] == "run10")


async def test_the_order_is_remembered(folder, make_app):
    """The next start lists the runs as they were left, on the same result."""
    app = make_app(folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await until(pilot, lambda: listed(app) == ["run10", "run2", "run1"])
        await pilot.press("q")
    again = make_app(folder, session=app.last_session)
    async with again.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        assert listed(again) == ["run10", "run2", "run1"]
        assert again.browser.entry.ref.label == "run1"


async def test_two_maps_of_two_runs_are_compared_from_the_tree(folder, make_app):
    """`d` on one, `d` on another: the first is A."""
    app = make_app(folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("tab", "d")
        await until(pilot, lambda: app.browser.marked == app.browser.entry)
        await pilot.press("slash", *"run10 later", "enter")
        await settle(pilot)
        await pilot.press("tab", "d")
        await settle(pilot)
        await until(pilot, lambda: app.browser.pair_shown)
        names = app.browser.compare.pair.first_name, app.browser.compare.pair.second_name
        assert names == ("run1  engram-vs-moe", "run10  later")


async def test_a_result_that_cannot_be_read_is_marked_until_it_can(run, make_app):
    app = make_app(run, pause=LIVE)
    broken = run / "results.zarr" / "cka" / "later" / "zarr.json"
    whole = broken.read_bytes()
    broken.write_text("{")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("n")
        await until(pilot, lambda: "later [broken]" in "\n".join(screen_text(app)))
        broken.write_bytes(whole)
        await until(pilot, lambda: "[broken]" not in "\n".join(screen_text(app)))


def test_models_are_those_of_model_tables_however_toml_writes_them(folder):
    """Not what other tables call a path or a label; quotes, dots and inline tables are TOML's."""
    config = folder / "run2" / "config.toml"
    config.write_text(
        "[data]\npath = 'smol.txt'\nlabel = 'smol'\n[models]\n"
        "a = { preset = 'moe-tiny' }\nb.path = 'EleutherAI/gpt-neo'\n"
        'c.label = """Long\nname"""\n# path = "bloom"\n'
    )
    (run,) = (found for ref in find_runs([folder / "run2"]) for found in [facts(ref)])
    for word in ("moe-tiny", "gpt-neo", "long", "eleuther"):
        assert matching(run, f"model:{word}"), word
    for word in ("smol", "bloom", "data"):
        assert not matching(run, f"model:{word}"), word
    for broken in ("[models.moe", 'models = "moe"\n', "models = [1]\n"):
        config.write_text(broken)
        os.utime(config, (1, hash(broken) % 1_000_000))
        (run,) = (facts(ref) for ref in find_runs([folder / "run2"]))
        assert not matching(run, "model:moe"), broken


def test_a_config_that_is_gone_or_no_text_has_no_models(folder):
    (folder / "run1" / "config.toml").unlink()
    (folder / "run2" / "config.toml").write_bytes(b"\xff\xfe[models.moe]")
    runs = [facts(ref) for ref in find_runs([folder])]
    assert [bool(matching(run, "model:smol")) for run in runs] == [False, False, False]
    assert all(matching(run, "date:20") for run in runs[1:])
