"""One object store for all servers of a test run, with a prefix of its own for each data directory."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from object_servers import BUCKET, VERSITYGW, ObjectServer

_REMOVAL_SECONDS = "2"
_prefixes: dict[Path, str] = {}
"""By data directory."""


@functools.cache
def _server(kind: str) -> ObjectServer:
    """Started once. Commands that tests run find it by the environment; a data directory names its own prefix."""
    directory = Path(tempfile.mkdtemp(prefix="milvine-objects-"))
    server = ObjectServer(directory, kind)

    def end() -> None:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(end)
    own = server.environment("")
    del own["MILVINE_STORE_URI"]
    os.environ.update(own, MILVINE_STORE_REMOVAL_SECONDS=_REMOVAL_SECONDS)
    return server


def environment_of(data_dir: Path, kind: str) -> dict[str, str]:
    """The settings of a server on this directory. A copy of a directory gets a copy of its objects, and names it."""
    server = _server(kind)
    if data_dir not in _prefixes:
        prefix = uuid.uuid4().hex
        marker = data_dir / "store.json"
        if marker.exists():
            named = json.loads(marker.read_bytes())
            source = named["uri"].rpartition("/")[2]
            if source in _prefixes.values():
                _copy(server, source, prefix)
                marker.write_text(json.dumps({**named, "uri": server.uri(prefix)}))
            else:
                prefix = source
        _prefixes[data_dir] = prefix
    return {**server.environment(_prefixes[data_dir]), "MILVINE_STORE_REMOVAL_SECONDS": _REMOVAL_SECONDS}


def _copy(server: ObjectServer, source: str, target: str) -> None:
    for name in ("milvine.json", *server.sizes(source), *server.sizes(source, "log")):
        server.s3.copy_object(Bucket=BUCKET, CopySource=f"{BUCKET}/{source}/{name}", Key=f"{target}/{name}")


def log_directory(data_dir: Path) -> Path:
    """Where versitygw keeps the objects of the directory's logs, as files."""
    environment_of(data_dir, VERSITYGW)
    return _server(VERSITYGW).files / BUCKET / _prefixes[data_dir] / "log"


def shown(path: Path, kind: str) -> str:
    """How messages name a file of a data directory, or one of versitygw: by its object unless it is local."""
    server = _server(kind)
    if path.is_relative_to(server.files):
        return f"s3://{path.relative_to(server.files).as_posix()}"
    name = None if path.exists() else _name(path, kind)
    return str(path) if name is None else server.uri(name)


def store_as_it_is(path: Path, kind: str) -> None:
    """Makes the object of a segment file what the local file is. No effect on files that are not in the store."""
    name = _name(path, kind)
    if name is None:
        return
    if path.exists():
        _server(kind).s3.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())
    else:
        _server(kind).s3.delete_object(Bucket=BUCKET, Key=name)


def _name(path: Path, kind: str) -> str | None:
    """The object of a segment file; None for files that are not in the store."""
    data_dir = next((one for one in path.parents if (one / "store.json").exists()), None)
    if data_dir is None or not path.is_relative_to(data_dir / "segments"):
        return None
    environment_of(data_dir, kind)
    return f"{_prefixes[data_dir]}/{path.relative_to(data_dir).as_posix()}"
