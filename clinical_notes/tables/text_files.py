"""A folder of .txt files: each is a note."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa

from clinical_notes.tables.columns import Choose
from clinical_notes.tables.errors import NotUtf8Error, TableError
from clinical_notes.tables.formats import encoding_of

_DEPTH = 2
"""Parts of a file's path below the root where each folder is a patient."""
COLUMNS = ("folder", "file", "text")
"""What such a folder has as columns: the name of a file's folder, its own name, and what is in it."""


def read_text_files(folder: Path, files: Sequence[Path], choose: Choose, chunk_rows: int) -> Iterator[pa.Table]:
    """The files in this order, as rows of ``COLUMNS``.

    Raises:
        TableError: the message names the file.
    """
    names = choose(COLUMNS).read
    outside = [file for file in files if file.parent == folder]
    if names.get("patient") == "folder" and outside:
        message = f" has {len(outside)} .txt files that are in none of its folders"
        raise TableError(message, "put each patient's notes into a folder of their own", setting="patient_column")
    deeper = [file for file in files if len(file.relative_to(folder).parts) > _DEPTH]
    if names.get("patient") == "folder" and deeper:
        message = f" has {len(deeper)} .txt files in folders of its folders, so that it is not clear whose they are"
        raise TableError(message, "put each patient's notes into one folder", setting="patient_column")
    rows = ({"folder": file.parent.name, "file": file.stem, "text": _text(file, folder)} for file in files)
    while chunk := list(islice(rows, chunk_rows)):
        yield pa.table(
            {role: pa.array([row[name] for row in chunk], pa.large_string()) for role, name in names.items()}
        )


def _text(file: Path, folder: Path) -> str:
    where = f"/{file.relative_to(folder)}"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TableError(f"{where} cannot be read ({type(error).__name__})") from None
    encoding = encoding_of(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8-sig":
            raise NotUtf8Error(f"{where}", content[error.start]) from None
        raise TableError(f"{where}: damaged {encoding.upper()}", "write it as UTF-8") from None
