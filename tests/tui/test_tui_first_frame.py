"""What is drawn before anything is imported is what the app then draws, cell by cell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import diagonal_map, settle

from engramcka.results import CkaMap
from engramcka.stores import read_cka, write_cka
from engramcka.stores.results import open_root
from engramcka.tui.catalog import find_places
from engramcka.tui.first_frame import _entry, _suits, crc32c, frame, read_similarity
from engramcka.tui.memory import Memory

FIRST_IMPORTS = """
import sys
from pathlib import Path
from engramcka.tui import memory
from engramcka.tui.catalog import find_places
from engramcka.tui.first_frame import _entry, frame

places = find_places([Path("paper")])
drawn = frame(_entry(places, memory.Memory()), memory.Memory(), 100, 30)
heavy = ("numpy", "textual", "rich", "zarr", "torch", "transformers", "matplotlib", "asyncio")
print("drawn" if "\\u2580" in drawn else "empty", [name for name in heavy if name in sys.modules])
"""


CURSOR = (0xFF, 0x4F, 0xD8)  # in viridis


def colours_of(text):
    """(line, character) -> (upper colour, lower colour) of what escape sequences put there."""
    found = {}
    for line, x, rest in re.findall(r"\x1b\[(\d+);(\d+)H([^H]*?)(?=\x1b\[\d+;\d+H|$)", text):
        at, fore, back = int(x) - 1, None, None
        for code, character in re.findall(r"\x1b\[([\d;]*)m|([▀▄])", rest):
            if not character:
                parts = [int(part) for part in code.split(";")]
                if parts[0] == 38:
                    fore = tuple(parts[2:])
                elif parts[0] in (48, 49):
                    back = tuple(parts[2:]) or None
                continue
            pair = (fore, back) if character == "▀" else (None, fore)
            found[int(line) - 1, at] = pair
            at += 1
    return found


def colours_on_screen(app):
    found = {}
    for y, strip in enumerate(app.screen._compositor.render_strips()):
        x = 0
        for text, style, _ in strip:
            for character in text:
                if style and style.bgcolor and character in " ▀":
                    lower = tuple(style.bgcolor.get_truecolor())
                    upper = tuple(style.color.get_truecolor()) if character == "▀" else lower
                    found[y, x] = (upper, lower)
                x += 1
    return found


def write_map(name, cka):
    run = Path(name)
    run.mkdir(exist_ok=True)
    open_root(run / "results.zarr")
    write_cka(run / "results.zarr", "m", cka, {})
    return run


def some_map(rows, columns):
    values = diagonal_map(rows, columns).similarity.copy()
    values[0, -1] = np.nan
    return CkaMap(values)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((12, 12), (100, 30)), ((9, 7), (80, 24)), ((12, 12), (40, 12)), ((30, 30), (160, 40)),
        ((60, 50), (100, 30)), ((7, 9), (120, 15)),
    ],
)  # fmt: skip
async def test_it_is_what_the_app_draws(apart, make_app, shape, size):
    run = write_map("run", some_map(*shape))
    left = Memory(str((run / "results.zarr").absolute()), "cka", "m", "viridis", "dark", 3, 5)
    (place,) = find_places([run])
    drawn = colours_of(frame(_entry([place], left), left, *size))
    app = make_app(run, memory=left)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.browser.map.action_alignment()
        await pilot.pause()
        shown = colours_on_screen(app)
    assert len(drawn) > 100
    wrong = {
        at: (pair, shown.get(at))
        for at, pair in drawn.items()
        if any(a is not None and a != b != CURSOR for a, b in zip(pair, shown[at], strict=True))
    }
    assert not wrong


def test_nothing_but_the_standard_library_is_imported(run):
    command = [sys.executable, "-c", FIRST_IMPORTS]
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.stdout.strip() == "drawn []", done.stdout + done.stderr


def test_it_reads_what_zarr_reads(run):
    rows, columns, values = read_similarity(run / "results.zarr" / "cka" / "later")
    stored = read_cka(run / "results.zarr", "later").similarity
    np.testing.assert_array_equal(np.array(values).reshape(rows, columns), stored)


@pytest.mark.parametrize("damage", ["bit", "version", "missing", "chunked", "large"])
def test_what_is_not_plain_is_left_to_the_app(run, damage):
    group = run / "results.zarr" / "cka" / "later"
    chunk = group / "similarity" / "c" / "0" / "0"
    if damage == "bit":
        content = bytearray(chunk.read_bytes())
        content[100] ^= 1
        chunk.write_bytes(content)
    elif damage == "version":
        text = (group / "zarr.json").read_text()
        (group / "zarr.json").write_text(re.sub(r'_version": \d', '_version": 9', text))
    elif damage == "missing":
        chunk.unlink()
    else:
        path = group / "similarity" / "zarr.json"
        meta = json.loads(path.read_text())
        if damage == "chunked":
            meta["chunk_grid"]["configuration"]["chunk_shape"] = [6, 12]
        else:
            meta["shape"] = meta["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 10**6]
        path.write_text(json.dumps(meta))
    with pytest.raises(Exception, match=r"."):
        read_similarity(group)


@given(st.binary(max_size=300))
def test_the_checksum_is_the_stores(content):
    assert crc32c(content) == google_crc32c.value(content)


@pytest.mark.parametrize(
    ("environ", "suits"),
    [
        ({"COLORTERM": "truecolor", "TERM": "xterm", "LANG": "C.UTF-8"}, True),
        ({"COLORTERM": "truecolor", "TERM": "xterm"}, True),
        ({"COLORTERM": "truecolor", "TERM": "xterm", "NO_COLOR": ""}, False),
        ({"COLORTERM": "truecolor", "TERM": "dumb"}, False),
        ({"COLORTERM": "truecolor", "TERM": "xterm", "LANG": "C"}, False),
        ({"TERM": "xterm-256color"}, False),
    ],
)
def test_only_terminals_that_surely_show_it(environ, suits):
    assert _suits(environ) == suits
