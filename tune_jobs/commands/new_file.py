"""Where a command may write a file that the user names."""

from collections.abc import Sequence
from pathlib import Path

from run_folder.errors import InputError, Problem, quoted


def new_file(name: str, field: str, endings: Sequence[str], *, overwrite: bool) -> Path:
    """The path of a file to write.

    Args:
        field: the option that names it, for errors.
        overwrite: whether it may exist.

    Raises:
        InputError: it has another ending, is a folder, exists, or its folder is missing.
    """
    path = Path(name)
    if path.suffix not in endings:
        raise InputError(Problem(field, f"{name} must end in {' or '.join(endings)}"))
    if not path.absolute().parent.is_dir():
        raise InputError(Problem(field, f"the folder of {name} does not exist", "make it first"))
    try:
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
    except OSError as error:
        message = f"{quoted(name)} cannot be written ({error.strerror})"
        raise InputError(Problem(field, message, "name another")) from None
    if is_folder:
        raise InputError(Problem(field, f"{name} is a folder", "name a file"))
    if exists and not overwrite:
        raise InputError(Problem(field, f"{name} exists", "name a new file, or give --overwrite"))
    return path
