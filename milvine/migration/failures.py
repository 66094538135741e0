"""What Milvus's client says of a failure."""

from __future__ import annotations


def sentence(error: Exception) -> str:
    """The server's sentence. The client keeps that of a refused connection, such as a wrong password, to the cause."""
    said = str(getattr(error, "message", "") or error)
    details = getattr(error.__cause__, "details", None)
    return f"{said}: {details()}" if callable(details) else said
