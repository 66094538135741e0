"""A small HTTP server in the test's process that speaks the protocols of rerankers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def score_of(query: str, text: str) -> float:
    """The share of the query's letters that the text has, and a little less the longer it is."""
    letters = set(query)
    return len(letters & set(text)) / max(1, len(letters)) - len(text) / 1000


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that gave up are part of the tests."""


class ModelServer:
    """`requests`: path, headers and body of each request. `failures`: (status, body) of the next answers. `change`
    alters the results of an answer. `pause_seconds` comes before each answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.failures: list[tuple[int, bytes]] = []
        self.change: Any = None
        self.pause_seconds = 0.0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.requests.append((self.path, dict(self.headers), body))
                time.sleep(owner.pause_seconds)
                status, content = owner.failures.pop(0) if owner.failures else (200, owner.answer(self.path, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path: str, body: dict[str, Any]) -> bytes:
        if path.endswith("/pipeline/sentence-similarity"):
            given = body["inputs"]
            scores = [score_of(given["source_sentence"], text) for text in given["sentences"]]
            return json.dumps(scores).encode()
        given = body.get("input", body)
        texts = given["texts"] if "texts" in given else given["documents"]
        name = "score" if "texts" in given else "relevance_score"
        results = [{"index": i, name: score_of(given["query"], text)} for i, text in enumerate(texts)]
        results.sort(key=lambda result: -result[name])
        if self.change is not None:
            results = self.change(results)
        if "texts" in given:
            return json.dumps(results).encode()
        key = "data" if path == "/v1/rerank-voyage" else "results"
        answer: Any = {key: results}
        return json.dumps({"output": answer} if "input" in body else answer).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def model_server() -> Iterator[ModelServer]:
    made = ModelServer()
    try:
        yield made
    finally:
        made.close()
