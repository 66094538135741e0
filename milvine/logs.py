"""The log: one line per event on stderr, as text or as JSON, and its level, which can change while the server runs.

An event is a sentence and named values. Nothing is formatted unless its level is on.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

TEXT, JSON = "text", "json"
LEVELS = {name: name for name in ("debug", "info", "warning", "error")} | {
    "warn": "warning",
    "panic": "error",
    "fatal": "error",
}
"""Our name of each level; the last three are Milvus's."""
_FIELDS = "milvine_fields"
_PLAIN = re.compile(r"[\w.:/@+*%-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def configure(level: str, style: str) -> None:
    """Directs the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == JSON else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """`level` is one of LEVELS."""
    logging.getLogger().setLevel(LEVELS[level].upper())


def level() -> str:
    """The current level, in Milvus's words."""
    name = logging.getLevelName(logging.getLogger().level).lower()
    return "warn" if name == "warning" else str(name)


def event(log: logging.Logger, level_number: int, sentence: str, /, **values: Any) -> None:
    """Logs a sentence with named values. Values of callers cannot begin a new line."""
    if log.isEnabledFor(level_number):
        log.log(level_number, "%s", sentence, extra={_FIELDS: values})


def timestamp(seconds: float) -> str:
    """Seconds since 1970 in ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def json_text(value: object) -> str:
    """JSON on one line; what is not UTF-8 is replaced."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a text with lone surrogates
        return orjson.dumps(str(value).encode("utf-8", "replace").decode()).decode()


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class _TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000+00:00 INFO milvine.server: sentence name=value name="a text"`."""

    def format(self, record: logging.LogRecord) -> str:
        values = getattr(record, _FIELDS, {})
        words = [timestamp(record.created), record.levelname, f"{record.name}:"]
        words.append(_CONTROL.sub(_escaped, record.getMessage()))
        words += [f"{name}={_text(value)}" for name, value in values.items()]
        line = " ".join(words)
        return f"{line}\n{_traceback(record)}" if record.exc_info else line


def _text(value: object) -> str:
    text = str(value)
    return text if not isinstance(value, dict | list) and _PLAIN.fullmatch(text) else json_text(value)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = _traceback(record)
        return json_text(line)


def _traceback(record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()
