from __future__ import annotations

from small_runs import EVENTS

from engramcka.tui.screens.log import duration, event_line, summary, task_states


def test_the_latest_state_of_each_task():
    done, going = task_states(EVENTS)
    assert (done.stage, done.name, done.share, done.seconds) == ("train", "moe", 1.0, 40.2)
    assert (going.stage, going.share) == ("cka", 0.25)


def test_a_second_run_in_the_same_log_starts_afresh():
    assert [task.name for task in task_states((*EVENTS, {"event": "run"}))] == []


def test_events_are_one_line_in_local_time(monkeypatch):
    line = event_line(EVENTS[2], 80)
    assert line.startswith("03-01 10:00:41 done")
    assert line.endswith("in 40.2 s loss 5.53")
    assert len(event_line(EVENTS[2], 20)) == 20


def test_a_run_says_how_many_tasks_it_has_in_old_logs_too():
    for key in ("tasks", "pieces"):
        line = event_line({"event": "run", "pid": 7, key: 2}, 80)
        assert line.split()[-5:] == ["run", "tasks", "2", "pid", "7"]


def test_nothing_in_a_log_is_trusted():
    hostile = {"event": "start", "stage": "\x1b[31m", "name": ["x"], "total": "many", "done": None}
    line = event_line(hostile, 80)
    assert "\x1b" not in line
    assert task_states([hostile])[0].share == 0.0
    assert "\x1b" not in summary([hostile, {}, {"time": 3}], 60).plain


def test_an_empty_log_says_so():
    assert summary([], 40).plain == "The log is empty."


def test_durations():
    assert [duration(s) for s in (3.21, 75, 3725)] == ["3.2 s", "1 min 15 s", "1 h 2 min"]
