"""python -m dgtalker COMMAND ..."""

import sys

from dgtalker.cli import main

if __name__ == "__main__":
    sys.exit(main())
