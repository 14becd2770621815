"""What is written is whole or not there, and an older one is lost only to a newer."""

from pathlib import Path

import pytest

from engramcka.whole import remove_scratch, whole


def test_files_and_folders_appear_and_replace_their_own_kind(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole(tmp_path / "file") as scratch:
            scratch.write_text(text)
        with whole(tmp_path / "folder") as scratch:
            scratch.mkdir()
            (scratch / text).touch()
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_block_that_fails_leaves_the_old_and_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail() -> None:
        with whole(tmp_path / "file") as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_never_takes_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()

    def write() -> None:
        with whole(tmp_path / "folder") as scratch:
            scratch.write_text("file")

    with pytest.raises(OSError, match="folder"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "precious"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".1.tmp", "checkpoints/.2.tmp", ".3.old"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".4.tmp").touch()
    (tmp_path / "log.jsonl").touch()
    remove_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoints", "log.jsonl"]
