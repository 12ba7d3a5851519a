"""The one error that a user's bad input raises."""


class InputError(ValueError):
    """Bad input: the message names the file, row or option at fault and the mend, in one line."""
