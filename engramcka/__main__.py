"""The command's first lines, for ``python -m engramcka`` and the ``engramcka`` script alike.

Signals are taken before anything else is imported: from here on one ends the command quietly.
"""

from __future__ import annotations

import sys

from engramcka import stopping


def main() -> None:
    """Run the command; ends the process."""
    stopping.begin(is_run=sys.argv[1:2] == ["run"])
    try:
        from engramcka.cli import main as command

        command()
    except KeyboardInterrupt:  # between two commands' own lines
        sys.exit(stopping.INTERRUPTED)
    finally:
        stopping.end()


if __name__ == "__main__":
    main()
