"""`python -m exports CHECKPOINT --name digits` and `python -m exports verify digits`."""

import sys

from exports.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
