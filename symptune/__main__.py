"""``symptune`` and ``python -m symptune``: the command line."""

import sys

from tune_jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
