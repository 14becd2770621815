"""What each door of the package loads: the heavy libraries wait until they are needed."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "zarr", "matplotlib", "textual")


@pytest.mark.parametrize(
    ("code", "free_of"),
    [
        ("import engramcka", (*HEAVY, "numpy", "importlib.abc")),
        ("import engramcka.cli", HEAVY),
        (
            "from typer.testing import CliRunner; from engramcka.cli.app import app;"
            " assert CliRunner().invoke(app, ['--help']).exit_code == 0",
            HEAVY,
        ),
        ("import engramcka.tui", HEAVY),
        ("import engramcka.stores.run, engramcka.figures.tables", ("zarr", "matplotlib", "torch")),
        ("import engramcka.tui.app", ("torch", "transformers", "zarr", "matplotlib")),
        ("import engramcka.pipeline", ("torch", "transformers", "matplotlib", "textual")),
        ("import engramcka.stores, engramcka.figures", ("torch", "transformers", "textual")),
    ],
)
def test_imports_are_lazy(code: str, free_of: tuple[str, ...]) -> None:
    check = f"{code}\nimport sys; print(*sorted(set({free_of!r}) & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_importing_engramcka_leaves_the_import_system_alone() -> None:
    """A hook of ours once made the first import of a model class of transformers circular."""
    code = (
        "import sys; before = list(sys.meta_path), list(sys.path_hooks);"
        "import engramcka, engramcka.models;"
        "assert before == (sys.meta_path, sys.path_hooks), sys.meta_path"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("package", ["", ".figures", ".models", ".results", ".stores"])
def test_every_name_of_a_stub_is_there(package: str) -> None:
    face = importlib.import_module(f"engramcka{package}")
    assert len(face.__all__) == len(set(face.__all__)) > 4
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        face.nothing  # noqa: B018


def test_modules_of_ours_are_named_by_text_in_one_place() -> None:
    """Elsewhere an import by text is an arrow that import-linter does not see."""
    found = [
        path.relative_to(ROOT).as_posix()
        for top in ("engramcka", "tui")
        for path in sorted((ROOT / top).rglob("*.py"))
        if re.search(r"import_module\(|__import__\(", path.read_text())
    ]
    assert [name for name in found if not name.startswith("engramcka/tui/")] == [
        "engramcka/models/loading.py",  # a user's own function, from the file that a config names
        "engramcka/results/base.py",  # the modules of a kind
        "engramcka/serialization.py",  # the class of what another rank sends
    ]
