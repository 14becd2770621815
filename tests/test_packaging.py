"""pyproject.toml lists every package of the tree: a missing one is missing from the wheel alone."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

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


def versions(name: str) -> dict[str, Version]:
    """What a constraints file holds: plain lines, which no index, option or comment stands in."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
        package, version = line.split("==")
        found[canonicalize_name(package)] = Version(version)
    return found


def test_constraints_are_plain_and_within_the_bounds() -> None:
    usual, newest = versions("constraints.txt"), versions("constraints-newest.txt")
    assert usual["torch"] == newest["torch"]
    for text in SETTINGS["project"]["dependencies"]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert usual[name] in requirement.specifier, text
        assert newest[name] in requirement.specifier, text
        assert usual[name] <= newest[name], text


def test_upper_bounds_end_where_was_tested() -> None:
    """At the minor version in constraints-newest.txt; torch, too large for CI, by hand."""
    newest = versions("constraints-newest.txt")
    for text in SETTINGS["project"]["dependencies"]:
        requirement = Requirement(text)
        if requirement.name != "torch":
            major, minor = newest[canonicalize_name(requirement.name)].release[:2]
            assert f"{major}.{minor + 1}" not in requirement.specifier, text
