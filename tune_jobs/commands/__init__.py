"""What each command does: a function of the command's name, given the parsed options; it returns the exit code."""
