"""Packages that are there in another version than engramcka needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

from engramcka.plain_text import first_line


def out_of_bounds(error: ImportError) -> str | None:
    """What to do about an import that fails since a package is too old or too new.

    Args:
        error: of any import.

    Returns:
        A sentence; None where the package is none of ours, or within its bounds.
    """
    from packaging.requirements import Requirement

    package = (error.name or "").partition(".")[0]
    try:
        there = version(package)
        needed = [Requirement(line) for line in requires("engramcka") or ()]
    except (PackageNotFoundError, ValueError):
        return None
    for one in needed:
        if one.name == package and one.marker is None and there not in one.specifier:
            bounds = ",".join(sorted(map(str, one.specifier), reverse=True))
            return (
                f"{package} {there} is installed, and engramcka needs {bounds} "
                f"({first_line(error)}); pip install '{package}{bounds}'"
            )
    return None
