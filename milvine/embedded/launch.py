"""Finds or starts the one server of a data directory, in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from milvine import config, file_locks
from milvine.directory_users import Address, Use, address_of, server_pid

_LOG_FILE, _STARTING_FILE = "server.log", "STARTING"
_POLL_SECONDS = 0.02
_ENDS_WHEN_UNUSED = "embedded.endsWhenUnused"
_started: list[subprocess.Popen[bytes]] = []
"""Children of this process, kept so that those that have ended can be reaped."""


class StartError(RuntimeError):
    """Why there is no server, in one sentence."""


def use_server(data_dir: Path, settings: Mapping[str, object] | None, seconds: float) -> tuple[Use, Address]:
    """A use of the directory, made if missing, and its server, started if there is none.

    `settings`, by their keys, apply only to a server that this call starts. Raises StartError.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StartError(f"the data directory {data_dir} is a file") from None
    except OSError as error:
        raise StartError(f"cannot make the data directory {data_dir}: {error.strerror}") from None
    use = Use(data_dir)
    try:
        return use, _find_or_start(data_dir, settings or {}, seconds)
    except BaseException:
        use.end()
        raise


def _find_or_start(data_dir: Path, settings: Mapping[str, object], seconds: float) -> Address:
    """The caller must be a user of the directory, since a server without one ends."""
    deadline = time.monotonic() + seconds
    with _only_starter(data_dir):
        pid = server_pid(data_dir)
        child = None if pid else _spawn(data_dir, settings)
        while (address := address_of(data_dir, pid if child is None else child.pid)) is None:
            if child is not None and child.poll() is not None:
                raise StartError(_last_words(data_dir))
            if time.monotonic() > deadline:
                raise StartError(f"the server of {data_dir} is not ready after {seconds:g} s")
            time.sleep(_POLL_SECONDS)
        return address


@contextlib.contextmanager
def _only_starter(data_dir: Path) -> Iterator[None]:
    with (data_dir / _STARTING_FILE).open("ab") as file:
        file_locks.take(file.fileno(), waits=True)
        yield


def _spawn(data_dir: Path, settings: Mapping[str, object]) -> subprocess.Popen[bytes]:
    _started[:] = [child for child in _started if child.poll() is None]
    given = {config.variable(key): str(value) for key, value in settings.items()}
    environment = {**os.environ, **given, config.variable(_ENDS_WHEN_UNUSED): "true"}
    command = [sys.executable, "-P", "-m", "milvine", "serve", "--data-dir", str(data_dir)]
    command += ["--port=0", "--metrics-port=0"]
    with (data_dir / _LOG_FILE).open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in a notebook must not reach it
        )
    _started.append(child)
    return child


def _last_words(data_dir: Path) -> str:
    lines = (data_dir / _LOG_FILE).read_text(errors="replace").strip().splitlines()
    said = lines[-1].removeprefix("milvine: ") if lines else "it said nothing"
    return f"the server of {data_dir} did not start: {said}"
