"""Print a command of the README: the code block that follows a marker comment.

``python .ci/readme_command.py tests`` finds ``<!-- command: tests -->``, so that what CI runs and
what the README tells people cannot differ.
"""

import re
import sys
from pathlib import Path

name = sys.argv[1]
readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
found = re.search(rf"<!-- command: {re.escape(name)} -->\s*```\w*\n(.*?)```", readme, re.DOTALL)
if found is None:
    sys.exit(f"README.md has no command marked {name!r}")
print(found[1].strip())
