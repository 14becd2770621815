"""docs/robustness.md: its code runs, and its tables are tables of a config."""

import json
import re
import tomllib
from pathlib import Path

from engramcka.config import RobustnessTable

PAGE = (Path(__file__).parents[1] / "docs" / "robustness.md").read_text()


def test_the_code_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/robustness.md", "exec"), {})


def test_the_tables_are_tables() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    ways = []
    for block in blocks:
        (table,) = tomllib.loads(block)["robustness"]
        ways.append(len(RobustnessTable.model_validate_json(json.dumps(table)).ways))
    assert ways == [10, 14, 14]
