from __future__ import annotations

import json
from pathlib import Path

from engramcka.tui.memory import KEPT, Memory, recall, remember, state_file


def test_what_was_left_off_comes_back_for_the_same_paths_only():
    file = state_file()
    left = Memory(run="/r", kind="cka", name="a", palette="viridis", row=3, column=4)
    remember([Path("a"), Path("b")], left, file)
    assert recall([Path("b"), Path("a")], file) == left
    assert recall([Path("a")], file) == Memory()


def test_a_broken_memory_is_no_memory(tmp_path):
    file = tmp_path / "browse.json"
    for content in ("", "[]", "{", '{"x": 3}'):
        file.write_text(content)
        assert recall([Path("a")], file) == Memory()
    known = {str(Path("a").absolute()): {"row": "3", "column": 2, "other": 1}}
    file.write_text(json.dumps(known))
    assert recall([Path("a")], file) == Memory(column=2)


def test_a_place_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    remember([Path("a")], Memory(), tmp_path / "file" / "browse.json")


def test_old_folders_are_forgotten(tmp_path):
    file = tmp_path / "browse.json"
    for index in range(KEPT + 3):
        remember([Path(str(index))], Memory(row=index + 1), file)
    assert recall([Path("0")], file) == Memory()
    assert recall([Path(str(KEPT + 2))], file).row == KEPT + 3
