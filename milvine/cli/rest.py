"""Calls of a running server over REST, and the options that say which one."""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from socket import gaierror
from ssl import SSLCertVerificationError, SSLContext, SSLEOFError, SSLError, create_default_context
from typing import Any
from urllib.parse import urlsplit

from milvine.cli.command import Failed

_DEFAULT_URI = "http://localhost:19530"
_DEFAULT_SECONDS = 30.0
_PAUSES = (0.5, 1.0, 2.0, 4.0, None)
"""Seconds before each further attempt; None after the last one."""
_CERTIFICATE, _KEY = "MILVINE_CLIENT_PEM", "MILVINE_CLIENT_KEY"
"""The variables that name the files of the client's certificate and its key, which may be in the same file."""


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    hint = f"with TLS, SSL_CERT_FILE names the certificate to trust, {_CERTIFICATE} and {_KEY} the client's own"
    parser.add_argument("--uri", default=_DEFAULT_URI, help=f"the server; default: %(default)s; {hint}")
    add_login_arguments(parser)
    parser.add_argument("--database", default="default", metavar="NAME", help="default: %(default)s")


def add_login_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", default=None, help="USER:PASSWORD; default: the variable MILVINE_TOKEN, else none")


class NoAnswer(Failed):
    """The server cannot be reached, or broke off."""


class RestServer:
    """The server that the options name."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """Raises Failed if the address is none, or the client's certificate cannot be used."""
        self._uri = _checked_uri(parsed.uri)
        self._tls = _with_certificate()
        token = os.environ.get("MILVINE_TOKEN", "") if parsed.token is None else parsed.token
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def call(self, path: str, body: Mapping[str, Any], seconds: float = _DEFAULT_SECONDS) -> Any:
        """The `data` of the answer. Raises Failed with the server's sentence, or why there is no answer."""
        return _data_of(self._sent(path, body, seconds)[0], f"{self._uri}/{path}")

    def content(self, path: str, body: Mapping[str, Any], seconds: float = _DEFAULT_SECONDS) -> bytes:
        """An answer that is not JSON. Asks again if there is no answer, since the server may be restarting. Raises
        Failed as `call`."""
        for pause in _PAUSES:
            try:
                content, media_type = self._sent(path, body, seconds)
            except NoAnswer:
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                break
        if media_type.startswith("application/json"):
            _data_of(content, f"{self._uri}/{path}")
            raise Failed(f"{self._uri}/{path} does not answer with rows; is it a Milvine server?")
        return content

    def _sent(self, path: str, body: Mapping[str, Any], seconds: float) -> tuple[bytes, str]:
        """The answer and its media type."""
        url = f"{self._uri}/{path}"
        headers = {**self._headers, "Request-Timeout": str(int(seconds))}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=self._tls) as response:
                return response.read(), response.headers.get_content_type()
        except urllib.error.HTTPError as error:
            raise Failed(_refusal(url, error)) from None
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise NoAnswer(f"no answer from {url}: {_words(reason)}{_hint(self._uri, reason)}") from None


def _with_certificate() -> SSLContext | None:
    """TLS with the client's own certificate; None if it has none. Raises Failed."""
    certificate, key = os.environ.get(_CERTIFICATE), os.environ.get(_KEY)
    if not certificate:
        return None
    context = create_default_context()
    try:
        context.load_cert_chain(certificate, key or None)
    except OSError as error:  # SSLError is one
        files = f"{certificate} and {key}" if key else certificate
        raise Failed(f"{_CERTIFICATE} and {_KEY}: cannot use {files}: {_words(error)}") from None
    return context


def _data_of(content: bytes, url: str) -> Any:
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise NoAnswer(f"no answer from {url}: {error}") from None
    if answer["code"]:
        raise Failed(answer["message"])
    return answer.get("data")


def _words(reason: BaseException | str) -> str:
    """Without the number of the error."""
    return (isinstance(reason, OSError) and reason.strerror) or str(reason).strip()


def _hint(uri: str, reason: BaseException | str) -> str:
    """What to try, after the reason why there is no answer."""
    is_broken = isinstance(reason, ConnectionResetError | BrokenPipeError | SSLEOFError)
    if uri.startswith("https://") and (is_broken or "CERTIFICATE_REQUIRED" in str(reason)):  # whichever comes first
        return f"; if the server wants its clients' certificates, {_CERTIFICATE} and {_KEY} name yours and its key"
    if isinstance(reason, gaierror):
        return f"; is {urlsplit(uri).hostname} the right name?"
    if isinstance(reason, ConnectionRefusedError):
        return "; `milvine serve` starts a server"
    if isinstance(reason, SSLCertVerificationError):
        return "; SSL_CERT_FILE names the certificate to trust"
    if isinstance(reason, SSLError):
        return f"; a server without TLS answers at http://{uri.partition('://')[2]}"
    if isinstance(reason, HTTPException):
        return "; is it a Milvine server?"
    if is_broken:
        return f"; a server with TLS answers at https://{uri.partition('://')[2]}"
    return ""


def _checked_uri(uri: str) -> str:
    if not uri.startswith(("http://", "https://")):
        raise Failed(f"--uri must begin with http:// or https://; did you mean http://{uri.rpartition('://')[2]}?")
    try:
        parts = urlsplit(uri)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        is_address = False
    if not is_address:
        raise Failed(f"--uri {uri} is not an address such as {_DEFAULT_URI}")
    return uri.rstrip("/")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    """The server's own sentence, if it sent one."""
    try:
        message = str(json.loads(error.read())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{url} answers {error.code} {error.reason}; is it a Milvine server?"
    if error.code == 401:
        return f"{message}; give the right user and password by --token USER:PASSWORD or MILVINE_TOKEN"
    return message
