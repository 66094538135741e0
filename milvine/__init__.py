"""Milvine: the Milvus vector database in one Python process."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milvine.embedded import Server, StartError, connect, connect_async

__all__ = ["Server", "StartError", "__version__", "connect", "connect_async"]
__version__ = "0.1.0"
MILVUS_VERSION = "v2.6.4"
"""The answer of GetVersion: the 2.5 and 2.6 SDKs gate features on a Milvus-style version."""
_EMBEDDED = ("Server", "StartError", "connect", "connect_async")


def __getattr__(name: str) -> Any:
    """Imports the embedded server at its first use, since the server's own processes need none of it."""
    if name not in _EMBEDDED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from milvine import embedded

    return getattr(embedded, name)
