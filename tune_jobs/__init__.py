"""Command line, preparation, and the search on Ray."""

import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until a command asks for a log
