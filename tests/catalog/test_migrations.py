"""A directory of an earlier Milvine opens with everything in it, and a catalog is upgraded whole or not at all.

`directory-3.tar.xz` is a directory of a Milvine whose catalog had version 3, as a `kill -9` left it: two databases,
sealed and growing rows, flushed and unflushed deletes, built indexes, an alias, a user, a field added later.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from directory_check import damages
from pymilvus import MilvusClient

from milvine.catalog import encoding, tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import FIRST_VERSION, Step, latest_version
from milvine.catalog.sqlite_file import CATALOG_FILE, open_catalog, read_catalog
from milvine.errors import DataIntegrityError, ServiceInternal
from milvine.model.collections import Collection, LoadConfig
from milvine.model.functions import FunctionSchema
from milvine.model.resource_groups import ResourceGroupConfig
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec
from milvine.model.segments import SegmentMeta
from milvine.model.types import ConsistencyLevel

OLD_DIRECTORY = Path(__file__).parent / "directory-3.tar.xz"
WITH_USERS = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    with tarfile.open(OLD_DIRECTORY) as archive:
        archive.extractall(directory, filter="data")
    return directory


def row(key: int) -> dict[str, Any]:
    name = None if key % 5 == 0 else f"n{key}"
    tags = [key, key + 1]
    vector = [float(key), 0.0, 1.0, 2.0]
    return {
        "id": key,
        "vec": vector,
        "name": name,
        "size": key % 3,
        "tags": tags,
        "color": f"c{key % 4}",
        "added": None,
    }


THINGS = {k: row(k) for k in [0, *range(6, 40), 100, *range(102, 120), *range(201, 210)]} | {
    4: row(4) | {"name": "again"}
}
BOOKS = {f"k{i}": i % 3 for i in range(12) if i != 3}


def check_contents(uri: str) -> None:
    client = MilvusClient(uri=uri, token="reader:secret-123")
    assert client.list_databases() == ["default", "other"]
    assert sorted(client.list_collections()) == ["graph", "things"]
    assert client.describe_alias("stuff")["collection_name"] == "things"
    described = client.describe_collection("stuff")
    assert described["description"] == "things with int keys"
    assert [f["name"] for f in described["fields"]] == ["id", "vec", "name", "size", "tags", "added"]
    assert described["properties"]["mmap.enabled"] == "false"
    assert client.list_partitions("things") == ["_default", "late"]
    assert sorted(client.list_indexes("graph")) == ["by_group", "vec"]
    assert client.describe_index("graph", "vec")["index_type"] == "HNSW"

    client.load_collection("things")
    fields = ["id", "vec", "name", "size", "tags", "color", "added"]
    found = client.query("things", filter="id >= 0", output_fields=fields)
    assert {r["id"]: dict(r) for r in found} == THINGS
    late = client.query("things", filter="id >= 0", partition_names=["late"], output_fields=["id"])
    assert sorted(r["id"] for r in late) == [100, *range(102, 120)]
    assert [h["id"] for h in client.search("things", [row(4)["vec"]], limit=3)[0]] == [4, 6, 7]

    client.load_collection("graph")
    assert [h["id"] for h in client.search("graph", [[700.2, 0.0]], limit=3)[0]] == [700, 701, 699]
    assert client.query("graph", filter="group == 1", output_fields=["count(*)"])[0]["count(*)"] == 275

    client.use_database("other")
    assert client.describe_database("other")["database.max.collections"] == "7"
    index = client.prepare_index_params()
    index.add_index("half", index_type="FLAT", metric_type="L2")
    if not client.list_indexes("books"):
        client.create_index("books", index)
    client.load_collection("books")
    books = client.query("books", filter="shelf >= 0", output_fields=["key", "shelf", "half"])
    assert {r["key"]: r["shelf"] for r in books} == BOOKS
    halves = {r["key"]: np.frombuffer(r["half"][0], np.float16).tolist() for r in books}
    assert halves == {key: [float(key[1:]), 1.0] for key in BOOKS}
    client.close()


def test_an_upgrade_keeps_everything_in_a_directory_of_an_earlier_version(
    new_server: Callable[..., Any], data_dir: Path
) -> None:
    assert damages(data_dir) == []
    server = new_server(data_dir=data_dir, env=WITH_USERS)
    check_contents(server.uri)
    client = MilvusClient(uri=server.uri, token="reader:secret-123")
    client.insert("things", [row(1000)])
    client.delete("things", ids=[1000])
    client.flush("things")
    client.close()
    server.stop()
    server.start()
    check_contents(server.uri)
    server.stop()
    assert damages(data_dir) == []


def structure(path: Path) -> dict[str, list[Any]]:
    inspector = sa.inspect(sa.create_engine(f"sqlite:///{path}"))
    return {
        table: sorted(
            (column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)
        )
        for table in inspector.get_table_names()
    }


def test_an_upgraded_catalog_has_the_tables_and_columns_of_a_new_one(data_dir: Path, tmp_path: Path) -> None:
    open_catalog(data_dir / CATALOG_FILE).close()
    open_catalog(tmp_path / "new.sqlite").close()
    assert structure(data_dir / CATALOG_FILE) == structure(tmp_path / "new.sqlite")


def test_users_of_an_earlier_catalog_keep_their_rights_by_the_role_admin(data_dir: Path) -> None:
    catalog = open_catalog(data_dir / CATALOG_FILE)
    rules = catalog.snapshot.access
    assert rules.roles == {"admin": "", "public": ""}
    assert rules.roles_of == {"reader": frozenset({"admin"})}
    assert (rules.grants, rules.groups) == ({}, {})
    catalog.close()


def test_migration_steps_are_numbered_from_the_version_after_the_first() -> None:
    assert [step.version for step in STEPS] == list(range(FIRST_VERSION + 1, latest_version(STEPS) + 1))


STORED_FORMS = {
    3: "d22c2973d2b97d39",
    4: "399d70880d9d01b9",
    5: "137f943be5522226",
    6: "c0d691371422455f",
    7: "8410da43ac393a19",
    8: "31c44de77bf693c5",
    9: "77a20e67c39d445f",
    10: "90efa5dba151ac8a",
    11: "d1b06ff1b1f710a9",
    12: "e8d43046ddeac9d8",
}
"""Digest of the tables and the members of their JSON, by version."""


def test_the_stored_form_changes_only_with_a_migration_step() -> None:
    columns = {t.name: [(c.name, str(c.type), c.nullable) for c in t.columns] for t in tables.metadata.sorted_tables}
    collection = Collection(1, "", "", CollectionSchema(()), 0, ConsistencyLevel.STRONG)
    members = {
        "schema": sorted(encoding.encode_schema(CollectionSchema(()))),
        "field": sorted(f.name for f in fields(FieldSchema)),
        "function": sorted(f.name for f in fields(FunctionSchema)),
        "load": sorted(encoding.encode_load(LoadConfig(frozenset(), frozenset())) or ()),
        "resource group": sorted(f.name for f in fields(ResourceGroupConfig)),
        "snapshot": sorted(encoding.encode_collection(collection)),
        "segment": sorted(f.name for f in fields(SegmentMeta)),
        "index": sorted(f.name for f in fields(IndexSpec)),
    }
    digest = hashlib.sha256(repr((sorted(columns.items()), members)).encode()).hexdigest()[:16]
    assert STORED_FORMS.get(latest_version(STEPS)) == digest, (
        "tables or JSON changed: add a step to catalog/migrations, and the digest of the new version here"
    )


# A step as a later version may have it: a new table, a new column, and JSON in another form.


def add_notes(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE notes (text VARCHAR NOT NULL)"))
    connection.execute(sa.text("ALTER TABLE users ADD COLUMN note VARCHAR NOT NULL DEFAULT ''"))
    connection.execute(sa.text("UPDATE collections SET name = name || '-upgraded'"))


def fill_notes(connection: sa.Connection) -> None:
    connection.execute(sa.text("INSERT INTO notes SELECT name FROM collections"))


_NEXT = latest_version(STEPS) + 1
SYNTHETIC = (*STEPS, Step(_NEXT, add_notes), Step(_NEXT + 1, fill_notes))


def upgraded(before: Snapshot) -> Snapshot:
    collections = {i: replace(c, name=f"{c.name}-upgraded") for i, c in before.collections.items()}
    names = {(c.database, c.name): i for i, c in collections.items()}
    return replace(before, collections=collections, names=names)


def rows_of(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_steps_run_in_order_and_a_copy_of_the_old_catalog_is_kept(data_dir: Path) -> None:
    path = data_dir / CATALOG_FILE
    before = read_catalog(path)
    catalog = open_catalog(path, SYNTHETIC)
    assert catalog.snapshot == upgraded(before)
    catalog.close()
    assert len(rows_of(path, "SELECT text FROM notes")) == len(before.collections) == 3
    assert rows_of(path, "SELECT version FROM catalog_version") == [(_NEXT + 1,)]
    copy = data_dir / f"catalog-{FIRST_VERSION}.sqlite"
    assert read_catalog(copy) == before, "the earlier program opens the copy"
    again = open_catalog(path, SYNTHETIC)
    assert again.snapshot == upgraded(before)
    again.close()
    assert len(rows_of(path, "SELECT text FROM notes")) == 3, "a step ran twice"


def test_a_catalog_of_this_version_is_opened_without_a_copy(tmp_path: Path) -> None:
    for _ in range(2):
        open_catalog(tmp_path / CATALOG_FILE).close()
    assert not list(tmp_path.glob("catalog-*"))


def test_a_new_catalog_runs_no_step(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / CATALOG_FILE, SYNTHETIC)
    catalog.close()
    assert rows_of(tmp_path / CATALOG_FILE, "SELECT version FROM catalog_version") == [(_NEXT + 1,)]


def test_an_earlier_catalog_is_checked_without_being_changed(data_dir: Path) -> None:
    path = data_dir / CATALOG_FILE
    before = read_catalog(path)
    assert read_catalog(path, SYNTHETIC) == upgraded(before)
    assert read_catalog(path) == before


@pytest.mark.parametrize(
    ("version", "words"), [(99, "a newer Milvine wrote it"), (2, "has version 2, this program reads")]
)
def test_a_catalog_of_an_unsupported_version_is_refused_and_left_unchanged(
    new_server: Callable[..., Any], data_dir: Path, version: int, words: str
) -> None:
    path = data_dir / CATALOG_FILE
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE catalog_version SET version = ?", (version,))
    server = new_server(data_dir=data_dir, start=False)
    server.spawn()
    assert server.process.wait(30) == 1
    assert words in server.log
    assert str(path) in server.log
    with pytest.raises(DataIntegrityError, match=words):
        read_catalog(path)
    assert rows_of(path, "SELECT version FROM catalog_version") == [(version,)]
    assert not list(data_dir.glob("catalog-*"))


def fails(_connection: sa.Connection) -> None:
    raise DataIntegrityError("this step cannot go on")


def test_a_failing_step_leaves_the_catalog_unchanged(data_dir: Path) -> None:
    path = data_dir / CATALOG_FILE
    before = read_catalog(path)
    with pytest.raises(DataIntegrityError, match="cannot go on"):
        open_catalog(path, (*SYNTHETIC, Step(_NEXT + 2, fails)))
    assert read_catalog(path) == before
    assert rows_of(path, "SELECT name FROM sqlite_master WHERE name = 'notes'") == []
    open_catalog(path).close()


def test_nothing_is_upgraded_if_the_copy_cannot_be_written(data_dir: Path) -> None:
    path = data_dir / CATALOG_FILE
    before = read_catalog(path)
    (data_dir / f"catalog-{FIRST_VERSION}.sqlite" / "in the way").mkdir(parents=True)
    with pytest.raises(ServiceInternal, match="cannot be copied before its upgrade"):
        open_catalog(path, SYNTHETIC)
    assert read_catalog(path) == before


def crash(data_dir: Path, point: str) -> None:
    """Upgrades in a child process that ends at a crash point as by `kill -9`."""
    code = (
        "import sys; from pathlib import Path; import test_migrations as t; "
        "t.open_catalog(Path(sys.argv[1]), t.SYNTHETIC)"
    )
    command: Sequence[str] = [sys.executable, "-c", code, str(data_dir / CATALOG_FILE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MILVINE_CRASH_AT": point}
    ended = subprocess.run(command, env=environment, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, "the upgrade never passed the point"


@pytest.mark.parametrize("point", ["migration.copied", "migration.step_done", "migration.committed"])
def test_a_crash_in_the_middle_of_an_upgrade_leaves_the_old_state_or_the_new(data_dir: Path, point: str) -> None:
    path = data_dir / CATALOG_FILE
    before = read_catalog(path)
    crash(data_dir, point)
    assert read_catalog(data_dir / f"catalog-{FIRST_VERSION}.sqlite") == before
    if point != "migration.committed":
        assert read_catalog(path) == before
    catalog = open_catalog(path, SYNTHETIC)
    assert catalog.snapshot == upgraded(before)
    catalog.close()
    assert len(rows_of(path, "SELECT text FROM notes")) == 3
