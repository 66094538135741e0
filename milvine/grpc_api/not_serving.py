"""What a head answers that does not serve: it waits for its turn, or another head has taken over.

Calls end with the status UNAVAILABLE, since every SDK repeats them then, and none repeats Milvus's own code 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from milvine.errors import ServiceNotReady
from milvine.grpc_api import encode, health
from milvine.grpc_api.proto import PROXY_SERVICE_NAME, SERVICE_NAME, common_pb2, milvus_pb2
from milvine.grpc_api.wire import GrpcError, refused, send, taken

_UNAVAILABLE = 14
_STATES = f"/{SERVICE_NAME}/GetComponentStates", f"/{PROXY_SERVICE_NAME}/GetComponentStates"


def answer(error: ServiceNotReady, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Health checks and states are answered; all other calls are to be repeated."""
    path: str = environ["PATH_INFO"]
    service, _, method = path.lstrip("/").partition("/")
    if service == health.SERVICE_NAME and method in health.METHODS:
        payload = health.NOT_SERVING
    elif path in _STATES:
        payload = _states(error.state)
    else:
        return refused(GrpcError(_UNAVAILABLE, error.message), start_response)
    send(payload, environ, start_response)
    return taken()


def _states(state: str) -> bytes:
    info = milvus_pb2.ComponentInfo(nodeID=1, role="proxy", state_code=common_pb2.StateCode.Value(state))
    found: bytes = milvus_pb2.ComponentStates(state=info, status=encode.status()).SerializeToString()
    return found
