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
    """The settings of a server on this directory. A copy of a directory gets a copy of its objects."""
    server = _server(kind)
    if data_dir not in _prefixes:
        prefix = uuid.uuid4().hex
        marker = data_dir / "store.json"
        if marker.exists():
            source = json.loads(marker.read_bytes())["uri"].rpartition("/")[2]
            if source in _prefixes.values():
                _copy(server, source, prefix)
            else:
                prefix = source
        _prefixes[data_dir] = prefix
    return {**server.environment(_prefixes[data_dir]), "MILVINE_STORE_REMOVAL_SECONDS": _REMOVAL_SECONDS}


def _copy(server: ObjectServer, source: str, target: str) -> None:
    for name in ("milvine.json", *server.sizes(source), *server.sizes(source, "log")):
        server.s3.copy_object(Bucket=BUCKET, CopySource=f"{BUCKET}/{source}/{name}", Key=f"{target}/{name}")


def log_directory(data_dir: Path) -> Path:
    """Where versitygw keeps the objects of the directory's logs, as files."""
    prefix: str = json.loads((data_dir / "store.json").read_bytes())["uri"].rpartition("/")[2]
    environment_of(data_dir, VERSITYGW)
    return _server(VERSITYGW).files / BUCKET / prefix / "log"


def store_as_it_is(path: Path, kind: str) -> None:
    """Makes the object of a segment file what the local file is. No effect on files that are not in the store."""
    data_dir = next((one for one in path.parents if (one / "store.json").exists()), None)
    if data_dir is None or not path.is_relative_to(data_dir / "segments"):
        return
    environment_of(data_dir, kind)
    key = f"{_prefixes[data_dir]}/{path.relative_to(data_dir).as_posix()}"
    if path.exists():
        _server(kind).s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    else:
        _server(kind).s3.delete_object(Bucket=BUCKET, Key=key)
