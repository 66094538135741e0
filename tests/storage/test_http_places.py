"""Files that a web server has, which imports read."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from milvine.storage.import_files import ImportPlaces

CONTENT = bytes(range(256)) * 1000


class _Files(BaseHTTPRequestHandler):
    """One file, of which parts can be asked for."""

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._start(200, len(CONTENT))

    def do_GET(self) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = CONTENT[int(first) : int(last or len(CONTENT)) + 1]
        self._start(206, len(part), f"bytes {first}-{int(first) + len(part) - 1}/{len(CONTENT)}")
        self.wfile.write(part)

    def _start(self, status: int, length: int, part: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()


def test_a_web_server_is_read_whatever_the_object_store_of_the_settings() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        places = ImportPlaces((f"http://127.0.0.1:{server.server_address[1]}/files",), region="us-east-1")
        file, size = places.open("a.parquet")
        assert (size, file.read()) == (len(CONTENT), CONTENT)
    finally:
        server.shutdown()
        server.server_close()
