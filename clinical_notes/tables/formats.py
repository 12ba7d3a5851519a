"""What a file is, by its first bytes, and a stream of what is in it."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from clinical_notes.tables.errors import ENCODINGS, TableError

Kind = Literal["parquet", "excel", "json lines", "delimited"]

READ = "CSV, JSON lines, Parquet or .xlsx, plain or packed with gzip, bzip2, xz, zstd, lz4 or zip"
"""What can be read, in words."""

DAMAGED = (gzip.BadGzipFile, zlib.error, EOFError, lzma.LZMAError, zipfile.BadZipFile, OSError, pa.ArrowInvalid)
"""What a damaged packed file raises while it is read, and an unreadable file."""

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
           b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip",
           b"\x5d\0\0": "lzma"}  # fmt: skip
_UNPACK = "unpack it first"
_SAVE_AS_CSV = "save it as .csv"
_EXPORT = "export the table of notes as .csv"
_TO_PARQUET = "write it as Parquet"
_FROM_PYTHON = "write the table with pandas' to_parquet"
_SAS = "a SAS file"
_STATA = "a Stata file"
_R = "an R file", "write the table with write.csv(…, row.names = FALSE)"
_REFUSED = {
    b"\xd0\xcf\x11\xe0": ("an old Excel or Word file, or an encrypted one", "save it as .xlsx or .csv, unencrypted"),
    b"ARROW1\0": ("an Arrow file (Feather)", _TO_PARQUET),
    b"FEA1": ("an old Feather file", _TO_PARQUET),
    b"\xff\xff\xff\xff": ("an Arrow stream", _TO_PARQUET),
    b"ORC\n": ("an ORC file", _TO_PARQUET),
    b"Obj\x01": ("an Avro file", _TO_PARQUET),
    b"PARE": ("an encrypted Parquet file", "write it without encryption"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", _FROM_PYTHON),
    b"\x93NUMPY": ("a NumPy file", _FROM_PYTHON),
    **{bytes([0x80, protocol]): ("a Python pickle", _FROM_PYTHON) for protocol in range(2, 6)},
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"\0\1\0\0Standard ": ("an Access database", _EXPORT),
    b"$FL2": ("an SPSS file", _SAVE_AS_CSV),
    b"$FL3": ("an SPSS file", _SAVE_AS_CSV),
    b"<stata_dta>": (_STATA, _SAVE_AS_CSV),
    **{bytes([version, order, 1, 0]): (_STATA, _SAVE_AS_CSV) for version in range(0x69, 0x74) for order in (1, 2)},
    b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60": (_SAS, _SAVE_AS_CSV),
    b"HEADER RECORD*******": (_SAS, _SAVE_AS_CSV),
    b"X\n\0\0\0": _R,
    b"RDX2\n": _R,
    b"RDX3\n": _R,
    b"%PDF": ("a PDF", "export the notes as .csv"),
    b"{\\rtf": ("an RTF document", "save it as plain text"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\x1f\x9d": ("packed with compress (.Z)", _UNPACK),
    b"\xff\x06\0\0sNaPpY": ("packed with snappy", _UNPACK),
    b"\x02\x21\x4c\x18": ("packed with an old lz4", _UNPACK),
    b"version https://git-lfs": ("a pointer of Git LFS, and not the file itself", "fetch it with git lfs pull"),
    b"-----BEGIN PGP": ("encrypted", "decrypt it first"),
    b"Salted__": ("encrypted", "decrypt it first"),
}
"""By first bytes, what a file is and what to do."""
_REFUSED_ZIPS = {
    "content.xml": "an OpenDocument file (.ods)",
    "xl/workbook.bin": "a binary Excel file (.xlsb)",
    "word/document.xml": "a Word file",
    "Index/Document.iwa": "a Numbers or Pages file",
}
"""By a member, what a zip archive is that a program writes as its own format."""
_CONTROL = re.compile("[\0\x02-\x08\x0e-\x1a]")
"""Characters of no text; those left out stand between columns at times."""
_ENCODINGS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_TAR = slice(257, 262)
_MOST_LAYERS = 3
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Opened:
    """A file whose format is known.

    Attributes:
        stream: what it holds, unpacked, at its start.
        encoding: of text.
        packing: name of the outermost compression, or None.
    """

    kind: Kind
    stream: IO[bytes]
    encoding: str
    packing: str | None

    def text(self) -> io.TextIOWrapper:
        """As text with its own line ends; bytes that are not UTF-8 come through as surrogates, to be told by row."""
        return io.TextIOWrapper(self.stream, encoding=self.encoding, errors="surrogateescape", newline="")

    def failure(self, row: int) -> TableError:
        """What an exception of ``DAMAGED`` after this data row means."""
        if self.packing:
            return TableError(f": damaged {self.packing} after data row {row}", "fetch or compress it again")
        return TableError(f" cannot be read after data row {row}")


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """The file, unpacked as often as it is packed.

    Raises:
        TableError: it is nothing that can be read; the message says what it is.
    """
    with ExitStack() as stack:
        packing: str | None = None
        layer: str | None = None
        try:
            stream: IO[bytes] = stack.enter_context(path.open("rb"))
            for _ in range(_MOST_LAYERS):
                head = _head(stream)
                layer = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
                if layer is None or (layer == "zip" and _is_excel(stream, packing)):
                    break
                packing = packing or layer
                stream = stack.enter_context(_unpacked(stream, layer))
            head = _head(stream)
        except DAMAGED as error:
            if packing or layer:
                raise TableError(f": damaged {packing or layer}", "fetch or compress it again") from None
            raise TableError(f" cannot be read ({type(error).__name__})") from None
        kind, encoding = _kind(head, packing)
        yield Opened(kind, stream, encoding, packing)


def _head(stream: IO[bytes]) -> bytes:
    assert isinstance(stream, io.BufferedReader)
    return stream.peek(_BUFFER)[:_BUFFER]


def _unpacked(stream: IO[bytes], layer: str) -> io.BufferedReader:
    if layer == "zip":
        return io.BufferedReader(_member(stream), _BUFFER)
    if layer in ("zstd", "lz4"):
        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), layer), _BUFFER)
    if layer == "gzip":
        return io.BufferedReader(gzip.GzipFile(fileobj=stream, mode="rb"), _BUFFER)
    return io.BufferedReader(bz2.BZ2File(stream) if layer == "bzip2" else lzma.LZMAFile(stream), _BUFFER)


def _archive(stream: IO[bytes]) -> zipfile.ZipFile:
    if not isinstance(getattr(stream, "raw", None), io.FileIO):
        raise TableError(" holds a zip archive inside another file", _UNPACK)
    return zipfile.ZipFile(stream)


def _is_excel(stream: IO[bytes], packing: str | None) -> bool:
    found = "xl/workbook.xml" in _archive(stream).namelist()
    stream.seek(0)
    if found and packing:
        raise TableError(" holds an Excel file inside another file", _UNPACK)
    return found


def _member(stream: IO[bytes]) -> io.RawIOBase:
    archive = _archive(stream)
    for member, what in _REFUSED_ZIPS.items():
        if member in archive.namelist():
            raise TableError(f" is {what}", "save it as .xlsx or .csv")
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        what = f"{len(names)} files" if names else "no file"
        raise TableError(f" is a zip archive that holds {what}", "unpack it and give the table")
    try:
        return archive.open(names[0])  # type: ignore[return-value]
    except (RuntimeError, NotImplementedError):
        raise TableError(" is a zip archive that is encrypted or packed in a way of its own", _UNPACK) from None


def _kind(head: bytes, packing: str | None) -> tuple[Kind, str]:
    if not head:
        raise TableError(" is empty", "give a table with a header and notes")
    if head.startswith(b"PAR1"):
        if packing:
            raise TableError(f" is Parquet inside {packing}", _UNPACK)
        return "parquet", ""
    if head.startswith(b"PK"):
        return "excel", ""
    for magic, (what, fix) in _REFUSED.items():
        if head.startswith(magic):
            raise TableError(f" is {what}", fix)
    if head[_TAR] == b"ustar":
        raise TableError(" is a tar archive", _UNPACK)
    encoding = encoding_of(head)
    start = head[: len(head) - len(head) % 4].decode(encoding, errors="replace").lstrip("\ufeff \t\r\n")
    if _CONTROL.search(start.partition("\n")[0]):
        message = f" is not a table, or is text whose encoding is not known ({ENCODINGS})"
        raise TableError(message, f"give {READ}")
    if start.startswith("{"):
        return "json lines", encoding
    if re.match(r"\[\s*[{\]]", start):
        raise TableError(" is one JSON array", "write an object a line (pandas: orient='records', lines=True)")
    if start.startswith("<"):
        raise TableError(" is XML or HTML", "export the notes as .csv, or as .txt files in a folder")
    return "delimited", encoding


def encoding_of(head: bytes) -> str:
    """The encoding of text that starts with these bytes; without a mark, UTF-16 shows by its zeros."""
    for mark, encoding in _ENCODINGS.items():
        if head.startswith(mark):
            return encoding
    zeros = [position % 2 for position, byte in enumerate(head[:64]) if byte == 0]
    if len(zeros) >= len(head[:64]) // 3 > 0 and len(set(zeros)) == 1:
        return "utf-16-le" if zeros[0] else "utf-16-be"
    return "utf-8-sig"
