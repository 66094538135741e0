"""Google Cloud Storage's XML API as far as obstore uses it, by an S3 server behind it: both have the same paths,
queries and documents, but other headers. No emulator was found that speaks it (docs/cluster.md names those tried)."""

from __future__ import annotations

import http.client
import json
import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import HOST
from object_servers import KEYS, ObjectServer

_PASSED = ("range", "content-type")
_ANSWERED = ("ETag", "Content-Type", "Last-Modified", "Content-Range")
_SECONDS = 30.0


class GoogleStorage:
    """Listens from the start. `refused`: requests that the real one would not take."""

    def __init__(self, behind: ObjectServer) -> None:
        self.refused: list[str] = []
        self.created_once = 0
        """Requests that were to create an object, and not to replace one."""
        keys = Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
        self._signer = S3SigV4Auth(keys, "s3", "us-east-1")
        self._behind = urlsplit(behind.endpoint).netloc
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                answer, content = storage.ask(self.command, self.path, self.headers, body)
                self.send_response(answer.status)
                for name in _ANSWERED:
                    if value := answer.headers.get(name):
                        self.send_header(name, value)
                self.send_header("x-goog-generation", str(time.time_ns() // 1000))
                size = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", size)
                self.end_headers()
                self.wfile.write(content)

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://{HOST}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def service_account(self, directory: Path) -> str:
        """A file of credentials without a key, as Google's tools take for an emulator."""
        path = directory / "service-account.json"
        account = {"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True}
        path.write_text(json.dumps({**account, "gcs_base_url": self.endpoint}))
        return str(path)

    def ask(self, method: str, path: str, headers: Message, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer of the S3 server to one request of Google's."""
        asked = {name: value for name in _PASSED if (value := headers.get(name))}
        for name in headers:
            lower = name.lower()
            if lower == "x-goog-copy-source":
                asked["x-amz-copy-source"] = headers[name]
            elif lower == "x-goog-if-generation-match" and headers[name] == "0":
                asked["If-None-Match"] = "*"
                self.created_once += 1
            elif lower.startswith(("x-goog-", "x-amz-", "if-")):
                self.refused.append(f"{name}: {headers[name]}")
        request = AWSRequest(method, f"http://{self._behind}{path}", asked, body)
        self._signer.add_auth(request)
        connection = http.client.HTTPConnection(self._behind, timeout=_SECONDS)
        connection.request(method, path, body, dict(request.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content
