"""PostgreSQL in a child process, as Debian packages it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

_START_SECONDS = 60.0


def binaries() -> Path | None:
    """The directory of `initdb` and `postgres`, or None. Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return versions[-1] if versions else None


class Postgres:
    """It refuses to run as root, so it runs as `postgres` then. `kill` and `start` work again and again."""

    def __init__(self, port: int) -> None:
        found = binaries()
        if found is None:
            if os.environ.get("MILVINE_REQUIRE_TOOLCHAINS"):
                pytest.fail("PostgreSQL is missing: apt-get install postgresql")
            pytest.skip("PostgreSQL is missing: apt-get install postgresql")
        self._binaries = found
        self.port = port
        self._directory = Path(tempfile.mkdtemp(prefix="milvine-postgres-"))
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            shutil.chown(self._directory, user.pw_uid, user.pw_gid)
            self._prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        command = [str(found / "initdb"), "-D", str(self._data), "-U", "milvine", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(
            [*self._prefix, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def uri(self, database: str = "postgres", port: int = 0) -> str:
        return f"postgresql://milvine@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> Postgres:
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += ["-k", str(self._directory), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
        with (self._directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, "setpriv", "--pdeathsig", "QUIT", "--", *command],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.uri(), connect_timeout=5).close()
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log
                time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self._directory / "log.txt").read_text()

    def new_database(self, port: int = 0, template: str = "") -> str:
        """The URI of a database, empty or a copy of another one that nobody uses; `port`: of a relay to this server."""
        name = f"catalog_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}")
        return self.uri(name, port)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.uri(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """Ends it at once, without a checkpoint; commits stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """All its processes are stopped in the block, and connections to it stay."""
        assert self._process is not None
        processes = [self._process.pid]
        processes += [
            int(pid) for pid in Path(f"/proc/{processes[0]}/task/{processes[0]}/children").read_text().split()
        ]

        def send(number: int) -> None:
            for pid in processes if number == signal.SIGSTOP else reversed(processes):
                with contextlib.suppress(ProcessLookupError):  # a worker may have ended
                    os.kill(pid, number)

        send(signal.SIGSTOP)
        try:
            yield
        finally:
            send(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)
