"""`enter` on a cell of a map: the samples that make it what it is, with their text."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import screen_text, settle, until

from engramcka.similarity import cka_map, map_terms
from engramcka.stores import create_activations, write_cka
from engramcka.stores.results import open_root
from engramcka.tui.catalog import facts, find_runs
from engramcka.tui.cell_samples import Stopped, cell_samples
from engramcka.tui.screens.samples import SamplesScreen

WORDS = ("horse", "river", "king", "stone", "wine", "sun")
N = 24


def text_of(document: int) -> str:
    """Four words, of which each is a sample; an escape sequence and markup between them."""
    words = [WORDS[(document + place) % len(WORDS)] for place in range(4)]
    return f"The {words[0]} and\nthe \x1b[31m{words[1]}, [b]{words[2]} or a {words[3]}."


def sample_table() -> dict[str, np.ndarray]:
    """24 samples of 6 documents."""
    rows = []
    for document in range(N // 4):
        text = text_of(document)
        for place in range(4):
            word = WORDS[(document + place) % len(WORDS)]
            start = text.index(word)
            rows.append(
                (
                    f"text.jsonl:{document + 1}",
                    start,
                    start + len(word),
                    0,
                    len(text),
                    word,
                    word[-2:],
                )
            )
    names = ("document", "start", "end", "passage_start", "passage_end", "entity", "token")
    return {
        name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def states(seed: int, outlier: int = 5) -> dict[int, np.ndarray]:
    """Two layers of hidden states with something in common; one sample far from the others."""
    random = np.random.default_rng(7)
    common = random.normal(size=(N, 3))
    common[outlier] += 6.0
    random = np.random.default_rng(seed)
    return {
        layer: (common @ random.normal(size=(3, 8)) + 0.2 * random.normal(size=(N, 8))).astype(
            np.float32
        )
        for layer in (1, 2)
    }


def write_store(path: Path, layers: dict[int, np.ndarray], inputs: dict[str, str]) -> None:
    """A finished store of these hidden states."""
    store = create_activations(
        path, layers=tuple(layers), width=8, dtype="float32", samples=sample_table(),
        attributes={"corpus": "c", "label": path.stem}, inputs=inputs,
    )  # fmt: skip
    store.write(0, layers)
    store.finalize()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A run that keeps its hidden states and its text."""
    run = Path("told")
    y, x = states(1), states(2)
    write_store(run / "activations" / "moe.zarr", y, {"made": "y"})
    write_store(run / "activations" / "engram.zarr", x, {"made": "x"})
    lines = [json.dumps({"text": text_of(d)}) for d in range(N // 4)]
    Path("text.jsonl").write_text("\n".join(lines))
    (run / "config.toml").write_text(
        '[data]\nsource = "jsonl"\npath = "text.jsonl"\npositions = "random"\n'
    )
    cka = cka_map(
        list(y.values()), list(x.values()), batch_size=12, groups=sample_table()["document"],
        y_label="MoE", x_label="Engram", device="cpu",
    )  # fmt: skip
    open_root(run / "results.zarr")
    write_cka(run / "results.zarr", "engram-vs-moe", cka, {"y": {"made": "y"}, "x": {"made": "x"}})
    return run


async def opened(pilot, app) -> SamplesScreen:
    """The list, when the worker is ready."""
    await settle(pilot)
    await pilot.press("up", "right", "enter")
    await until(pilot, lambda: isinstance(app.screen, SamplesScreen))
    await until(pilot, lambda: "Reading" not in "\n".join(screen_text(app)))
    return app.screen


@pytest.mark.parametrize("size", [(200, 50), (100, 30), (80, 24), (60, 20), (40, 12)])
async def test_enter_lists_the_samples_with_their_shares_and_their_text(told, make_app, size):
    """The largest first, by the terms that sum to the value under the cursor."""
    app = make_app(told)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app)
        cka = app.browser.map.map
        found = map_terms(cka, 1, 1, states(1)[2], states(2)[2], sample_table()["document"])
        first = found.largest(1)[0]
        shown = " ".join(" ".join(screen_text(app)).replace("│", " ").split())
        assert f"{found.shares[first]:+.2%}" in shown
        table = sample_table()
        word = str(table["entity"][first])
        if size[0] >= 60:
            assert f"CKA {cka.similarity[1, 1]:.3f} is a sum over 24 samples" in shown
            assert f"{found.shares[first]:+.2%} '{word[-2:]}'" in shown
        if size[1] >= 20:
            around = re.sub(r"\s+", " ", text_of(1))
            assert around[: around.index(word)].split("[31m")[-1].strip()[-4:] in shown
        shares = [one.share for one in screen.found.samples]
        assert sum(shares) == pytest.approx(1.0)
        assert "\x1b" not in "".join(
            one.span.before + one.span.after for one in screen.found.samples
        )
        await pilot.press("G")
        await until(pilot, lambda: " 24 " in " ".join(screen_text(app)))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.browser)
        assert app.browser.map.has_focus


