"""grpc.health.v1.Health, with which load balancers and Kubernetes probe a gRPC server. It needs no token.

Its two messages are an enum each, so their bytes are written by hand.
"""

from __future__ import annotations

from milvine.service import admin
from milvine.service.context import Engine

SERVICE_NAME = "grpc.health.v1.Health"
METHODS = frozenset({"Check", "Watch"})
_SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def answer(engine: Engine) -> bytes:
    """The HealthCheckResponse of Check, and the one that Watch sends; the same for every service, as in Milvus."""
    is_serving, _ = admin.is_serving(engine)
    return _SERVING if is_serving else NOT_SERVING
