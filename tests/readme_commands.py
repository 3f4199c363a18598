"""The README's commands, by name: ``python tests/readme_commands.py tests`` prints the one that runs the tests.

A command is a fenced block of ``sh`` that follows the line ``<!-- command: NAME -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def commands() -> dict[str, str]:
    """The text of each command."""
    text = README.read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- command: ([\w-]+) -->\n```sh\n(.*?)\n```", text, re.DOTALL))


if __name__ == "__main__":
    print(commands()[sys.argv[1]])
