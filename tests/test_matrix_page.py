"""docs/matrix.md: its code runs, and its tables are tables of a config."""

import json
import re
import tomllib
from pathlib import Path

from engramcka.config import MatrixTable

PAGE = (Path(__file__).parents[1] / "docs" / "matrix.md").read_text()


def test_the_code_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/matrix.md", "exec"), {})


def test_the_tables_are_tables() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        (table,) = tomllib.loads(block)["matrix"]
        assert MatrixTable.model_validate_json(json.dumps(table)).result_name == "cka"
