from __future__ import annotations

import json
from pathlib import Path

from engramcka.tui.session import KEPT, Session, load_session, save_session, state_file


def test_what_was_left_off_comes_back_for_the_same_paths_only():
    file = state_file()
    left = Session(run="/r", kind="cka", name="a", palette="viridis", row=3, column=4)
    save_session([Path("a"), Path("b")], left, file)
    assert load_session([Path("b"), Path("a")], file) == left
    assert load_session([Path("a")], file) == Session()


def test_a_broken_file_is_no_session(tmp_path):
    file = tmp_path / "browse.json"
    for content in ("", "[]", "{", '{"x": 3}'):
        file.write_text(content)
        assert load_session([Path("a")], file) == Session()
    known = {str(Path("a").absolute()): {"row": "3", "column": 2, "other": 1}}
    file.write_text(json.dumps(known))
    assert load_session([Path("a")], file) == Session(column=2)


def test_a_place_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    save_session([Path("a")], Session(), tmp_path / "file" / "browse.json")


def test_old_folders_are_forgotten(tmp_path):
    file = tmp_path / "browse.json"
    for index in range(KEPT + 3):
        save_session([Path(str(index))], Session(row=index + 1), file)
    assert load_session([Path("0")], file) == Session()
    assert load_session([Path(str(KEPT + 2))], file).row == KEPT + 3
