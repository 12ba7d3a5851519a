"""A run's folder, on a local disk or behind a URI: files appear whole or not at all."""

import contextlib
import errno
import functools
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyarrow.fs as pafs

from run_folder.errors import InputError, Problem, first_line, quoted

_PASSWORD = re.compile(r"[^/?#]+://[^/?#]*:[^/?#]*@")


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in uri:
        return pafs.LocalFileSystem(), _local_path(uri)
    if _PASSWORD.match(uri):
        raise InputError(
            "a storage's URI must hold no secret key, since it is printed and Ray keeps it; put the key where the "
            "storage's client looks for it, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
        uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={_GCS_SECONDS}"
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (ValueError, OSError, NotImplementedError) as error:
        raise InputError(
            f"storage {uri!r} cannot be opened ({_reason(error)}); give a folder or a URI such as s3://BUCKET/FOLDER"
        ) from None
    if not path.strip("/"):
        raise InputError(f"storage {uri!r} names no folder; give one, such as s3://BUCKET/FOLDER")
    return filesystem, path


def _local_path(given: str) -> str:
    if not given.strip():
        raise InputError("no folder is named; give one, such as runs, or a URI such as s3://BUCKET/FOLDER")
    try:
        path = str(Path(given).expanduser().resolve())
    except (OSError, RuntimeError) as error:  # ~ of an unknown user, links in a circle
        raise InputError(f"{quoted(given)} is no folder ({first_line(error)}); name another") from None
    # Arrow's file names are UTF-8, whatever Python's are.
    if any("\ud800" <= c <= "\udfff" for c in path) or not (path.isascii() or sys.getfilesystemencoding() == "utf-8"):
        raise InputError(f"{quoted(path)}: file names are not UTF-8 in this locale; set PYTHONUTF8=1, or name another")
    return path


_P = ParamSpec("_P")
_T = TypeVar("_T")

_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
_LASTING_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PAUSES = (0.2, 1.0, 4.0)
"""Seconds between attempts on a storage that answers errors."""

_SCRATCH = ".scratch"
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Names of files and folders that are being written."""

_GCS_SECONDS = 5
"""Time limit for the retries of Google's client (its default is 15 minutes); it may take twice as long."""


def _reason(error: Exception) -> str:
    """An error's message in one line, with the file if it is known."""
    known = isinstance(error, OSError) and error.strerror
    reason = known or (str(error).splitlines() or [type(error).__name__])[0]
    file = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return f"{reason[:300]}{file}"


def storage_reason(error: OSError) -> str:
    """One line about a storage that failed, with the file if it is known."""
    return f"the storage failed ({_reason(error)})"


@contextmanager
def refusing(field: str) -> Iterator[None]:
    """A storage that fails before any work is done is bad input of a setting. Raises: InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            Problem(field, storage_reason(error), "check its address and your rights to it, or name another")
        ) from None


def _retried(operation: Callable[_P, _T]) -> Callable[_P, _T]:
    """Try again a few times where the storage answers an error that may pass."""

    @functools.wraps(operation)
    def attempt(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for pause in _PAUSES:
            try:
                return operation(*args, **kwargs)
            except _LASTING:
                raise
            except OSError as error:
                if error.errno in _LASTING_NUMBERS:
                    raise
                time.sleep(pause)
        return operation(*args, **kwargs)

    return attempt


@functools.cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="symptune-")


def _flush(path: Path) -> None:
    """Write a file's content through to the disk: a rename may survive a loss of power when the content does not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove these folders, innermost first, up to one that something else is in."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def private_opener(path: str, flags: int) -> int:
    """For ``open``: a new file can be read and written by its owner alone."""
    return os.open(path, flags, 0o600)


class Folder:
    """A folder whose files are addressed by relative POSIX paths.

    Args:
        uri: a local path, or any URI that ``pyarrow.fs`` opens (``file://``, ``s3://``, ``gs://``, …).

    Raises:
        InputError: the URI has no file system.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri) if str(uri).endswith("://") else str(uri).rstrip("/") or str(uri)[:1]
        self._fs, self._root = _filesystem(self.uri)
        self.is_local = isinstance(self._fs, pafs.LocalFileSystem)
        if self.is_local:
            self.uri = self._root

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.uri,)

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        return self._root.rstrip("/").rsplit("/", 1)[-1]

    def child(self, relative: str) -> "Folder":
        if self.is_local:  # where a name may hold a ?
            return Folder(f"{self.uri.rstrip('/')}/{relative}")
        base, mark, query = self.uri.partition("?")
        return Folder(f"{base.rstrip('/')}/{relative}{mark}{query}")

    def _at(self, relative: str) -> str:
        return f"{self._root}/{relative}" if relative else self._root

    @_retried
    def exists(self, relative: str = "") -> bool:
        return bool(self._fs.get_file_info(self._at(relative)).type != pafs.FileType.NotFound)

    def answers(self) -> None:
        """Ask the storage once, without trying again, so that a wrong address is reported at once.

        Raises:
            OSError: it cannot be reached or read, or has no such bucket.
        """
        if self.is_local:
            with contextlib.suppress(FileNotFoundError):
                os.listdir(self._root)
            return
        bucket = self._root.partition("/")[0]
        if bucket and self._fs.get_file_info(bucket).type == pafs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket", bucket)
        self._fs.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))

    @_retried
    def names(self, relative: str = "") -> list[str]:
        """Sorted names of the files and folders directly in ``relative`` (none where it does not exist)."""
        selector = pafs.FileSelector(self._at(relative), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector))

    @_retried
    def read(self, relative: str) -> bytes:
        """The content of a file. Raises: FileNotFoundError, IsADirectoryError."""
        if self.is_local and os.path.isdir(self._at(relative)):  # PyArrow's error could be one that passes
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._at(relative))
        with self._fs.open_input_stream(self._at(relative)) as stream:
            return bytes(stream.read())

    @_retried
    def write(self, relative: str, data: bytes, *, private: bool = False) -> None:
        """Write a file whole: to a temporary name, flushed to the disk, then renamed.

        Args:
            private: the owner alone can read it, where the storage is local.
        """
        target = self._at(relative)
        if not self.is_local:  # an object store shows an object only when it is complete
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with open(temporary, "wb", opener=private_opener if private else None) as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except IsADirectoryError:  # it names the temporary file
            raise IsADirectoryError(errno.EISDIR, "a folder is in the place of a file", target) from None
        finally:
            temporary.unlink(missing_ok=True)

    @_retried
    def put_folder(self, local: Path, relative: str) -> None:
        """Move a finished local folder in, flushed to the disk, replacing what was there."""
        target = self._at(relative)
        if not self.is_local:
            pafs.copy_files(
                str(local), target, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=self._fs
            )
            shutil.rmtree(local)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        shutil.move(local, staged)  # crosses file systems by copying; the rename below does not
        for file in staged.rglob("*"):
            _flush(file)
        if path.exists():
            shutil.rmtree(path)
        staged.replace(path)

    def scratch(self) -> Path:
        """A new local folder for files on their way in; on the same disk where the target is local."""
        if not self.is_local:
            return Path(tempfile.mkdtemp(prefix="symptune-"))
        parent = Path(self._root) / _SCRATCH
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=parent))

    def discard_unfinished(self) -> None:
        """Delete what processes that died were writing; the caller must hold the folder's lock."""
        if not self.is_local:
            return
        shutil.rmtree(Path(self._root) / _SCRATCH, ignore_errors=True)
        for home, folders, files in os.walk(self._root):
            for name in filter(_UNFINISHED.fullmatch, files):
                Path(home, name).unlink(missing_ok=True)
            for name in filter(_UNFINISHED.fullmatch, list(folders)):
                folders.remove(name)
                shutil.rmtree(Path(home, name), ignore_errors=True)

    def delete_file(self, relative: str) -> None:
        """Delete a file, where it exists."""
        if self.exists(relative):
            self._fs.delete_file(self._at(relative))

    @_retried
    def local_copy(self, relative: str) -> Path:
        """A local path with the content of folder ``relative``: itself, or a copy deleted when the process ends.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        if not self.exists(relative):
            raise FileNotFoundError(self._at(relative))
        if self.is_local:
            return Path(self._at(relative))
        local = Path(tempfile.mkdtemp(dir=_copies().name))
        pafs.copy_files(
            self._at(relative), str(local), source_filesystem=self._fs, destination_filesystem=pafs.LocalFileSystem()
        )
        return local

    @contextmanager
    def local(self, relative: str) -> Iterator[Path]:
        """Like ``local_copy``, but a copy is deleted when the block ends. Raises: FileNotFoundError."""
        path = self.local_copy(relative)
        try:
            yield path
        finally:
            if not self.is_local:
                shutil.rmtree(path, ignore_errors=True)

    @_retried
    def delete_folder(self, relative: str) -> None:
        if self.exists(relative):
            self._fs.delete_dir(self._at(relative))
