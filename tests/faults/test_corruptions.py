"""A real run with every kind of file in it: whatever happens to one file, `verify` names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import here

from engramcka.stores import layout, manifest
from engramcka.stores.verify import verify


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run, a store of half its chunks, and a state of a training under way."""
    run = tmp_path_factory.mktemp("corrupted") / "run"
    shutil.copytree(finished / "run", run)
    work = layout.work_folder(run / layout.CHECKPOINTS / "other")
    model = next((run / layout.CHECKPOINTS).glob("moe-*"))
    for part in ("state", "step-000002"):
        shutil.copytree(model, work / part, ignore=shutil.ignore_patterns(manifest.PLAIN))
        manifest.finalize(work / part)
    return run


def files(run: Path) -> list[Path]:
    """All but the text of the lock, which no one reads but whoever is refused by it."""
    there = (path for path in run.rglob("*") if path.is_file() and path.name != layout.LOCK)
    return sorted(path.relative_to(run) for path in there)


def broken(run: Path) -> list[str]:
    return [line for checked in verify(run) for line in checked.broken]


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << int(place * 1e6) % 8
    path.write_bytes(content)


def cut(path: Path, place: float) -> None:
    path.write_bytes(path.read_bytes()[: int(place * path.stat().st_size)])


def overwrite(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + 64] = bytes(value ^ 0x5A for value in content[start : start + 64])
    path.write_bytes(content)


def link(path: Path, place: float) -> None:
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    path.symlink_to(aside.name)


def pipe(path: Path, place: float) -> None:
    path.unlink()
    os.mkfifo(path)


HARM: dict[str, Callable[[Path, float], object]] = {
    "flip": flip,
    "cut": cut,
    "overwrite": overwrite,
    "empty": lambda path, place: path.write_bytes(b""),
    "delete": lambda path, place: path.unlink(),
    "link": link,
    "pipe": pipe,
}


def test_the_run_has_every_kind_of_file_and_is_whole(run: Path) -> None:
    there = {str(path) for path in files(run)}
    for name in ("config.toml", "log.jsonl", "manifest.json", "results.zarr/zarr.json"):
        assert name in there
    for kind in (".safetensors", ".png", ".pdf", ".txt", "tokenizer.json", "c/0/0/0"):
        assert any(name.endswith(kind) for name in there)
    assert broken(run) == []
    assert sum(checked.files for checked in verify(run)) == len(there)


def test_whatever_happens_to_a_file_it_is_named(run: Path, full: bool) -> None:
    there = files(run)
    count = 10_000 if full else 30
    for seed in range(count):
        if full and not seed % 500:
            print(f"{seed} corruptions named", flush=True)
        random = np.random.default_rng(seed)
        # Every file once before any comes twice.
        name = there[seed % len(there)] if full else there[random.integers(len(there))]
        how = list(HARM)[random.integers(len(HARM))]
        path = run / name
        content, stat = path.read_bytes(), path.stat()
        if not content and how in ("flip", "cut", "overwrite", "empty"):
            how = "delete"
        HARM[how](path, random.random())
        named = [line for line in broken(run) if f"{path}:" in line]
        assert named, (seed, how, name)
        assert all("\n" not in line for line in named)
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.aside").unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert broken(run) == []


@pytest.mark.parametrize(
    "gone",
    [
        "results.zarr",
        "results.zarr/cka/self",
        "results.zarr/lens",
        "activations",
        "activations/moe.zarr",
        "checkpoints",
        "checkpoints/tokenizer",
        "figures",
        "config.toml",
        "log.jsonl",
        "manifest.json",
    ],
)
def test_what_is_gone_is_named_and_the_next_run_makes_it(
    finished: Path, tmp_path: Path, gone: str
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    path = tmp_path / "run" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = here("verify", "run", cwd=tmp_path)
    assert told.returncode == 1, told.stdout
    assert f"run/{gone}" in told.stdout
    if gone in ("figures", "config.toml", "manifest.json", "results.zarr/cka/self"):
        shutil.copy(finished / "config.toml", tmp_path)
        again = here("run", "config.toml", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert here("verify", "run", cwd=tmp_path).returncode == 0


def test_a_figure_that_is_exported_over_the_runs_own_stays(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "config.toml", tmp_path)
    figure = tmp_path / "run/figures/cka-self.png"
    what = ["--what", "cka/self", "--dark", "--caption", "-o", "run/figures/cka-self.png"]
    assert here("export", "run", *what, cwd=tmp_path).returncode == 0
    mine = figure.read_bytes()
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    assert here("run", "config.toml", cwd=tmp_path).returncode == 0
    assert figure.read_bytes() == mine
    assert here("verify", "run", cwd=tmp_path).returncode == 0


def test_an_empty_or_damaged_figure_is_drawn_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copy(finished / "config.toml", tmp_path)
    figures = tmp_path / "run/figures"
    empty, flipped, kept = figures / "cka-self.png", figures / "cka-self.pdf", figures / "lens.png"
    drawn = {path: path.read_bytes() for path in (empty, flipped, kept)}
    state = kept.stat().st_mtime_ns
    empty.write_bytes(b"")
    flip(flipped, 0.5)
    assert here("verify", "run", cwd=tmp_path).stdout.count("cannot be read") == 2
    assert here("run", "config.toml", cwd=tmp_path).returncode == 0
    assert here("verify", "run", cwd=tmp_path).returncode == 0
    assert empty.read_bytes() == drawn[empty]
    assert flipped.stat().st_size == len(drawn[flipped])
    assert kept.stat().st_mtime_ns == state
