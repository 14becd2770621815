"""What every test shares: quiet libraries, few threads, no network."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full``: the fault suite at the counts that docs/reliability.md states."""
    parser.addoption("--full", action="store_true", help="fault tests in full, for hours")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the fault tests run in full."""
    return bool(request.config.getoption("--full"))
