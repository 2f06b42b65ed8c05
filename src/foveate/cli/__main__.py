"""`python -m foveate.cli`, for where the script `foveate` is not on the path."""

import sys

from foveate.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
