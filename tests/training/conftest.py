"""The tokenizer of the small trainings."""

from typing import Any

import pytest
from once import small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return small_tokenizer()
