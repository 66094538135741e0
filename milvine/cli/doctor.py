"""`milvine doctor`: what would not work on this machine, and why."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from milvine import config, front
from milvine.cli.command import FAILED, OK, Command
from milvine.cli.output import add_json_argument, print_json

_LIBRARIES = ("envoy", "faiss", "falcon", "google_crc32c", "google.protobuf", "lark", "msgspec", "numpy", "orjson")
_MORE_LIBRARIES = ("prometheus_client", "pyarrow", "pyvoy", "scipy", "sqlalchemy", "yaml")
_LEAST_FREE_BYTES = 1 << 30
_LEAST_MEMORY_BYTES = 512 << 20
_SLOW_SYNC_MS = 20.0
_SYNCS = 10


class _Problem(Exception):
    """What does not work, and what to do."""


def _python(_: argparse.Namespace) -> str:
    front.embedding()  # raises CannotServe
    return f"{sys.version.split()[0]} with a shared libpython"


def _libraries(_: argparse.Namespace) -> str:
    missing = []
    for name in (*_LIBRARIES, *_MORE_LIBRARIES):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise _Problem(f"cannot be imported: {', '.join(missing)}; install milvine again")
    return f"{len(_LIBRARIES) + len(_MORE_LIBRARIES)} can be imported"


def _client(_: argparse.Namespace) -> str:
    try:
        version = importlib.import_module("pymilvus").__version__
    except ImportError as error:
        raise _Problem("pymilvus is not installed; clients and milvine.connect need it") from error
    return f"pymilvus {version}"


def _port(parsed: argparse.Namespace) -> str:
    hosts = front.check_address("", parsed.port)
    return f"{parsed.port} is free on {' and '.join(hosts)}"


def _directory(parsed: argparse.Namespace) -> str:
    nearest = _existing(parsed.data_dir)
    try:
        with tempfile.NamedTemporaryFile(dir=nearest) as file:
            started = time.perf_counter()
            for _ in range(_SYNCS):
                file.write(b"x" * 512)
                file.flush()
                os.fsync(file.fileno())
            milliseconds = (time.perf_counter() - started) * 1000 / _SYNCS
    except OSError as error:
        raise _Problem(f"cannot write to {nearest}: {error.strerror}") from error
    speed = f"{nearest} is written, a sync takes {milliseconds:.1f} ms"
    return f"{speed}; writes will be slow" if milliseconds > _SLOW_SYNC_MS else speed


def _space(parsed: argparse.Namespace) -> str:
    free = shutil.disk_usage(_existing(parsed.data_dir)).free
    if free < _LEAST_FREE_BYTES:
        raise _Problem(f"only {free >> 20:,} MB are free; merges and builds write beside the old files")
    return f"{free >> 30:,} GB are free"


def _memory(_: argparse.Namespace) -> str:
    found = config.machine_memory_bytes()
    if found < _LEAST_MEMORY_BYTES:
        raise _Problem(f"{found >> 20:,} MB are too little; a server needs 200 MB beside what is loaded")
    return f"{found / (1 << 30):.1f} GB, of which loading may take {0.9 * found / (1 << 30):.1f} GB by default"


def _existing(directory: Path) -> Path:
    """The directory, or the nearest parent that exists."""
    directory = directory.resolve()
    return next(path for path in (directory, *directory.parents) if path.exists())


_CHECKS: dict[str, Callable[[argparse.Namespace], str]] = {
    "python": _python,
    "libraries": _libraries,
    "client": _client,
    "memory": _memory,
    "directory": _directory,
    "disk": _space,
    "port": _port,
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, default=Path("milvine-data"), help="default: ./%(default)s")
    parser.add_argument("--port", type=int, default=19530, help="default: %(default)s")
    add_json_argument(parser)


def _run(parsed: argparse.Namespace) -> int:
    found = []
    for name, check in _CHECKS.items():
        try:
            found.append({"check": name, "ok": True, "says": check(parsed)})
        except (_Problem, front.CannotServe) as problem:
            found.append({"check": name, "ok": False, "says": str(problem)})
    if parsed.json:
        print_json(found)
    else:
        for line in found:
            print(f"{'ok     ' if line['ok'] else 'PROBLEM'}  {line['check']:<10} {line['says']}")
    return OK if all(line["ok"] for line in found) else FAILED


COMMAND = Command(
    "doctor",
    "say what would not work on this machine, and why",
    ("milvine doctor", "milvine doctor --data-dir /var/lib/milvine --port 19531"),
    _add_arguments,
    _run,
)
