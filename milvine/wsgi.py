"""The module that the front imports: builds the server from the environment and reports when it is ready.

`application` exists once recovery is done, and the front opens its port only then.
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
from dataclasses import replace
from pathlib import Path

from milvine import config, logs, metrics, server
from milvine.directory_users import LastUser, write_address
from milvine.errors import MilvineError
from milvine.front import LOOPBACKS, STOP_SIGNALS
from milvine.in_flight import InFlight
from milvine.intake import Intake
from milvine.metrics_port import start_metrics_port
from milvine.process import forget_garbage, keep_pandas_out
from milvine.service.context import Engine

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.005
_GRACE_SECONDS = 3.0
_CLOSE_SECONDS = 5.0
_FLUSH_SECONDS = 0.05
_USERS_SECONDS = 0.5
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


def _announce(settings: config.Settings) -> None:
    host = settings.host or LOOPBACKS[0]
    address = f"{host}:{settings.port}"
    while not _listens(settings.port):
        time.sleep(_POLL_SECONDS)
    if sys.platform == "linux":
        metrics.ready_seconds.set(_process_age_seconds())
    scheme = "https" if settings.tls_mode else "http"
    reachable = LOOPBACKS[0] if host == _EVERY_ADDRESS else host
    try:
        write_address(Path(settings.data_dir), f"{scheme}://{reachable}:{settings.port}")
    except OSError as error:  # a full disk; without this the server would never report that it is ready
        logs.event(_log, logging.WARNING, "users of the directory cannot find this server", error=str(error))
    logs.event(_log, logging.INFO, "started", **server.facts(settings, address))
    sys.stdout.write(f"milvine ready {address}\n")
    sys.stdout.flush()


def _end_on_signal(engine: Engine, requests: InFlight) -> None:
    """Waits for a signal to stop, lets requests in flight finish, and closes the engine. Acknowledged writes are
    already on disk, so the process may exit hard if a step takes too long. It does so at the end, since Envoy cannot be
    ended from within."""
    number = signal.sigwait(STOP_SIGNALS)
    started = time.monotonic()
    logs.event(_log, logging.INFO, "stopping", signal=signal.Signals(number).name)
    last_resort = threading.Timer(_GRACE_SECONDS + 2 * _CLOSE_SECONDS, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    requests.is_closed = True
    requests.wait_for_none(time.monotonic() + _GRACE_SECONDS)
    time.sleep(_FLUSH_SECONDS)  # the front has the last answers but may not have sent them
    try:
        is_closed = engine.close(time.monotonic() + _CLOSE_SECONDS)
        seconds = round(time.monotonic() - started, 3)
        logs.event(_log, logging.INFO, "stopped", seconds=seconds, abandoned_work=not is_closed)
    finally:
        os._exit(0)


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
    try:
        engine = server.build_engine(settings)
        settings = replace(settings, metrics_port=start_metrics_port(engine))
    except (MilvineError, OSError) as error:
        sys.stderr.write(f"milvine: {error}\n")
        sys.stderr.flush()
        os._exit(1)  # Envoy would report an exception in its own words
    intake = Intake(settings.worker_threads, settings.request_limit_bytes)
    threading.Thread(target=_end_on_signal, args=(engine, intake.handling), name="stopper", daemon=True).start()
    application = server.make_application(engine, intake)
    if settings.ends_when_unused:
        data_dir = Path(settings.data_dir)
        threading.Thread(target=_end_after_last_user, args=(data_dir,), name="users", daemon=True).start()
    forget_garbage()
    threading.Thread(target=_announce, args=(settings,), name="announcer", daemon=True).start()
    return application


application = _start()
