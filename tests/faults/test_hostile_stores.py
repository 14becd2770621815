"""Stores from strangers: refused in one sentence, in bounded memory, with nothing executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import here

from engramcka import open_run
from engramcka.errors import StoreError
from engramcka.results import CkaMap
from engramcka.stores import layout, write_result
from engramcka.stores.results import open_root

MAP = "results.zarr/cka/a"
Change = Callable[[Path], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with one map."""
    run = tmp_path / "run"
    run.mkdir()
    open_root(run / layout.RESULTS)
    write_result(run / layout.RESULTS, "a", CkaMap(np.eye(3)), {})
    return run


def metadata(change: Callable[[dict[str, Any]], Any], array: str = "similarity") -> Change:
    """Change a zarr.json of the map."""

    def apply(run: Path) -> None:
        path = run / MAP / array / "zarr.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def attribute(**values: Any) -> Change:
    return metadata(lambda content: content["attributes"].update(values), ".")


def grid(shape: list[int], chunk: list[int]) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["shape"] = shape
        content["chunk_grid"]["configuration"]["chunk_shape"] = chunk

    return metadata(change)


def raw(text: str) -> Change:
    return lambda run: (run / MAP / "zarr.json").write_text(text) and None


def link(run: Path) -> None:
    shutil.move(run / MAP, run.parent / "elsewhere")
    (run / MAP).symlink_to(run.parent / "elsewhere")


HOSTILE: dict[str, Change] = {
    "giant shape": grid([10**9, 10**9], [3, 3]),
    "giant chunk": grid([10**6, 10**6], [10**6, 10**6]),
    "countless chunks": grid([10**6, 10**6], [1, 1]),
    "negative shape": grid([-3, 3], [3, 3]),
    "shape of another size": grid([3, 4], [3, 4]),
    "deep lists": raw("[" * 200_000 + "]" * 200_000),
    "deep attributes": raw('{"attributes":' * 20_000 + "1" + "}" * 20_000),
    "endless metadata": raw('{"a": "' + "x" * (17 << 20) + '"}'),
    "not JSON": raw("\x00\xff"),
    "objects": metadata(lambda content: content.update(data_type="object")),
    "pickle codec": metadata(lambda content: content.update(codecs=[{"name": "pickle"}])),
    "numcodecs pickle": metadata(
        lambda content: content.update(codecs=[{"name": "numcodecs.pickle"}])
    ),
    "a zip bomb's codec": metadata(
        lambda content: content.update(
            codecs=[
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "gzip", "configuration": {"level": 9}},
            ]
        )
    ),
    "a label that is a table": attribute(y_label={"a": 1}),
    "a label without end": attribute(y_label="x" * 1_000_000),
    "warnings that are a number": attribute(warnings=7),
    "a sample count that is text": attribute(n_samples="many"),
    "a future version": attribute(engramcka_version=99),
    "another type": attribute(engramcka_type="sweep"),
    "a link out of the run": link,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_store_is_refused_in_one_sentence(run: Path, name: str) -> None:
    HOSTILE[name](run)
    with pytest.raises(StoreError) as refused:
        open_run(run).cka["a"]
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "name", ["giant shape", "pickle codec", "deep lists", "a link out of the run"]
)
@pytest.mark.parametrize("command", [["info"], ["browse", "--once"]])
def test_the_commands_say_it_too(run: Path, name: str, command: list[str]) -> None:
    HOSTILE[name](run)
    result = here(command[0], str(run), *command[1:], cwd=run.parent)
    assert "Traceback" not in result.stderr + result.stdout
    assert result.returncode in (0, 1, 2)
    assert result.returncode or "cannot be read" in result.stdout + result.stderr


def test_names_cannot_write_to_the_terminal(run: Path) -> None:
    name = "\x1b]0;owned\x07[red]‮evil"
    write_result(run / layout.RESULTS, "b", CkaMap(np.eye(3), y_label=name, x_label=name), {})
    for command in (["info", "run"], ["info", "run", "--json"], ["browse", "run", "--once"]):
        result = here(*command, cwd=run.parent)
        assert result.returncode == 0, result.stderr
        assert "\x1b]0;" not in result.stdout
        assert "\x07" not in result.stdout
