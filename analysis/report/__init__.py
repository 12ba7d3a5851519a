"""The report of a run: its page, its tables and its figures."""

import logging

# Where no folder of settings can be written (a home that is read-only), it says so in two lines and needs none.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
