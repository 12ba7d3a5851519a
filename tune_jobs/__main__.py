"""``python -m tune_jobs``: the same as ``symptune``."""

import sys

from tune_jobs.cli import main

sys.exit(main())
