"""Every call that touches a file fails once: one line, nothing half-written, and it goes on.

The real command under a layer (faulty.c) that lets the N-th call of a kind fail, whoever makes it:
Python, zarr, safetensors in Rust, matplotlib or torch in C++.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command import importing

pytestmark = [pytest.mark.xdist_group("faulty"), pytest.mark.timeout(36_000)]

HERE = Path(__file__).parent
KINDS = (
    *("open", "create", "read", "write", "rename", "mkdir"),
    *("unlink", "link", "truncate", "stat", "list", "lock"),
)
REASONS = [
    getattr(errno, f"E{name}")
    for name in (
        *("ACCES", "PERM", "NOSPC", "IO", "ROFS", "MFILE", "NAMETOOLONG", "NOTDIR", "ISDIR"),
        *("LOOP", "DQUOT", "STALE", "TIMEDOUT", "BUSY", "NFILE", "NOMEM", "INVAL", "XDEV"),
    )
]
CONFIG = """
[run]
dir = "run"

[data]
documents = 60
samples = 24
per_document = 5
passage_length = 64
vocabulary = 300

[models.moe]
source = "train"

[training]
steps = 2
save_every = 1
batch_size = 2
sequence_length = 16
warmup_steps = 1
validation_sequences = 2
checkpoints = [1]

[[cka]]
name = "self"
y = "moe"
x = "moe"
batch_size = 16

[[lens]]
models = ["moe"]
"""
STAGES = ("tokenizer", "train", "extract", "cka", "lens", "figures")
OTHERS = (
    "info run",
    "verify run",
    "browse run --once",
    "export run --what lens -o new/a.pdf",
    "export run --what cka/self -o a.csv",
    "init a.toml",
    "init --template paper paper",
    "import map.npy --as cka --into run",
    "import map.npy --as cka --into new/run",
)

SHORT = ("run config.toml --only tokenizer", *OTHERS[-4:])


@dataclass(frozen=True)
class Done:
    """What a command did: its exit code and what it said."""

    code: int
    out: str
    errors: str


class Faulty:
    """Forks of the command in which a call may fail."""

    def __init__(self, folder: Path) -> None:
        self._counts, self._told = folder / "counts", folder / "told"
        shim = folder / "faulty.so"
        flags = ["-shared", "-fPIC", "-O1", "-o", str(shim), str(HERE / "faulty.c"), "-ldl"]
        subprocess.run(["cc", *flags], check=True)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forking.py")],
            env={**importing(HERE.parent), "LD_PRELOAD": str(shim)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, command: str, folder: Path, **fault: object) -> Done:
        """A command where ``folder`` is the faulty one."""
        for file in (self._counts, self._told):
            file.unlink(missing_ok=True)
        layer = {
            "FAULTY_ROOT": str(folder),
            "FAULTY_COUNTS": str(self._counts),
            "FAULTY_TOLD": str(self._told),
            **{f"FAULTY_{key.upper()}": str(value) for key, value in fault.items()},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command.split(), str(folder), layer]) + "\n")
        self._process.stdin.flush()
        return Done(*self._answer())

    @property
    def counts(self) -> dict[str, int]:
        """Calls of each kind of the last command."""
        found = struct.unpack(f"{len(KINDS)}q", self._counts.read_bytes())
        return dict(zip(KINDS, found, strict=True))

    @property
    def failed(self) -> str:
        """The call of the last command that failed."""
        return self._told.read_text().splitlines()[0] if self._told.exists() else ""

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _answer(self) -> list[object]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to make the faulty file layer with")
    layer = Faulty(tmp_path_factory.mktemp("layer"))
    yield layer
    layer.close()


@dataclass(frozen=True)
class Case:
    """A command, a folder to begin in, and what is there when it has ended well."""

    command: str
    start: Path
    end: dict[str, bytes]
    counts: dict[str, int]


def content(folder: Path) -> dict[str, bytes]:
    """Names of all that a folder holds, with the bytes of arrays and weights."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_data = "/c/" in name or path.suffix in (".safetensors", ".csv")
        # An inventory that an import could not take is taken by the next run.
        if path.name not in ("log.jsonl", ".lock") and name != "run/manifest.json":
            found[name] = path.read_bytes() if is_data and path.is_file() else b""
    return found


