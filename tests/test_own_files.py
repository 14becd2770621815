"""Only regular files are opened, and no link below the folder that they belong to is followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from engramcka import own_files

ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a pipe, no file"),
    "folder": (Path.mkdir, "a folder, no file"),
    "link": (lambda path: path.symlink_to("file"), "a link"),
    "dangling link": (lambda path: path.symlink_to("nothing"), "a link"),
    "socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "a socket, no file"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_regular_file_is_neither_read_nor_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    Path("file").write_bytes(b"kept")
    make, told = ODD[name]
    odd = Path("odd")
    make(odd)
    assert not own_files.is_regular(odd)
    for attempt in (
        lambda: own_files.open_regular(odd),
        lambda: own_files.read_regular(odd, 10),
        lambda: own_files.open_descriptor(odd, os.O_RDWR | os.O_CREAT),
        lambda: own_files.open_descriptor(odd, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        with pytest.raises(OSError, match=told):
            attempt()
    assert Path("file").read_bytes() == b"kept"
    assert not Path("nothing").exists()


def test_a_device_is_not_opened() -> None:
    with pytest.raises(OSError, match="a device, no file"):
        own_files.open_regular(Path("/dev/null"))


def test_a_link_on_the_way_is_refused_but_not_above_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/inner/file").write_bytes(b"abc")
    (tmp_path / "alias").symlink_to("real")
    run = tmp_path / "alias"
    assert own_files.read_regular(run / "inner/file", 3, within=run) == b"abc"
    (tmp_path / "real/shortcut").symlink_to("inner")
    with pytest.raises(OSError, match="shortcut"):
        own_files.read_regular(run / "shortcut/file", 3, within=run)
    with pytest.raises(OSError, match="not in"):
        own_files.read_regular(tmp_path / "real/inner/file", 3, within=run)


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)
    assert len(own_files.read_regular(path, 11)) == 11
    with pytest.raises(OSError, match="11 bytes, more than"):
        own_files.read_regular(path, 10)


def test_a_file_is_made_where_that_is_asked_for(tmp_path: Path) -> None:
    descriptor = own_files.open_descriptor(tmp_path / "new", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"a")
    os.close(descriptor)
    assert own_files.is_regular(tmp_path / "new")
    with pytest.raises(FileNotFoundError):
        own_files.open_descriptor(tmp_path / "other", os.O_RDWR)
