"""Calls of bytes between the head and its nodes, over gRPC. The only home of grpcio, which is imported once there is a
cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from milvine.errors import UnexpectedError
from milvine.model.records import record

_SERVICE = "milvine.Node"
_CONNECT_SECONDS = 0.1
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A node that is gone is connected to again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
Answer = Callable[[bytes], bytes]
Stream = Callable[[bytes, Callable[[Callable[[], None]], Any]], Iterator[bytes]]
"""The second argument registers what is called when the caller has gone."""


class Unreachable(Exception):
    """No answer: the connection broke, the time is over, or the other side does not know the call."""


@record
class Certificates:
    """Files in PEM. Both sides show a certificate that the authority has signed."""

    ca: str
    certificate: str
    key: str
    name: str
    """The name that certificates are issued for; empty: that of the address."""


def _grpc() -> Any:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # children are started by exec
    try:
        import grpc
    except ImportError as error:
        raise UnexpectedError("a cluster needs grpcio: pip install 'milvine[cluster]'") from error
    return grpc


def _contents(certificates: Certificates) -> tuple[bytes, bytes, bytes]:
    try:
        files = (certificates.ca, certificates.key, certificates.certificate)
        ca, key, certificate = (Path(file).read_bytes() for file in files)
    except OSError as error:
        raise UnexpectedError(f"cannot read {error.filename}: {error.strerror}") from error
    return ca, key, certificate


class RpcServer:
    """Serves `answers` and `streams` by name from the start."""

    def __init__(
        self,
        host: str,
        port: int,
        certificates: Certificates | None,
        threads: int,
        answers: Mapping[str, Answer],
        streams: Mapping[str, Stream] | None = None,
    ) -> None:
        """`port` 0 picks a free one. Raises UnexpectedError if it cannot listen."""
        grpc = _grpc()
        handlers = {name: grpc.unary_unary_rpc_method_handler(_answering(one)) for name, one in answers.items()}
        handlers |= {
            name: grpc.unary_stream_rpc_method_handler(_streaming(one)) for name, one in (streams or {}).items()
        }
        self._server: Any = grpc.server(ThreadPoolExecutor(threads, "rpc"), options=_OPTIONS)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
        where = f"{host}:{port}"
        try:
            if certificates is None:
                self.port: int = self._server.add_insecure_port(where)
            else:
                ca, key, certificate = _contents(certificates)
                credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
                self.port = self._server.add_secure_port(where, credentials)
        except RuntimeError as error:
            raise UnexpectedError(f"cannot listen on {where}") from error
        if not self.port:
            raise UnexpectedError(f"cannot listen on {where}")
        self._server.start()

    def stop(self) -> None:
        """Ends at once; callers see a broken connection."""
        self._server.stop(None)


def _answering(answer: Answer) -> Callable[[bytes, Any], bytes]:
    def handle(request: bytes, _context: Any) -> bytes:
        return answer(request)

    return handle


def _streaming(stream: Stream) -> Callable[[bytes, Any], Iterator[bytes]]:
    def handle(request: bytes, context: Any) -> Iterator[bytes]:
        return stream(request, context.add_callback)

    return handle


class PendingCall:
    """A call in progress."""

    def __init__(self, call: Any, failure: type[Exception]) -> None:
        self._call = call
        self._failure = failure

    def on_end(self, then: Callable[[], None]) -> None:
        """Called once there is an answer, or none will come; by another thread, or at once."""
        self._call.add_done_callback(lambda _call: then())

    def cancel(self) -> None:
        self._call.cancel()

    def result(self) -> bytes:
        """Waits for the answer. Raises Unreachable."""
        try:
            return bytes(self._call.result())
        except (self._failure, _cancelled()) as error:
            raise Unreachable(_reason(error)) from error


def _cancelled() -> type[Exception]:
    found: type[Exception] = _grpc().FutureCancelledError
    return found


def _reason(error: Any) -> str:
    code = getattr(error, "code", None)
    details = getattr(error, "details", None)
    if code is None or details is None:
        return type(error).__name__
    return f"{code().name}: {str(details())[:200]}"


class RpcChannel:
    """The client's side; threads share it."""

    def __init__(self, address: str, certificates: Certificates | None) -> None:
        grpc = _grpc()
        self._address = address
        self._failure: type[Exception] = grpc.RpcError
        if certificates is None:
            self._channel: Any = grpc.insecure_channel(address, options=_OPTIONS)
        else:
            ca, key, certificate = _contents(certificates)
            options = list(_OPTIONS)
            if certificates.name:
                options.append(("grpc.ssl_target_name_override", certificates.name))  # type: ignore[arg-type]
            credentials = grpc.ssl_channel_credentials(ca, key, certificate)
            self._channel = grpc.secure_channel(address, credentials, options=options)
        self._calls: dict[str, Any] = {}
        self._streams: dict[str, Any] = {}

    def begin(self, name: str, request: bytes, seconds: float) -> PendingCall:
        """Starts a call, without waiting. Raises Unreachable if the channel is closed."""
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._channel.unary_unary(f"/{_SERVICE}/{name}")
        try:
            return PendingCall(call.future(request, timeout=seconds), self._failure)
        except ValueError as error:
            raise Unreachable("the connection is closed") from error

    def call(self, name: str, request: bytes, seconds: float) -> bytes:
        """Raises Unreachable."""
        return self.begin(name, request, seconds).result()

    def stream(self, name: str, request: bytes) -> StreamingCall:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._channel.unary_stream(f"/{_SERVICE}/{name}")
        try:
            return StreamingCall(stream(request), self._failure)
        except ValueError as error:
            raise Unreachable("the connection is closed") from error

    def is_refused(self) -> bool:
        """Whether the other machine says that nobody listens there, so its process has ended."""
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except ConnectionRefusedError:
            return True
        except (OSError, ValueError):
            return False
        return False

    def close(self) -> None:
        """Calls in progress end as unreachable."""
        self._channel.close()


class StreamingCall:
    """Messages that arrive one after the other."""

    def __init__(self, call: Any, failure: type[Exception]) -> None:
        self._call = call
        self._failure = failure

    def __iter__(self) -> Iterator[bytes]:
        """Raises Unreachable."""
        try:
            yield from self._call
        except self._failure as error:
            raise Unreachable(_reason(error)) from error

    def cancel(self) -> None:
        self._call.cancel()
