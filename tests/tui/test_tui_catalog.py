from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from small_runs import full_map, make_run, write_log

from engramcka.errors import ConfigError
from engramcka.stores import write_cka
from engramcka.tui.catalog import (
    SILENT_SECONDS,
    Entry,
    facts,
    find_runs,
    read_tail,
    run_state,
    signature,
)
from engramcka.tui.loading import poll, watch


def titles(path):
    return [entry.title for place in find_runs([path]) for entry in facts(place).entries]


def test_a_run_lists_its_results_and_log(run):
    assert titles(run) == ["cka/engram-vs-moe", "cka/later", "sweep/insertion-layer", "log"]


def test_a_folder_of_runs_a_store_and_two_names_for_one(run):
    make_run(Path("more/b"))
    make_run(Path("more/a"))
    Path("more/notes").mkdir()
    assert [place.label for place in find_runs([Path("more")])] == ["a", "b"]
    assert titles(run / "results.zarr") == titles(run)
    assert len(find_runs([run, run.absolute(), run / "results.zarr"])) == 1


def test_a_store_that_stands_alone(run):
    (run / "results.zarr").rename("alone.zarr")
    expected = ["cka/engram-vs-moe", "cka/later", "sweep/insertion-layer"]
    assert titles(Path("alone.zarr")) == expected


@pytest.mark.parametrize("what", ["missing", "file", "empty", "kind"])
def test_anything_else_is_refused_in_one_sentence(run, what):
    Path("file").write_text("x")
    Path("empty").mkdir()
    path = run / "results.zarr" / "cka" if what == "kind" else Path(what)
    with pytest.raises(ConfigError) as caught:
        find_runs([path])
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("event", "age", "state"),
    [
        ("finished", 0, "finished"),
        ("failed", 0, "failed"),
        ("progress", 0, "running"),
        ("progress", SILENT_SECONDS + 1, "silent"),
    ],
)
def test_the_state_comes_from_the_last_event_and_its_age(run, event, age, state):
    write_log(run, ({"event": "start"}, {"event": event}))
    assert run_state(run / "log.jsonl", now=1_000_000 + age) == state


def test_a_log_that_is_being_written_is_read_to_its_last_whole_line(run):
    log = run / "log.jsonl"
    log.write_bytes(b'{"event": "a"}\n\xff\n[1]\n{"event": "b"}\n{"event": "c')
    assert [event["event"] for event in read_tail(log, 4096)] == ["a", "b"]
    assert [event["event"] for event in read_tail(log, 30)] == ["b"]


def test_a_log_that_is_missing_or_empty_says_nothing(run):
    assert run_state(Path("nothing")) == ""
    (run / "log.jsonl").write_text("")
    assert run_state(run / "log.jsonl") == ""


def test_the_signature_changes_with_any_file(run):
    place = find_runs([run])[0]
    entry = Entry(place, "cka", "later")
    before = signature(entry)
    assert signature(entry) == before
    chunk = entry.path / "similarity" / "c" / "0" / "0"
    os.utime(chunk, (1, 1))
    touched = signature(entry)
    assert touched != before
    write_cka(place.results, "later", full_map(), {})
    assert signature(entry) not in (before, touched)


def test_looking_again_sees_new_results_and_outlives_the_folder(run):
    before = poll([run], ())
    write_cka(run / "results.zarr", "new", full_map(), {})
    after = poll([run], before)
    assert {e.name for e in after[0].entries} - {e.name for e in before[0].entries} == {"new"}
    run.rename("gone")
    assert poll([run], after)[0].entries == ()


def test_watching_rests_longer_after_a_long_poll(monkeypatch):
    clock, rests = iter([0.0, 0.001, 10.0, 10.3, 20.0, 90.0]), []
    clocks = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("engramcka.tui.loading.time", clocks)

    class Stop(Event):
        def wait(self, timeout=None):
            rests.append(timeout)
            if len(rests) == 3:
                self.set()
            return self.is_set()

    watch(lambda: None, Stop(), pause=0.05)
    assert rests == pytest.approx([0.05, 3.0, 5.0])
