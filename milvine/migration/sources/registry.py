"""The kinds of sources: how a place is recognized, and what opens it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from milvine.migration.shape import MigrationError, Source
from milvine.migration.sources.options import SourceOptions
from milvine.model.records import record

_HERE = "milvine.migration.sources"


@record
class Kind:
    """`opens` is a module of this package and its class; `needs` are the packages that it imports, if any."""

    name: str
    what: str
    opens: tuple[str, str]
    needs: str
    recognizes: Callable[[str], bool]


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://", "tcp://", "unix:"))


def _has(*names: str) -> Callable[[str], bool]:
    return lambda place: all((Path(place) / name).exists() for name in names)


def _is_lite2(place: str) -> bool:
    path = Path(place)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _is_lance(place: str) -> bool:
    return Path(place).is_dir() and any(Path(place).glob("*.lance"))


KINDS = (
    Kind("milvus", "a Milvus server", ("milvus", "MilvusSource"), "pymilvus", _is_address),
    Kind("lite2", "a file of Milvus Lite 2", ("lite2", "Lite2Source"), "", _is_lite2),
    Kind("chroma", "a directory or server of Chroma", ("chroma", "ChromaSource"), "chromadb", _has("chroma.sqlite3")),
    Kind(
        "qdrant",
        "a directory or server of Qdrant",
        ("qdrant", "QdrantSource"),
        "qdrant-client",
        _has("meta.json", "collection"),
    ),
    Kind("lancedb", "a directory of LanceDB", ("lance", "LanceSource"), "lancedb", _is_lance),
    Kind(
        "pgvector",
        "a database of PostgreSQL",
        ("pgvector", "PgvectorSource"),
        "'psycopg[binary]'",
        lambda place: place.startswith(("postgresql://", "postgres://")),
    ),
    Kind(
        "lite3",
        "a file of Milvus Lite 3",
        ("milvus", "MilvusSource"),
        "pymilvus milvus-lite",
        _has("collections", "databases"),
    ),
)
"""The first that recognizes a place is meant by it."""


def open_source(place: str, name: str, options: SourceOptions) -> tuple[Kind, Source]:
    """The source at `place`, of the kind of this name, or of the kind that the place looks like."""
    kinds = [kind for kind in KINDS if (kind.name == name if name else kind.recognizes(place))]
    if not kinds:
        known = ", ".join(kind.name for kind in KINDS)
        raise MigrationError(f"{place} does not look like any source; name its kind by --from: {known}")
    kind = kinds[0]
    module, class_name = kind.opens
    try:
        opened: Source = getattr(importlib.import_module(f"{_HERE}.{module}"), class_name)(place, options)
    except ImportError as error:
        if kind.needs:
            raise MigrationError(
                f"{kind.what} is read by a package that is not installed ({error}): pip install {kind.needs}"
            ) from None
        raise
    return kind, opened