async def test_the_list_is_copied_as_a_table(told, make_app):
    app = make_app(told)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard)
        lines = app.clipboard.splitlines()
        assert len(lines) == 25
        assert float(lines[1].split("\t")[0]) == screen.found.samples[0].share


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: shutil.rmtree(run / "activations"), "are not kept here (there are none)"),
        (lambda run: shutil.rmtree(run / "activations" / "moe.zarr"), "map's rows are not kept"),
        (lambda run: shutil.rmtree(run / "activations" / "engram.zarr"), "map's columns are not"),
    ],
)
async def test_a_run_without_hidden_states_says_so(told, make_app, change, words):
    """In the place of the list; the app goes on."""
    change(told)
    app = make_app(told)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        shown = " ".join(" ".join(screen_text(app)).replace("│", " ").split())
        assert words in shown
        await pilot.press("q")
        await until(pilot, lambda: app.screen is app.browser)


def other_text(run: Path) -> None:
    """Where the samples were, something else stands."""
    lines = Path("text.jsonl").read_text().splitlines()
    Path("text.jsonl").write_text("\n".join(line.replace("horse", "mouse") for line in lines))


def text_elsewhere(run: Path) -> None:
    """A text that only a run can get."""
    (run / "config.toml").write_text('[data]\nsource = "hf"\npath = "a/b"\n')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: Path("text.jsonl").unlink(), "No text: data.path: no file in"),
        (lambda run: (run / "config.toml").unlink(), "No text:"),
        (other_text, "the text has changed since: 4 of 24 samples are not in it"),
        (text_elsewhere, "texts of 'hf' are read by a run only"),
    ],
)
async def test_without_the_text_the_samples_are_still_listed(told, make_app, change, words):
    change(told)
    app = make_app(told)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, app)
        shown = " ".join(" ".join(screen_text(app)).replace("│", " ").split())
        assert words in shown
        assert len(screen.found.samples) == 24


def test_a_map_of_other_hidden_states_or_of_some_samples_is_refused(told):
    """Numbers are right or refused."""
    from dataclasses import replace

    from engramcka.errors import EngramckaError
    from engramcka.stores.results import read_result

    (ref,) = find_runs([told])
    (entry,) = (one for one in facts(ref).entries if one.kind == "cka")
    cka = read_result(ref.results, "cka", "engram-vs-moe")
    moved = replace(cka, similarity=cka.similarity - 0.1)
    for changed, words in (
        (moved, "not those that it was made from"),
        (replace(cka, where="kind = 'person'"), "only whole maps are taken apart"),
    ):
        with pytest.raises(EngramckaError, match=words):
            cell_samples(entry, changed, 0, 0, lambda done, total: None)


def test_nothing_more_is_read_when_the_list_is_closed(told):
    """What the progress raises ends the work."""
    from engramcka.stores.results import read_result

    (ref,) = find_runs([told])
    (entry,) = (one for one in facts(ref).entries if one.kind == "cka")
    cka = read_result(ref.results, "cka", "engram-vs-moe")

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        cell_samples(entry, cka, 0, 0, stop)
