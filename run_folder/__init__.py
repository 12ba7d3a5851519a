"""The folder of a run: what is in it, by name, and what its ledger says."""

import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until a command asks for a log
