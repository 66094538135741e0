"""A node's process: reports to the head, keeps what the head tells it to open, and answers reads."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from milvine.analysis import dictionaries
from milvine.config import Settings, is_loopback
from milvine.errors import AnalyzerInvalid, MilvineError, UnexpectedError
from milvine.model.file_resources import FileResource
from milvine.querynode.remote.head import BEAT, CONTENT, FIND
from milvine.querynode.remote.messages import codec, decode_result
from milvine.querynode.remote.node_server import NodeServer
from milvine.querynode.remote.rpc import Certificates, RpcChannel, RpcServer, Unreachable
from milvine.segment.rows import parsed_json
from milvine.storage.directories import make_directory
from milvine.storage.objects import Place
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import SegmentStore, open_copies

_log = logging.getLogger(__name__)
_BEAT_SECONDS = 0.5
_ANSWER_SECONDS = 3.0
_THREADS = 64
_KEY_FILE = "node.json"


def certificates_of(settings: Settings) -> Certificates | None:
    """Those between head and nodes. Raises UnexpectedError if some of the files are set and others are not."""
    files = (settings.internal_ca_pem_path, settings.internal_server_pem_path, settings.internal_server_key_path)
    if not any(files):
        return None
    if not all(files):
        raise UnexpectedError("internaltls.caPemPath, serverPemPath and serverKeyPath belong together")
    return Certificates(*files, settings.internal_tls_name)


def check_is_guarded(host: str, certificates: Certificates | None) -> None:
    """Raises UnexpectedError for an address that other machines reach without certificates."""
    if certificates is None and not is_loopback(host):
        raise UnexpectedError(
            f"{host} is reached by other machines: set internaltls.caPemPath, serverPemPath and serverKeyPath"
        )


class _Heads:
    """The heads of a cluster, one of which serves."""

    def __init__(self, addresses: Sequence[str], certificates: Certificates | None) -> None:
        self._channels = [RpcChannel(address, certificates) for address in addresses]
        self._current = 0

    def call(self, name: str, request: bytes) -> Any:
        """Asks the head that answered last. Raises Unreachable, and what the head raises."""
        return decode_result(self._channels[self._current].call(name, request, _ANSWER_SECONDS))

    def try_next(self) -> None:
        self._current = (self._current + 1) % len(self._channels)


class _WordsOfHead:
    """The file resources of analyzers, which the head has."""

    def __init__(self, heads: _Heads) -> None:
        self._heads = heads

    def _call(self, name: str, resource: str) -> Any:
        try:
            return self._heads.call(name, resource.encode())
        except Unreachable as error:
            raise AnalyzerInvalid(f"file resource {resource} cannot be read: the head does not answer") from error

    def find(self, name: str) -> FileResource | None:
        found = self._call(FIND, name)
        return None if found is None else FileResource(*found)

    def content(self, resource: FileResource) -> bytes:
        content: bytes = self._call(CONTENT, resource.name)
        return content


class NodeProcess:
    """A query node with a cache of segment files, in the directory of the settings."""

    def __init__(
        self, settings: Settings, heads: Sequence[str], host: str, port: int, labels: Mapping[str, str]
    ) -> None:
        """`heads`: the addresses of the head and of its standbys. `host`, `port`: where it listens; others reach it
        under the same name. Raises UnexpectedError."""
        self._labels = dict(labels)
        self._settings = settings
        self._root = Path(settings.data_dir)
        make_directory(self._root / "segments")
        self._key = _own_key(self._root)
        certificates = certificates_of(settings)
        check_is_guarded(host, certificates)
        pa.set_memory_pool(pa.system_memory_pool())
        parsed_json.set_limit(settings.json_cache_bytes)
        self._heads = _Heads(heads, certificates)
        dictionaries.install(_WordsOfHead(self._heads))
        self._nodes = NodeServer(max(2, os.cpu_count() or 1), settings.memory_limit_bytes)
        self._server = RpcServer(host, port, certificates, _THREADS, self._nodes.answers, self._nodes.streams)
        self.address = f"{host}:{self._server.port}"
        self._store: tuple[Any, SegmentStore] | None = None
        self._stopping = threading.Event()
        self._trouble = ""

    def run(self, on_registered: Callable[[], None], patience_seconds: float = 0.0) -> None:
        """Reports until `stop`, or until no head has answered for so long (0: for ever). `on_registered` is called
        once."""
        is_registered, answered_at = False, time.monotonic()
        while not self._stopping.is_set():
            try:
                self._beat()
            except (Unreachable, MilvineError) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.warning("the head does not take this node: %s", error)
                if patience_seconds and time.monotonic() - answered_at > patience_seconds:
                    _log.warning("no head has answered for %.0f seconds", patience_seconds)
                    return
                self._heads.try_next()
            else:
                self._trouble, answered_at = "", time.monotonic()
                if not is_registered:
                    is_registered = True
                    on_registered()
            self._stopping.wait(_BEAT_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        self._server.stop()

    def _beat(self) -> None:
        held_bytes, mapped_bytes, segments = self._nodes.report()
        epoch, session = self._nodes.session
        report = {
            "messages": codec.fingerprint,
            "key": self._key,
            "address": self.address,
            "hostname": socket.gethostname(),
            "limit_bytes": self._nodes.limit_bytes,
            "held_bytes": held_bytes,
            "mapped_bytes": mapped_bytes,
            "epoch": epoch,
            "session": session,
            "segments": segments,
            "labels": self._labels,
        }
        told = self._heads.call(BEAT, orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS))
        if (told["epoch"], told["session"]) != (epoch, session):
            self._nodes.begin(told["epoch"], told["session"], self._store_of(told["root"], told["place"]))
            _log.info("registered as session %s of epoch %s", told["session"], told["epoch"])

    def _store_of(self, root: str, place: list[str] | None) -> SegmentStore:
        told = (root, place)
        if self._store is None or self._store[0] != told:
            if place is None:
                if not Path(root).is_dir():
                    raise UnexpectedError(
                        f"the head's segment files are in its directory {root}, which is not on this machine"
                    )
                store = SegmentStore(SegmentPaths(Path(root)))
            else:
                store = open_copies(SegmentPaths(self._root), Place(*place), self._settings.store_cache_bytes)
            self._store = told, store
        return self._store[1]


def _own_key(root: Path) -> str:
    """The same for a directory, so that a node that comes back gets the segments that it has copies of."""
    path = root / _KEY_FILE
    if path.is_file():
        return str(orjson.loads(path.read_bytes())["key"])
    key = uuid.uuid4().hex
    path.write_bytes(orjson.dumps({"key": key}))
    return key
