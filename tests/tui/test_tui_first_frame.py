"""What is drawn before anything is imported is what the app then draws, cell by cell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.color import Color, ColorSystem
from small_runs import diagonal_map, settle

from engramcka.results import CkaMap
from engramcka.stores import read_cka, write_cka
from engramcka.stores.results import open_root
from engramcka.tui.capabilities import Capabilities
from engramcka.tui.catalog import find_places
from engramcka.tui.first_frame import _entry, frame, nearest_of_256, read_similarity
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


def characters_of(text):
    """(line, character) -> what escape sequences put there."""
    found = {}
    for line, x, rest in re.findall(r"\x1b\[(\d+);(\d+)H([^\x1b]*)", text):
        found |= {(int(line) - 1, int(x) - 1 + i): c for i, c in enumerate(rest)}
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


@pytest.mark.parametrize(
    "known", [Capabilities("16"), Capabilities("none"), Capabilities("true", ascii=True)]
)
async def test_without_half_blocks_it_is_the_apps_shades(apart, make_app, known):
    run = write_map("run", some_map(12, 12))
    left = Memory(str((run / "results.zarr").absolute()), "cka", "m", row=3, column=5)
    (place,) = find_places([run])
    drawn = characters_of(frame(_entry([place], left), left, 100, 30, known))
    app = make_app(run, memory=left, capabilities=known)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.browser.map.action_alignment()
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        shown = ["".join(segment.text for segment in strip) for strip in strips]
    other = {at for at, c in drawn.items() if shown[at[0]][at[1]] != c}
    assert len(drawn) > 100
    assert len(set(drawn.values())) > 4
    assert len(other) <= 8  # brackets around the cell under the cursor


def test_256_colours_are_those_that_rich_takes():
    random = np.random.default_rng(0)
    for red, green, blue in random.integers(0, 256, (500, 3)).tolist():
        found = Color.from_rgb(red, green, blue).downgrade(ColorSystem.EIGHT_BIT)
        assert nearest_of_256((red, green, blue)) == found.number


def test_256_colours_stand_where_24_bit_colours_do(run):
    (place,) = find_places([run])
    entry = _entry([place], Memory())
    true, fewer = (
        frame(entry, Memory(), 100, 30, Capabilities(colours)) for colours in ("true", "256")
    )
    expected = re.sub(
        r"8;2;(\d+);(\d+);(\d+)m",
        lambda found: f"8;5;{nearest_of_256(tuple(map(int, found.groups())))}m",
        true,
    )
    assert fewer == expected
    assert "8;2;" not in fewer


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
