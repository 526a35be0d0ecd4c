"""Starts the studio, as `python -m dgtalker studio` does; a file of its own because a Space runs one."""

import sys

from dgtalker.cli import main

if __name__ == "__main__":
    sys.exit(main(["studio", *sys.argv[1:]]))
