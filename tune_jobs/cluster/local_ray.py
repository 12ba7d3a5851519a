"""What a cluster that is started here needs: a token of its own, room for its sockets, and daemons that live."""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import worker
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from run_folder.errors import Problem, SearchHaltedError, first_line, quoted

_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

_LONGEST_SOCKET = 107
"""Bytes that Linux takes in a socket's path."""
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts after its folder of temporary files, at its longest."""

_NEEDED = ("gcs_server", "raylet")
"""Daemons without which nothing runs, as Ray calls them."""
_SECONDS_BETWEEN_LOOKS = 0.2


def socket_problems() -> list[Problem]:
    """Whether Ray's sockets fit below the folder of temporary files."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    most = _LONGEST_SOCKET - len(_SOCKET)
    if name is None or len(os.fsencode(os.environ[name])) <= most:
        return []
    message = f"{name} is too long for Ray's sockets: {quoted(os.environ[name])} has more than {most} characters"
    return [Problem(None, message, "set RAY_TMPDIR to a shorter folder, such as /tmp")]


@contextmanager
def own_token() -> Iterator[None]:
    """A cluster that is started in the block lets in only who has a token that no file holds.

    Ray's default is a file in the home folder, which may be read-only, and which all clusters of a user share. Where
    the environment already says what Ray is to do, that counts.
    """
    if any(name in os.environ for name in _TOKEN_VARIABLES):
        _read_token_again()
        yield
        return
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    _read_token_again()
    try:
        yield
    finally:
        for name in _TOKEN_VARIABLES:
            os.environ.pop(name, None)
        _read_token_again()


def _read_token_again() -> None:
    """Ray has read the environment when it was imported."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def watched_daemons() -> Iterator[None]:
    """End the block once one of the daemons that Ray has started here dies.

    Ray itself would end this process some time later, with pages of its own logs.

    Raises:
        SearchHaltedError: one has died.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one can be interrupted
        yield
        return
    ended, dead, main = threading.Event(), list[str](), threading.get_ident()

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            dead.extend(_dead_daemons())
            if dead:
                signal.pthread_kill(main, signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException as error:
        ended.set()
        watcher.join()
        if dead or _dead_daemons():
            raise SearchHaltedError(_told(dead or _dead_daemons())) from error
        raise
    finally:
        ended.set()
        watcher.join()
    if dead:
        raise SearchHaltedError(_told(dead))


def _told(dead: list[str]) -> str:
    return f"Ray's {' and '.join(dead)} died (killed, or out of memory)"


def _dead_daemons() -> list[str]:
    node = worker._global_node
    return [kind for kind, _ in node.dead_processes() if kind in _NEEDED] if node is not None else []


@contextmanager
def started_cluster() -> Iterator[None]:
    """Around ``ray.init`` that starts a cluster. Raises: SearchHaltedError: it did not start."""
    try:
        yield
    except SearchHaltedError:
        raise
    except Exception as error:  # of many kinds, plain ``Exception`` among them
        raise SearchHaltedError(f"Ray did not start ({first_line(error)})") from error


@contextmanager
def quiet_daemons(verbose: bool) -> Iterator[None]:
    """Nothing that Ray's daemons say is printed in the block, such as the last lines of their logs when they die."""
    if verbose:
        yield
        return
    printing = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing
