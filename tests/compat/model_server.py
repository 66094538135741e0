"""A small HTTP server in the test's process that speaks the protocols of rerankers and of embedding models."""

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


def vector_of(text: str, dim: int) -> list[int]:
    """How often the text has each of the first letters."""
    return [text.count(chr(ord("a") + place)) for place in range(dim)]


def _embedded_texts(body: dict[str, Any]) -> list[str] | None:
    """The texts of a request for vectors; None if it asks for scores."""
    if "requests" in body:
        return [one["content"]["parts"][0]["text"] for one in body["requests"]]
    if "modelUri" in body:
        return [body["text"]] if "text" in body else list(body["texts"])
    given = body.get("texts") if "embedding_types" in body else body.get("inputs", body.get("input"))
    if "parameters" in body:
        given = body["input"]["texts"]
    return given if isinstance(given, list) else None


def _embedding_answer(body: dict[str, Any], vectors: list[Any]) -> Any:
    """Lists of objects with numbers come in another order than the texts."""
    if "requests" in body:
        return {"embeddings": [{"values": vector} for vector in vectors]}
    if "modelUri" in body:
        return {"embedding": vectors[0]} if "text" in body else {"embeddings": vectors}
    if "embedding_types" in body:
        return {"embeddings": {body["embedding_types"][0]: vectors}}
    if "inputs" in body:
        return vectors
    index = "text_index" if "parameters" in body else "index"
    found = [{"object": "embedding", "embedding": v, index: i} for i, v in enumerate(vectors)][::-1]
    return {"output": {"embeddings": found}} if "parameters" in body else {"object": "list", "data": found}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that gave up are part of the tests."""


class ModelServer:
    """`requests`: path, headers and body of each request. `failures`: (status, body) of the next answers. `change`
    alters the results of an answer. `pause_seconds` comes before each answer. `dim`: of the vectors."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.failures: list[tuple[int, bytes]] = []
        self.change: Any = None
        self.pause_seconds = 0.0
        self.dim = 4
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
        texts = _embedded_texts(body)
        if texts is not None:
            vectors: Any = [vector_of(text, self.dim) for text in texts]
            if self.change is not None:
                vectors = self.change(vectors)
            return json.dumps(_embedding_answer(body, vectors)).encode()
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
