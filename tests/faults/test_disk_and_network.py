"""A disk that is full, a network that is not there, and a long life in one process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import CONFIG, ENVIRONMENT, here, unconnected

from engramcka import cka_map, open_run
from engramcka.stores import layout, write_result
from engramcka.stores.results import open_root

COMMANDS = """
import sys
import urllib.request
from command import here
from pathlib import Path

try:
    urllib.request.urlopen("http://127.0.0.1:9/")
except AssertionError:  # so the hook is there
    pass
else:
    sys.exit("connections are not refused")
for line in sys.stdin.read().splitlines():
    done = here(*line.split(), cwd=Path(sys.argv[1]))
    if done.returncode:
        sys.exit(f"{line}: {done.stderr}")
"""


def limited(kilobytes: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command, unable to write a file larger than that."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, kilobytes << 10))

    return subprocess.run(
        [sys.executable, "-m", "engramcka", "run", "config.toml"],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=limit,
    )


def test_a_file_that_cannot_grow_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    failed = limited(512, tmp_path)  # enough for the tokenizer, too little for a model
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("engramcka: train ")
    run = tmp_path / "run"
    assert not list(run.rglob("*.safetensors"))
    assert not list(run.glob("checkpoints/.*"))
    again = here("run", "config.toml", "--only", "train", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(list(run.rglob("model.safetensors"))) == 2


def test_no_connection_is_made_unless_the_config_names_a_remote_thing(
    finished: Path, tmp_path: Path
) -> None:
    """The run itself was made in the same way; see the fixture."""
    environment = unconnected(finished)
    tests = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], tests])
    lines = [
        "check config.toml",
        "info run",
        "browse run --once",
        f"export run --what cka/self -o {tmp_path}/a.pdf",
        "models",
        "verify run",
    ]
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(finished)],
        input="\n".join(lines),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a.pdf").is_file()


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(3600)
def test_many_maps_in_one_process_leave_memory_and_files_level(
    tmp_path: Path, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from engramcka.tui import browse

    results = tmp_path / layout.RESULTS
    open_root(results)
    random = np.random.default_rng(0)
    marks = []
    count = 1000 if full else 15
    for number in range(count):
        layers = [random.normal(size=(32, 8)) for _ in range(6)]
        write_result(results, "a", cka_map(layers, layers[::-1], batch_size=16), {})
        assert open_run(tmp_path).cka["a"].similarity.shape == (6, 6)
        browse([tmp_path], once=True)
        capsys.readouterr()
        if number in (count // 3, count - 1):
            marks.append((resident(), len(os.listdir("/proc/self/fd"))))
    (memory_before, files_before), (memory_after, files_after) = marks
    with capsys.disabled():
        print(f"{count} maps: {memory_after - memory_before:+,} bytes, files {files_after} open")
    assert files_after <= files_before
    assert memory_after - memory_before < 20 << 20
