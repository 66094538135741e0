"""The application of the front: builds the server from the environment and reports when it is ready.

`application` exists once recovery is done, and the front opens its port only then. That of a standby exists at once,
and refuses requests until its turn has come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from milvine import config, logs, metrics, server
from milvine.background import Supervisor
from milvine.catalog.leases import Lease
from milvine.directory_users import LastUser, write_address
from milvine.errors import STANDBY, MilvineError, ServiceNotReady, UnexpectedError
from milvine.front import LOOPBACKS, STOP_SIGNALS, CannotServe, DirectoryInUse, lock
from milvine.in_flight import InFlight
from milvine.intake import Intake
from milvine.metrics_port import MetricsPort
from milvine.process import forget_garbage, keep_garbage, keep_pandas_out
from milvine.service.context import Engine

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.005
_GRACE_SECONDS = 3.0
_CLOSE_SECONDS = 5.0
_FLUSH_SECONDS = 0.05
_USERS_SECONDS = 0.5
_TURN_SECONDS = 0.3
_LOST_SECONDS = 0.5
_EVERY_ADDRESS = "0.0.0.0"


def _process_age_seconds() -> float:
    """Seconds since this process was started, also before exec."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - the cheapest read at start
        started_ticks = int(file.read().rsplit(b")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


def _listens(port: int) -> bool:
    """Whether this process listens. A connection cannot show that, since another process may have been faster."""
    for path in Path("/dev/fd").iterdir():
        descriptor = int(path.name)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _accepts(descriptor, port):
                return True
    return False


def _accepts(descriptor: int, port: int) -> bool:
    borrowed = socket.socket(fileno=descriptor)
    try:
        is_listener = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(is_listener) and borrowed.getsockname()[1] == port
    finally:
        borrowed.detach()


def _wait_until_it_listens(port: int) -> None:
    while not _listens(port):
        time.sleep(_POLL_SECONDS)


def _address(settings: config.Settings) -> str:
    return f"{settings.host or LOOPBACKS[0]}:{settings.port}"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _announce(settings: config.Settings) -> None:
    _wait_until_it_listens(settings.port)
    if sys.platform == "linux":
        metrics.ready_seconds.set(_process_age_seconds())
    scheme = "https" if settings.tls_mode else "http"
    host = settings.host or LOOPBACKS[0]
    reachable = LOOPBACKS[0] if host == _EVERY_ADDRESS else host
    try:
        write_address(Path(settings.data_dir), f"{scheme}://{reachable}:{settings.port}")
    except OSError as error:  # a full disk; without this the server would never report that it is ready
        logs.event(_log, logging.WARNING, "users of the directory cannot find this server", error=str(error))
    logs.event(_log, logging.INFO, "started", **server.facts(settings, _address(settings)))
    _tell(f"milvine ready {_address(settings)}")


class _Head:
    """What this process serves: nothing while it waits for its turn."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self._background = Supervisor()
        self._metrics_port = MetricsPort(settings, self._background)
        self._engine: Engine | None = None
        self._requests = InFlight()
        self._application: server.Application = partial(server.not_ready, ServiceNotReady(STANDBY))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._application(environ, start_response)

    def start(self) -> server.Application:
        """What the front calls: this, or the application itself, which a request reaches one call earlier."""
        if self.settings.standby:
            self._open_metrics_port()
            _in_background("stopper", self._end_on_signal)
            _in_background("standby", self._wait)
            return self
        application = self._serve()
        self._open_metrics_port()
        _in_background("stopper", self._end_on_signal)
        _in_background("announcer", _announce, self.settings)
        return application

    def _open_metrics_port(self) -> None:
        self.settings = replace(self.settings, metrics_port=self._metrics_port.start())

    def _wait(self) -> None:
        _wait_until_it_listens(self.settings.port)
        _tell(f"milvine standby {_address(self.settings)}")
        try:
            server.check_places(self.settings)
            _lock_in_turn(Path(self.settings.data_dir))
            self._application = self._serve()
        except (CannotServe, UnexpectedError) as error:
            _end(str(error))
        except Exception:  # noqa: BLE001 - the thread has no caller
            _log.exception("the take-over failed")
            os._exit(1)
        _announce(self.settings)

    def _serve(self) -> server.Application:
        """Ends the process if it cannot serve."""
        keep_garbage()
        try:
            engine = server.build_engine(self.settings, self._background)
        except (MilvineError, OSError) as error:
            _end(str(error))  # Envoy would report an exception in its own words
        intake = Intake(self.settings.worker_threads, self.settings.request_limit_bytes)
        self._requests = intake.handling
        self._engine = self._metrics_port.engine = engine
        if engine.catalog.lease is not None:
            _in_background("lease", self._end_without_lease, engine.catalog.lease)
        if self.settings.ends_when_unused:
            _in_background("users", _end_after_last_user, Path(self.settings.data_dir))
        application = server.make_application(engine, intake)
        forget_garbage()
        return application

    def _end_on_signal(self) -> None:
        """Waits for a signal to stop, lets requests in flight finish, and closes the engine. Acknowledged writes are
        already on disk, so the process may exit hard if a step takes too long. It does so at the end, since Envoy
        cannot be ended from within."""
        number = signal.sigwait(STOP_SIGNALS)
        started = time.monotonic()
        logs.event(_log, logging.INFO, "stopping", signal=signal.Signals(number).name)
        last_resort = threading.Timer(_GRACE_SECONDS + 2 * _CLOSE_SECONDS, os._exit, (0,))
        last_resort.daemon = True
        last_resort.start()
        if self._engine is None:
            os._exit(0)
        self._requests.is_closed = True
        self._requests.wait_for_none(time.monotonic() + _GRACE_SECONDS)
        time.sleep(_FLUSH_SECONDS)  # the front has the last answers but may not have sent them
        try:
            is_closed = self._engine.close(time.monotonic() + _CLOSE_SECONDS)
            seconds = round(time.monotonic() - started, 3)
            logs.event(_log, logging.INFO, "stopped", seconds=seconds, abandoned_work=not is_closed)
        finally:
            os._exit(0)

    def _end_without_lease(self, lease: Lease) -> None:
        """Ends the process once another head has taken over: nothing here is true any more."""
        lease.lost.wait()
        _log.error("another head has taken over: this one ends")
        self._requests.is_closed = True
        time.sleep(_LOST_SECONDS)  # for requests to get an answer, which says that they are to be repeated
        os._exit(1)


def _end(reason: str) -> NoReturn:
    sys.stderr.write(f"milvine: {reason}\n")
    sys.stderr.flush()
    os._exit(1)


def _in_background(name: str, run: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=run, args=arguments, name=name, daemon=True).start()


def _lock_in_turn(data_dir: Path) -> None:
    """Waits while another head has the directory."""
    while True:
        try:
            lock(data_dir)
            return
        except DirectoryInUse:
            time.sleep(_TURN_SECONDS)


def _end_after_last_user(data_dir: Path) -> None:
    last_user = LastUser(data_dir)
    while not last_user.is_gone():
        time.sleep(_USERS_SECONDS)
    logs.event(_log, logging.INFO, "the last user of the directory is gone")
    os.kill(os.getpid(), signal.SIGTERM)


def _start() -> server.Application:
    keep_pandas_out()
    settings = config.settings_of_this_process()
    logs.configure(settings.log_level, settings.log_format)
    return _Head(settings).start()


application = _start()
