"""A storage or a run that is not to be used: one line that names the option, exit code 2, nothing changed."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from run_folder import folder as storage
from run_folder.folder import Folder
from tests.tiny_runs import settings_for
from tune_jobs.cli import main
from tune_jobs.preparing.create_run import create_run

COMMANDS = (["status"], ["resume"], ["evaluate"], ["leaderboard"], ["report"], ["export", "--to", "there"])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    before = contents(Path())
    assert main(arguments) == 2, arguments
    assert contents(Path()) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symptune: error: ")
    return line


def refused_by_all(capsys: pytest.CaptureFixture[str], words: list[str], *storage: str) -> None:
    for name, *more in COMMANDS:
        line = refused(capsys, name, "r", *more, *storage)
        assert all(word in line for word in words), line


@contextmanager
def answering(code: int, error: str) -> Iterator[str]:
    """The URI of an S3 server that answers every request with an error."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{error}</Code><Message>no</Message></Error>".encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"s3://bucket/runs?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/runs", ["--storage: ", "ftp://host/runs", "give a folder or a URI such as s3://"]),
        ("s4://bucket/runs", ["--storage: ", "s4://bucket/runs", "give a folder or a URI such as s3://"]),
        ("s3://key:hidden@bucket/runs", ["--storage: ", "no secret key", "AWS_SECRET_ACCESS_KEY"]),
        ("s3://", ["--storage: ", "names no folder"]),
        ("s3://bucket/runs?endpoint=x", ["--storage: ", "'endpoint'"]),
        ("file", ["--storage: ", "Not a directory", "name another"]),
        ("file/runs", ["--storage: ", "Not a directory", "name another"]),
    ],
)
def test_a_storage_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], uri: str, words: list[str]) -> None:
    Path("file").write_text("x")
    refused_by_all(capsys, words, "--storage", uri)
    assert "hidden" not in refused(capsys, "status", uri)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [(403, "AccessDenied", "ACCESS_DENIED"), (404, "NoSuchBucket", "there is no such bucket: bucket")],
)
def test_a_bucket_that_is_not_there_or_denied_is_refused(
    capsys: pytest.CaptureFixture[str], code: int, error: str, words: str
) -> None:
    with answering(code, error) as uri:
        refused_by_all(capsys, ["--storage: ", words, "check its address and your rights"], "--storage", uri)
        line = refused(capsys, "launch", "--patients", "50", "--storage", uri)
        assert line.startswith("symptune: error: --storage: ")
        assert words in line
        assert words in refused(capsys, "status", uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http",
        "gs://anonymous@bucket/runs?endpoint_override=127.0.0.1:1&scheme=http",
    ],
)
def test_a_storage_where_nobody_listens_is_told_soon(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """Within seconds: the clients' own patience, for Google's 15 minutes, is cut short."""
    monkeypatch.setattr(storage, "_GCS_SECONDS", 1)
    line = refused(capsys, "status", "r", "--storage", uri)
    assert "--storage: " in line
    assert "ould not connect to server" in line


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that all may enter; the process has a common user's rights meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="symptune-test-"))
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != 0 and os.getresuid()[2] == 0:
        os.setresuid(0, 0, 0)
    shutil.rmtree(folder, ignore_errors=True)


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 0)


def test_a_run_without_the_right_to_it_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, as_nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(as_nobody)
    create_run(Folder("runs/r"), settings_for(model_folder), workers=1)
    (as_nobody / "runs" / "r" / "run.json").chmod(0)
    (as_nobody / "closed").mkdir(mode=0)
    become_nobody()
    for name, *more in COMMANDS:
        for folder, word in (("runs", "r/run.json"), ("closed", "closed")):
            assert main([name, "r", *more, "--storage", folder]) == 2, (name, folder)
            (line,) = capsys.readouterr().err.splitlines()
            assert "Permission denied" in line
            assert word in line
    assert main(["launch", "--patients", "50", "--storage", "closed/runs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "closed" in line
    assert not (as_nobody / "there").exists()


def test_a_resume_of_a_run_that_may_only_be_read_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, as_nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(as_nobody)
    create_run(Folder("runs/r"), settings_for(model_folder), workers=1)
    for path in Path("runs/r").rglob("*"):
        path.chmod(0o555)
    Path("runs/r").chmod(0o555)
    become_nobody()
    before = contents(Path())
    assert main(["resume", "r"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("symptune: error: RUN: the storage failed (Permission denied")
    assert contents(Path()) == before


def test_a_run_by_a_newer_version_or_a_damaged_one_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path
) -> None:
    run = Path("runs/r")
    create_run(Folder(run), settings_for(model_folder), workers=1)
    manifest = (run / "run.json").read_text()
    (run / "run.json").write_text(json.dumps(json.loads(manifest) | {"format": 99}))
    refused_by_all(capsys, ["format 99", "use the version that wrote it"])
    (run / "run.json").write_text(manifest[:100])
    refused_by_all(capsys, ["run.json is damaged", "restore it"])
    (run / "run.json").write_text(manifest)
    (run / "ledger").mkdir()
    (run / "ledger" / "00000000-suggested.json").write_text("{")
    refused_by_all(capsys, ["is damaged", "restore it"])
