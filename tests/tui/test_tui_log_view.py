from __future__ import annotations

import pytest
from small_runs import EVENTS, LIVE, screen_text, settle, until, write_log

from engramcka.tui.screens.log import (
    LogView,
    duration,
    event_line,
    events_text,
    loss_curve,
    pinned,
    task_line,
    task_states,
)


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
    events = [hostile, {}, {"time": 3}]
    assert "\x1b" not in events_text(events, 60).plain + pinned(task_states(events), 60, 5).plain


def test_an_empty_log_says_so():
    assert events_text([], 40).plain == "The log is empty."


def test_durations():
    assert [duration(s) for s in (3.21, 75, 3725)] == ["3.2 s", "1 min 15 s", "1 h 2 min"]


def going(done: int, second: int, name: str = "moe", event: str = "progress") -> dict[str, object]:
    """An event of a training of 100 steps."""
    return {"time": f"2026-03-01T10:00:{second:02d}.000+00:00", "event": event, "stage": "train",
            "name": name, "done": done, "total": 100, "unit": "steps"}  # fmt: skip


def test_rate_and_time_left_are_from_the_first_count_on():
    start = {k: v for k, v in going(0, 0, event="start").items() if k != "done"}
    events = [start, going(30, 5), going(60, 20)]  # resumed: where from, no event says
    (task,) = task_states(events)
    assert task.rate == 2.0
    assert task.seconds_left == 20.0
    assert "60/100 steps  20.0 s left  2 steps/s" in task_line(task, 100)
    (ended,) = task_states([*events, {**going(100, 30, event="done"), "seconds": 30.0}])
    assert ended.seconds_left is None
    assert "30.0 s" in task_line(ended, 100)
    assert task_states(events[:2])[0].seconds_left is None  # one count is no rate


def test_losses_are_a_sparkline_from_the_lowest_to_the_highest():
    """Eight steps between the two; what is no number leaves a question mark."""
    assert loss_curve([4.0, 3.0, 2.0, 1.0]) == "█▅▃▁"
    assert loss_curve([1.0, 2.0, 3.0, 1.0]) == "▁▄█▁"
    assert loss_curve([5.0, 4.0]) == ""
    assert loss_curve([2.0, 2.0, 2.0]) == ""
    assert loss_curve([3.0, float("nan"), 2.0, 1.0]) == "█?▄▁"


@pytest.mark.parametrize("size", [(100, 30), (200, 50)])
async def test_the_losses_of_a_training_stand_beside_its_bar(run, make_app, size):
    told = [{**going(n * 20, n), "info": f"loss {5 - n:.2f}"} for n in range(5)]
    write_log(run, tuple(told))
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("n", "n", "n")
        await settle(pilot)
        (line,) = (one for one in screen_text(app) if "▸ " in one and "train moe" in one)
        assert "█▆▄▂▁" in line


def test_progress_said_again_and_again_is_one_line():
    events = [going(0, 0, event="start"), *(going(n, n) for n in range(1, 50)), going(3, 55, "b")]
    lines = events_text(events, 100).plain.splitlines()
    assert [line.split()[2] for line in lines] == ["start", "progress", "progress"]
    assert "49/100 steps" in lines[1]


def test_what_goes_on_is_pinned_before_what_is_done():
    events = [going(100, n, f"t{n}", "done") for n in range(30)] + [going(7, 40, "now")]
    lines = pinned(task_states(events), 100, 5).plain.splitlines()
    assert len(lines) == 5
    assert "train now" in lines[3]
    assert lines[4] == "  and 27 more, 27 done"
    whole = pinned(task_states(events[-3:]), 100, 5).plain.splitlines()
    assert len(whole) == 3


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_bars_stay_on_top_while_events_scroll(run, make_app, size):
    many = [going(n, n % 60, f"t{n % 2}") for n in range(100)]
    write_log(run, (*many, going(99, 59, "last")))
    app = make_app(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("n", "n", "n")
        await settle(pilot)
        for key in ("g", "G", "b"):
            await pilot.press(key)
            await pilot.pause()
            shown = screen_text(app)
            assert sum("▸ " in line and "train last" in line for line in shown) == 1
        assert "99/100" in "\n".join(shown)


def test_what_has_failed_is_pinned_before_what_is_done():
    events = [going(100, n, f"t{n}", "done") for n in range(30)]
    events.insert(3, going(40, 3, "broke", "failed"))
    lines = pinned(task_states(events), 100, 5).plain.splitlines()
    assert any("train broke" in line for line in lines)


@pytest.mark.parametrize("size", [(100, 30), (80, 24), (60, 20)])
async def test_the_end_of_the_events_is_followed_until_the_user_looks_elsewhere(
    run, make_app, size
):
    """And again from the end on."""
    events = [{"event": "note", "info": f"said {n:03d}"} for n in range(200)]
    write_log(run, tuple(events[:100]))
    app = make_app(run, pause=LIVE)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("n", "n", "n")
        await until(pilot, lambda: "said 099" in "\n".join(screen_text(app)))
        write_log(run, tuple(events[:150]))
        await until(pilot, lambda: "said 149" in "\n".join(screen_text(app)))
        await pilot.press("g")
        await until(pilot, lambda: "said 000" in "\n".join(screen_text(app)))
        write_log(run, tuple(events[:199]))
        await until(pilot, lambda: len(app.browser.query_one(LogView).events) == 199)
        await pilot.pause(0.1)
        assert "said 000" in "\n".join(screen_text(app))
        await pilot.press("G")
        await until(pilot, lambda: "said 198" in "\n".join(screen_text(app)))
        write_log(run, tuple(events))
        await until(pilot, lambda: "said 199" in "\n".join(screen_text(app)))
