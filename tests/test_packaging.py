"""pyproject.toml lists every package of the tree: a missing one is missing from the wheel alone."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    found = set()
    for top, prefix in (("engramcka", ""), ("tui", "engramcka."), ("sample_configs", "engramcka.")):
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT)
            if folder.parts[:2] != ("engramcka", "tui"):  # the link, on Pythons that follow it
                found.add(prefix + ".".join(folder.parts))
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == found


def test_the_link_for_static_tools_is_relative() -> None:
    link = ROOT / "engramcka" / "tui"
    assert not link.is_symlink() or str(link.readlink()) == "../tui"


def test_every_dependency_has_a_range() -> None:
    for requirement in SETTINGS["project"]["dependencies"]:
        assert ">=" in requirement, requirement
        assert ",<" in requirement, requirement


def test_constraints_are_plain() -> None:
    import re

    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
