"""The embedding model that cases expect: a service that speaks the protocol of Text Embeddings Inference. Equal texts
have equal vectors, of unit length; their meaning is not in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np

_DIM = 768


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        body = json.dumps([_vector(text) for text in texts]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _vector(text: str) -> list[float]:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    found = np.random.default_rng(seed).normal(size=_DIM)
    return [round(float(x), 6) for x in found / np.linalg.norm(found)]


@contextmanager
def text_embeddings() -> Iterator[str]:
    """The service's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