@pytest.fixture(scope="module")
def cases(faulty: Faulty, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Each command once without faults."""
    base = tmp_path_factory.mktemp("cases")
    now = base / "now"
    now.mkdir()
    (now / "config.toml").write_text(CONFIG)
    np.save(now / "map.npy", np.eye(4))
    found = []
    stages = [f"run config.toml --only {stage}" for stage in STAGES]
    for number, command in enumerate([*stages, "run config.toml", *OTHERS]):
        start = base / f"start{number}"
        shutil.copytree(now, start)
        if command == "run config.toml":  # something of all that is fast to make
            for name in ("results.zarr/lens/moe", "results.zarr/training/moe", "config.toml"):
                path = start / "run" / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        work = base / "work"
        shutil.copytree(start, work)
        done = faulty.run(command, work)
        assert done.code == 0, f"{command}: {done.errors}"
        found.append(Case(command, start, content(work), faulty.counts))
        if command in stages:
            shutil.rmtree(now)
            shutil.copytree(work, now)
        shutil.rmtree(work)
    return found


def try_fault(
    faulty: Faulty, case: Case, folder: Path, kind: str, nth: int, reason: int, **more: object
) -> int:
    """One fault: how the command ended, and that it is none the worse for it the next time."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(case.start, folder)
    before = content(folder)
    done = faulty.run(case.command, folder, kind=kind, nth=nth, errno=reason, **more)
    what = f"{case.command}: {errno.errorcode[reason]} at {kind} {nth} of {case.counts[kind]}"
    told = f"{what} ({faulty.failed}): {done.code}\n{done.out[-400:]}\n{done.errors[-3000:]}"
    # Where scratch cannot be deleted it stays, until the next run.
    is_cleaning = kind == "unlink" or (kind in ("stat", "open", "list") and ".tmp" in faulty.failed)
    assert done.code in (0, 1, 2), told
    assert "Traceback" not in done.errors, told
    assert "Exception ignored" not in done.errors, told
    if done.code:
        last = (done.errors.splitlines() or [""])[-1]
        found_broken = case.command.startswith("verify") and "broken" in done.out
        assert last.startswith("engramcka: ") or found_broken, told
        if not case.command.startswith("run") and not is_cleaning:
            into_a_run = case.command.endswith("--into run")
            assert into_a_run or set(content(folder)) <= set(before), told
    elif not case.command.startswith("run"):
        assert content(folder).keys() == case.end.keys() or is_cleaning, told
    if done.code or case.command.startswith("run"):
        again = faulty.run(case.command, folder)
        assert again.code == 0, f"{told}\nand then: {again.code} {again.errors[-3000:]}"
        ours = {name for name in content(folder) if ".tmp" not in name or not is_cleaning}
        assert ours == set(case.end), (told, sorted(ours ^ set(case.end)))
    assert case.end.items() <= content(folder).items(), told
    return done.code


def test_any_call_may_fail(faulty: Faulty, cases: list[Case], tmp_path: Path, full: bool) -> None:
    draw = random.Random(3)
    places = [
        (case, kind, nth)
        for case in cases
        for kind in KINDS
        for nth in spread(case.counts[kind], 40 if full else 3)
    ]
    if not full:
        places = draw.sample(places, 6)
    codes: Counter[tuple[str, int]] = Counter()
    wrong = []
    for number, (case, kind, nth) in enumerate(places):
        for turn in range(2 if full else 1):
            reason = REASONS[(5 * number + 7 * turn) % len(REASONS)]
            try:
                code = try_fault(faulty, case, tmp_path / "faulty", kind, nth, reason)
                codes[kind, code] += 1
            except AssertionError as error:
                wrong.append(str(error))
    total = Counter(code for (_, code), count in codes.items() for _ in range(count))
    print(f"{sum(total.values())} faults, by exit code: {dict(total)}; {dict(codes)}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n\n".join(wrong[:40])
    assert total[1] > len(places) // 4


def spread(count: int, most: int) -> list[int]:
    """At most so many numbers from 1 to a count, evenly."""
    return sorted(
        {1 + (count - 1) * step // max(1, most - 1) for step in range(most)} if count else ()
    )


@pytest.mark.parametrize("kind", ["create", "write", "mkdir"])
def test_a_disk_that_is_full_from_the_start(
    faulty: Faulty, cases: list[Case], tmp_path: Path, kind: str, full: bool
) -> None:
    if not full and kind != "create":
        pytest.skip("with --full")
    writing = [case for case in cases if case.counts[kind]]
    if not full:  # the start of a run, an import, an init, an export
        writing = [case for case in writing if case.command in SHORT]
    for case in writing:
        code = try_fault(faulty, case, tmp_path / "full", kind, 1, errno.ENOSPC, on=1)
        assert code == 1, case.command


def test_a_file_system_without_locks(
    faulty: Faulty, cases: list[Case], tmp_path: Path, full: bool
) -> None:
    for case in cases:
        if case.counts["lock"] and (full or case.command in SHORT):
            code = try_fault(faulty, case, tmp_path / "work", "lock", 1, errno.ENOLCK, on=1)
            assert code == 0, case.command
