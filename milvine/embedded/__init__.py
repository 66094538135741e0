"""A server without a command: `milvine.connect(directory)` and `milvine.Server`."""

from milvine.embedded.clients import connect, connect_async
from milvine.embedded.launch import StartError
from milvine.embedded.server import Server

__all__ = ["Server", "StartError", "connect", "connect_async"]
