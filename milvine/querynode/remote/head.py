"""The head's own port, where nodes report twice a second: a report that the head does not know is a registration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import orjson

from milvine import __version__
from milvine.analysis.dictionaries import Dictionaries
from milvine.errors import UnexpectedError
from milvine.model.resource_groups import NODE_ID
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.messages import codec, encode_error, encode_result
from milvine.querynode.remote.remote_node import RemoteNode, Report
from milvine.querynode.remote.rpc import Answer, Certificates, RpcChannel, RpcServer
from milvine.storage.objects import Place

_log = logging.getLogger(__name__)
_THREADS = 8
BEAT, FIND, CONTENT = "beat", "find_words", "words"


class Head:
    """Registrations. `epoch` is larger than that of every head before."""

    def __init__(
        self,
        members: Members,
        epoch: int,
        root: str,
        place: Place | None,
        certificates: Certificates | None,
        words: Dictionaries,
        check: Callable[[], None],
    ) -> None:
        """Nodes read segment files from `place` or, if it is None, from the directory `root` itself. `check` raises if
        another head may serve."""
        self._members = members
        self.epoch = epoch
        self._root = root
        self._place = place
        self._certificates = certificates
        self._words = words
        self._check = check
        self._lock = threading.Lock()
        self._known: dict[str, RemoteNode] = {}
        self._last_id = NODE_ID
        self._server: RpcServer | None = None

    def start(self, host: str, port: int) -> int:
        """Listens; returns the port."""
        answers = {BEAT: self._on_beat, FIND: self._find, CONTENT: self._content}
        self._server = RpcServer(
            host, port, self._certificates, _THREADS, {name: _answering(one) for name, one in answers.items()}
        )
        return self._server.port

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _on_beat(self, request: bytes) -> dict[str, Any]:
        self._check()
        # Plain JSON, so that another version can be told from this one.
        beat = orjson.loads(request)
        if beat.pop("messages") != codec.fingerprint:
            raise UnexpectedError(f"the head is Milvine {__version__}, whose messages the node does not know")
        segments = {int(collection_id): ids for collection_id, ids in beat.pop("segments").items()}
        node, has_joined = self._node_of(Report(**beat, segments=segments))
        if has_joined:
            self._members.join(node)
        place = None if self._place is None else [self._place.uri, self._place.endpoint, self._place.region]
        return {"epoch": self.epoch, "session": node.session, "root": self._root, "place": place}

    def _node_of(self, report: Report) -> tuple[RemoteNode, bool]:
        """The node, and whether it has just come to know of its registration."""
        with self._lock:
            node = self._known.get(report.key)
            if node is not None and (report.epoch, report.session) == (self.epoch, node.session):
                if not node.is_lost:
                    node.beat(report)
                    has_joined, node.is_live = not node.is_live, True
                    return node, has_joined
            elif node is not None and not node.is_live and not node.is_lost and node.report.address == report.address:
                return node, False  # the answer has not arrived yet
            replaced, node = node, self._registered(report)
        if replaced is not None:
            self._members.lose(replaced.node_id, "it was started anew")
        return node, False

    def _registered(self, report: Report) -> RemoteNode:
        self._last_id += 1
        session = self._last_id
        channel = RpcChannel(report.address, self._certificates)
        node = RemoteNode(self._last_id, report, channel, self.epoch, session)
        self._known[report.key] = node
        return node

    def _find(self, request: bytes) -> Any:
        found = self._words.find(request.decode())
        return None if found is None else (found.resource_id, found.name, found.path, found.file_bytes)

    def _content(self, request: bytes) -> bytes:
        found = self._words.find(request.decode())
        if found is None:
            raise UnexpectedError(f"file resource {request.decode()} was removed")
        return self._words.content(found)


def _answering(answer: Callable[[bytes], Any]) -> Answer:
    def handle(request: bytes) -> bytes:
        try:
            return encode_result(answer(request))
        except Exception as error:  # noqa: BLE001 - it is the answer
            _log.warning("a node's call failed: %s", error)
            return encode_error(error)

    return handle
