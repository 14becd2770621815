"""Short by default; ``pytest tests/faults --full`` runs the counts of docs/reliability.md."""

from __future__ import annotations

import pytest
from hypothesis import settings


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("short", max_examples=100, deadline=None)
    settings.register_profile("full", max_examples=3000, deadline=None)
    settings.load_profile("full" if config.getoption("--full", False) else "short")
