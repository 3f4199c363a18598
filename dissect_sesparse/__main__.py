"""``python -m dissect_sesparse``."""

import sys

from dissect_sesparse.cli import main

if __name__ == "__main__":
    sys.exit(main())
