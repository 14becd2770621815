"""`enter` on a cell of a map: the samples that make it what it is, with their text."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import screen_text, settle, toasts, until

from engramcka.errors import EngramckaError
from engramcka.results import CkaMap
from engramcka.similarity import cka_map, map_terms
from engramcka.stores import create_activations, write_cka
from engramcka.stores.results import open_root, read_result
from engramcka.tui.catalog import Entry, facts, find_runs
from engramcka.tui.cell_samples import Stopped, cell_samples, texts_of
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


OUTLIERS = {5: 6.0}  # samples that are far from the others, and how far


def states(seed: int) -> dict[int, np.ndarray]:
    """Two layers of hidden states with something in common; one sample far from the others."""
    random = np.random.default_rng(7)
    common = random.normal(size=(N, 3))
    for sample, far in OUTLIERS.items():
        common[sample] += far
    random = np.random.default_rng(seed)
    return {
        layer: (common @ random.normal(size=(3, 8)) + 0.2 * random.normal(size=(N, 8))).astype(
            np.float32
        )
        for layer in (1, 2)
    }


def write_store(
    path: Path, layers: dict[int, np.ndarray], inputs: dict[str, str], corpus: str = "c"
) -> None:
    """A finished store of these hidden states."""
    store = create_activations(
        path, layers=tuple(layers), width=8, dtype="float32", samples=sample_table(),
        attributes={"corpus": corpus, "label": path.stem}, inputs=inputs,
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
    open_root(run / "results.zarr")
    write_map(run, "engram-vs-moe")
    return run


def write_map(run: Path, name: str, rows: np.ndarray | None = None, **options) -> CkaMap:
    """A map of the two models of a run, of some of its samples."""
    rows = np.arange(N) if rows is None else rows
    where = options.pop("where", "")
    chosen = {
        "batch_size": 12, "groups": sample_table()["document"][rows], "y_label": "MoE",
        "x_label": "Engram", "device": "cpu", **options,
    }  # fmt: skip
    sides = [[layer[rows] for layer in states(seed).values()] for seed in (1, 2)]
    cka = replace(cka_map(*sides, **chosen), where=where)
    write_cka(run / "results.zarr", name, cka, {"y": {"made": "y"}, "x": {"made": "x"}})
    return cka


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
            falling = np.cumsum(np.sort(found.shares)[::-1])
            half = int((falling < 0.5).sum()) + 1
            made = "sample" if half == 1 else "samples"
            assert re.search(rf" {half} {made} \({half / 24:.1%}\) makes? half of it\.", shown)
        if size[0] >= 80:
            partner = str(table["entity"][found.partner[first]])
            row = rf"'{word[-2:]}' text\.jsonl:\d with '\w+' of '{partner}' \+"
            assert re.search(row, shown), shown
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
    """A data set that no run has fetched here."""
    (run / "config.toml").write_text('[data]\nsource = "hf"\npath = "./gone"\n')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: Path("text.jsonl").unlink(), "No text: data.path: no file in"),
        (lambda run: (run / "config.toml").unlink(), "No text:"),
        (other_text, "the text has changed since: 4 of 24 samples are not in it"),
        (text_elsewhere, "No text: data.path: no folder './gone'"),
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


def entry_of(run: Path, name: str) -> Entry:
    (ref,) = find_runs([run])
    return next(one for one in facts(ref).entries if (one.kind, one.name) == ("cka", name))


def quietly(done: int, total: int) -> None:
    """Nobody looks on."""


def test_a_map_of_other_hidden_states_is_refused(told):
    """Numbers are right or refused."""
    cka = write_map(told, "m")
    entry = entry_of(told, "m")
    for changed, words in (
        (replace(cka, similarity=cka.similarity - 0.1), "not those that it was made from"),
        (replace(cka, where="entity = 'king'"), "is over 24 samples, and the hidden"),
        (replace(cka, where="genus = 'king'"), "its samples have no column 'genus'"),
        (replace(cka, where="the king"), "which samples the map is of is not known"),
        (replace(cka, n_massive_dropped=3), "left out 3 samples for their values, of the hidden"),
    ):
        with pytest.raises(EngramckaError, match=words):
            cell_samples(entry, changed, 0, 0, quietly)


WORDS_OF = sample_table()["entity"]
CHOSEN = np.flatnonzero((WORDS_OF != "king") & (WORDS_OF != "sun"))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"where": "entity not in ('king', 'sun')"}, CHOSEN),
        ({"kernel": "rbf"}, np.arange(N)),
        ({"estimator": "debiased"}, np.arange(N)),
        ({"estimator": "debiased", "where": "entity not in ('king', 'sun')"}, CHOSEN),
        ({"massive": "drop"}, np.delete(np.arange(N), 5)),
        ({"massive": "drop", "kernel": "rbf"}, np.delete(np.arange(N), 5)),
    ],
    ids=str,
)
def test_other_maps_are_taken_apart_too(told, monkeypatch, options, rows):
    """Each sample by its name, with the term that the samples of the map alone give it."""
    monkeypatch.setitem(OUTLIERS, 5, 600.0)
    for name, seed in (("moe", 1), ("engram", 2)):
        shutil.rmtree(told / "activations" / f"{name}.zarr")
        made = {"made": {"moe": "y", "engram": "x"}[name]}
        write_store(told / "activations" / f"{name}.zarr", states(seed), made)
    asked = CHOSEN if "where" in options else None
    cka = write_map(told, "m", asked, **options)
    assert cka.n_samples == len(rows)
    found = cell_samples(entry_of(told, "m"), cka, 1, 0, quietly)
    groups = sample_table()["document"][rows]
    terms = map_terms(cka, 1, 0, states(1)[2][rows], states(2)[1][rows], groups)
    expected = [f"{WORDS_OF[rows[i]]}" for i in terms.largest(40)]
    assert [one.span.text for one in found.samples] == expected
    np.testing.assert_allclose([one.term for one in found.samples], terms.terms[terms.largest(40)])
    assert sum(one.share for one in found.samples) == pytest.approx(1.0)
    no_pairs = options.get("estimator") == "debiased"
    assert all(bool(one.partner) != no_pairs for one in found.samples)


async def test_of_a_map_that_is_no_sum_over_pairs_no_partner_is_named(told, make_app):
    write_map(told, "engram-vs-moe", estimator="debiased")
    app = make_app(told)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app)
        shown = "\n".join(screen_text(app))
        assert "is a sum over 24 samples" in shown
        assert " with " not in shown


def brute(cka, row, column, rows):
    """(samples,) what each gives to CKA, of all samples; 0 of those that are not in the map."""
    groups = sample_table()["document"][rows]
    y, x = states(1)[row + 1][rows], states(2)[column + 1][rows]
    found = map_terms(cka, row, column, y, x, groups)
    given = np.zeros(N)
    given[rows] = found.terms / found.hsic * cka.similarity[row, column]
    return given


@pytest.mark.parametrize("size", [(200, 50), (100, 30), (80, 24), (60, 20)])
async def test_of_two_maps_the_samples_that_differ_most_are_listed(told, make_app, size):
    """`enter` on the difference; the numbers sum to it. Side by side those that give most."""
    second = write_map(told, "other", CHOSEN, where="entity not in ('king', 'sun')")
    app = make_app(told)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await settle(pilot)
        first = app.browser.compare.pair.first
        given = brute(first, 1, 1, np.arange(N)), brute(second, 1, 1, CHOSEN)
        for keys, order in (
            (("up", "right", "enter"), np.maximum(*map(np.abs, given))),
            (("d", "enter"), np.abs(given[0] - given[1])),
        ):
            await pilot.press(*keys)
            await until(pilot, lambda: isinstance(app.screen, SamplesScreen))
            await until(pilot, lambda: "Reading" not in "\n".join(screen_text(app)))
            found = app.screen.found
            best = np.argsort(-order, kind="stable")
            assert [one.span.text for one in found.samples[:5]] == [WORDS_OF[i] for i in best[:5]]
            for values, attribute in zip(given, ("first", "second"), strict=True):
                shown = [getattr(one, attribute) for one in found.samples]
                np.testing.assert_allclose(shown, values[best], atol=1e-6)
            apart = float(first.similarity[1, 1] - second.similarity[1, 1])
            assert sum(one.apart for one in found.samples) == pytest.approx(apart, abs=1e-6)
            text = " ".join(" ".join(screen_text(app)).replace("│", " ").split())
            assert f"{24 - len(CHOSEN)} samples are in A only" in text
            line = re.search(r" 1 ([+−][\d.]+) ([+−][\d.]+) ([+−][\d.]+) ", text)
            numbers = [float(n.replace("−", "-")) for n in line.groups()]
            top = best[0]
            expected = [given[0][top], given[1][top], given[0][top] - given[1][top]]
            np.testing.assert_allclose(numbers, expected, atol=6e-5)
            await pilot.press("y")
            await until(pilot, lambda: app.clipboard.startswith("A\tB\tA−B\tsample"))
            assert len(app.clipboard.splitlines()) == 25
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.browser)
            assert app.browser.pair_shown


async def test_maps_of_other_text_have_no_samples_in_common(told, make_app):
    other = Path(shutil.copytree(told, "other"))
    for name, seed in (("moe", 1), ("engram", 2)):
        shutil.rmtree(other / "activations" / f"{name}.zarr")
        made = {"made": {"moe": "y", "engram": "x"}[name]}
        write_store(other / "activations" / f"{name}.zarr", states(seed), made, corpus="d")
    app = make_app(told, other)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "maps are of other text" in "\n".join(screen_text(app)))


async def test_layers_that_only_one_map_has_are_not_compared(told, make_app):
    cka = read_result(told / "results.zarr", "cka", "engram-vs-moe")
    write_cka(told / "results.zarr", "other", replace(cka, y_layers=(5, 6)), {})
    app = make_app(told)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "B has no such layers." in "\n".join(toasts(app)))


@pytest.mark.parametrize("source", ["few-nerd", "hf"])
def test_texts_of_data_sets_are_read_by_their_rows(told, monkeypatch, source):
    """A folder of `datasets`, as runs read it; nothing is fetched."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    texts = [text_of(d) for d in range(N // 4)]
    words = [text.split() for text in texts]
    columns = {"tokens": words, "fine_ner_tags": [[0] * len(one) for one in words]}
    if source == "hf":
        columns = {"text": texts}
    rows = datasets.Dataset.from_dict(columns)
    datasets.DatasetDict({"test": rows}).save_to_disk("set")
    (told / "config.toml").write_text(
        f'[data]\nsource = "{source}"\npath = "./set"\nsplit = "test"\npositions = "random"\n'
    )
    table = sample_table()
    table["document"] = np.array([f"test:{int(one[11:]) - 1}" for one in table["document"]])
    if source == "few-nerd":  # words joined by single spaces
        texts = [" ".join(one) for one in words]
        numbers = [int(one[5:]) for one in table["document"]]
        starts = [texts[d].index(w) for d, w in zip(numbers, table["entity"], strict=True)]
        table["start"] = np.array(starts)
        table["end"] = table["start"] + np.char.str_len(table["entity"])
        table["passage_end"] = np.array([len(texts[d]) for d in numbers])
    found, problem = texts_of(told, table, [0, 9, 23])
    assert problem == ""
    assert {row: span.text for row, span in found.items()} == {
        row: str(table["entity"][row]) for row in (0, 9, 23)
    }
    assert found[0].before.endswith("The ")


def test_nothing_more_is_read_when_the_list_is_closed(told):
    """What the progress raises ends the work."""
    (ref,) = find_runs([told])
    (entry,) = (one for one in facts(ref).entries if one.kind == "cka")
    cka = read_result(ref.results, "cka", "engram-vs-moe")

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        cell_samples(entry, cka, 0, 0, stop)
