"""Where a result comes from: package versions, the code's commit, the machine.

Reads what is installed without importing it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("engramcka", "numpy", "tokenizers", "torch", "transformers", "zarr")


def versions() -> dict[str, str]:
    """Version of Python and of every package that can change a number."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit(folder: Path) -> str | None:
    """Commit of the git checkout that holds a folder, `-dirty` if it has changes; None if none."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None


def digest(inputs: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that stand for a JSON value."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
