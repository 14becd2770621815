"""What is written is whole or not there, and an older one is lost only to a newer."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engramcka.atomic import atomic_path, folder_for, remove_scratch


def test_files_and_folders_appear_and_replace_their_own_kind(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_path(tmp_path / "file") as scratch:
            scratch.write_text(text)
        with atomic_path(tmp_path / "folder") as scratch:
            scratch.mkdir()
            (scratch / text).touch()
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_block_that_fails_leaves_the_old_and_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail() -> None:
        with atomic_path(tmp_path / "file") as scratch:
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
        with atomic_path(tmp_path / "folder") as scratch:
            scratch.write_text("file")

    with pytest.raises(OSError, match="folder"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "precious"]


def leave_scratch(place: Path, ends: str) -> subprocess.Popen[str]:
    """A process that fills a scratch, and then does what it is told when it is told."""
    code = """
import sys
from pathlib import Path
from engramcka.atomic import atomic_path
with atomic_path(Path(sys.argv[1]) / "result") as scratch:
    scratch.mkdir()
    (scratch / "half").touch()
    print("begun", flush=True)
    sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    if ends == "killed":
        process.kill()
        process.wait()
    return process


def test_what_a_killed_process_left_is_removed_at_every_depth(tmp_path: Path) -> None:
    deep = tmp_path / "activations" / "a.zarr" / "written"
    deep.mkdir(parents=True)
    for place in (tmp_path, deep):
        leave_scratch(place, "killed")
    (tmp_path / ".0123456789ab.tmp").mkdir()  # killed before it held it
    (tmp_path / ".mine.tmp").mkdir()  # no scratch of ours
    (tmp_path / "log.jsonl").touch()
    remove_scratch(tmp_path, deep=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".mine.tmp",
        "activations",
        "log.jsonl",
    ]
    assert len(list(deep.iterdir())) == 1
    remove_scratch(tmp_path)
    assert not list(deep.iterdir())


def test_what_a_living_process_fills_is_left_alone(tmp_path: Path) -> None:
    process = leave_scratch(tmp_path, "lives")
    remove_scratch(tmp_path)
    process.communicate("go on\n")
    assert process.returncode == 0
    assert [path.as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        f"{tmp_path}/result/half"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_where_there_are_no_locks_a_day_must_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    leave_scratch(tmp_path, "killed")
    monkeypatch.setattr(fcntl, "flock", none_here)
    remove_scratch(tmp_path)
    (scratch,) = tmp_path.iterdir()
    for path in (scratch, *scratch.rglob("*")):
        os.utime(path, (0, 0))
    with atomic_path(tmp_path / "file") as other:
        remove_scratch(tmp_path)
        other.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_makers_and_removers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    """Between making a scratch and locking it lies a moment; makers that lose it begin again."""
    code = """
import sys
from pathlib import Path
from engramcka.atomic import remove_scratch
while not Path(sys.argv[1], "stop").exists():
    remove_scratch(Path(sys.argv[1]))
"""
    removers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for number in range(100):
        with atomic_path(tmp_path / "file") as scratch:
            scratch.write_text(str(number))
        assert (tmp_path / "file").read_text() == str(number)
    (tmp_path / "stop").touch()
    for process in removers:
        assert process.communicate(timeout=60) == (None, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "stop"]


def test_an_error_names_what_was_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "none" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "file")

    def write_to_a_folder() -> None:
        with atomic_path(tmp_path / "folder") as scratch:
            (scratch / "inside").mkdir(parents=True)
            (scratch / "inside").write_text("")

    with pytest.raises(IsADirectoryError) as raised:
        write_to_a_folder()
    assert raised.value.filename == str(tmp_path / "folder" / "inside")


def test_a_folder_that_was_made_goes_again_if_its_block_fails(tmp_path: Path) -> None:
    def fail(folder: Path, name: str = "") -> None:
        with folder_for(folder):
            if name:
                (folder / name).touch()
            raise RuntimeError

    (tmp_path / "before").mkdir()
    for folder in (tmp_path / "before" / "new" / "deep", tmp_path / "before"):
        with pytest.raises(RuntimeError):
            fail(folder)
        assert [path.name for path in tmp_path.rglob("*")] == ["before"]
    with pytest.raises(RuntimeError):
        fail(tmp_path / "a" / "b", "somebody's")
    assert (tmp_path / "a" / "b" / "somebody's").exists()
