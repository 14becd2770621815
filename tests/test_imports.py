"""What each door of the package loads: the heavy libraries wait until they are needed."""

import subprocess
import sys

import pytest

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


def test_public_names_are_there() -> None:
    import engramcka

    assert set(engramcka.__all__) <= set(dir(engramcka))
    for name in engramcka.__all__:
        assert getattr(engramcka, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engramcka.nothing  # noqa: B018
