"""Users by the certificates of clients.

The front verifies a certificate and writes a part of it into a header, which it takes from no client. It is one part
only, so that no other can look like it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from milvine.config import BY_COMMON_NAME, BY_URI
from milvine.model.users import Caller
from milvine.service.context import Engine

HEADER = "HTTP_X_FORWARDED_CLIENT_CERT"
"""The key of the front's header in the environment of a request."""
_MOST_CHARACTERS, _KEPT_CERTIFICATES = 4096, 256
_SUBJECT = re.compile(r'Hash=[0-9a-f]{64};Subject="((?:[^"\\]|\\.)*)"')
_URI = re.compile(r"Hash=[0-9a-f]{64};URI=(.+)")
_ATTRIBUTE = re.compile(r"([A-Za-z][A-Za-z0-9-]*|[0-9.]+)=((?:[^,+\\]|\\.)*)(?:[,+]|$)")
_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2})|\\(.)", re.DOTALL)


def caller_by_certificate(engine: Engine, shown: str | None) -> Caller | None:
    """The user of the certificate that the front shows; None if it names none that there is, or if certificates name no
    users here."""
    source = engine.settings.tls_user_from
    if not source or not shown or len(shown) > _MOST_CHARACTERS:
        return None
    text = _named(source, shown)
    if text is None:
        return None
    users = engine.settings.tls_users
    user = users.get(text, "") if users else text
    return Caller(user) if user in engine.catalog.snapshot.users else None


@lru_cache(_KEPT_CERTIFICATES)
def _named(source: str, shown: str) -> str | None:
    """The part of a certificate that names a user; clients send many requests with the same one."""
    match = (_URI if source == BY_URI else _SUBJECT).fullmatch(shown)
    if match is None:
        return None
    return _common_name(match[1]) if source == BY_COMMON_NAME else match[1]


def _common_name(subject: str) -> str:
    """The one common name of a subject in the form of RFC 2253, or "" """
    names: list[str] = []
    position = 0
    while position < len(subject):
        found = _ATTRIBUTE.match(subject, position)
        if found is None:
            return ""
        if found[1].upper() == "CN":
            names.append(found[2])
        position = found.end()
    return _unescaped(names[0]) if len(names) == 1 else ""


def _unescaped(value: str) -> str:
    def meant(found: re.Match[bytes]) -> bytes:
        return bytes.fromhex(found[1].decode()) if found[1] else found[2]

    return _ESCAPED.sub(meant, value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
