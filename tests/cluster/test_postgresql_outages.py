"""PostgreSQL that is late, away or stands still; directories and catalogs that do not match; texts it refuses."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ServerFactory, free_port
from postgres_servers import Postgres
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2
from test_postgresql import ROWS, added, count, fill

from milvine.catalog.opening import MARKER, open_catalog_of
from milvine.catalog.postgresql import PostgresDatabase
from milvine.catalog.store import Catalog
from milvine.errors import DiskLimitExceeded, ServiceInternal, UnexpectedError

pytestmark = pytest.mark.cluster

SECONDS = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres(free_port())) as started:
        yield started.start()


def test_texts_with_nul_come_back_as_they_were(postgres: Postgres, new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_CATALOG_URI": postgres.new_database()})
    client = server.client()
    text = "a\0b\x1b0\x1b1"
    schema = client.create_schema(description=text)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection("books", schema=schema)
    client.create_role("reader", description=text)
    server.kill()
    server.start()
    assert server.client().describe_collection("books")["description"] == text
    roles = server.stub.SelectRole(milvus_pb2.SelectRoleRequest()).results
    assert text in {one.role.description for one in roles}


def test_a_server_that_starts_before_postgresql_waits_for_it(new_server: ServerFactory) -> None:
    with closing(Postgres(free_port())) as own:
        own.start()
        uri = own.new_database()
        own.kill()
        server = new_server(env={"MILVINE_CATALOG_URI": uri}, start=False)
        server.spawn()
        while "does not answer" not in server.log:
            assert server.process.poll() is None
            time.sleep(0.05)
        own.start()
        server.wait_ready()


def test_health_tells_that_postgresql_is_away_and_reads_go_on_while_it_stands_still(new_server: ServerFactory) -> None:
    with closing(Postgres(free_port())) as own:
        own.start()
        server = new_server(env={"MILVINE_CATALOG_URI": own.new_database()})
        client = server.client()
        fill(client, "books")
        with own.standing_still():
            change = threading.Thread(target=client.create_user, args=("ann", "Secret12"), daemon=True)
            change.start()
            assert count(server.client(), "books") == ROWS
            client.insert("books", [{"id": ROWS, "vec": [1, 1, 1, 1]}])
        change.join(SECONDS)
        assert not change.is_alive()
        assert "ann" in client.list_users()
        own.kill()
        deadline = time.monotonic() + SECONDS
        while True:
            found = server.stub.CheckHealth(milvus_pb2.CheckHealthRequest())
            if any("the catalog does not answer" in reason for reason in found.reasons):
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert not found.isHealthy


def test_a_change_ends_while_postgresql_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvine.catalog.postgresql._SILENT_SECONDS", 1.0)
    monkeypatch.setitem(_connection(), "connect_timeout", 2)
    with closing(Postgres(free_port())) as own:
        own.start()
        catalog = Catalog(PostgresDatabase(own.new_database(), "dir"))
        with own.standing_still(), pytest.raises(ServiceInternal, match="cannot be written"):
            added(catalog, "ann")
        added(catalog, "bob")
        assert catalog.snapshot.users.keys() == {"bob"}
        catalog.close()


def _connection() -> dict[str, object]:
    from milvine.catalog import postgresql

    return postgresql._CONNECTION


def test_images_tell_a_full_disk_from_a_lost_connection(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    catalog = Catalog(PostgresDatabase(uri, "dir"))
    with pytest.raises(DiskLimitExceeded, match="cannot write"):
        catalog.change(lambda _connection, snapshot: snapshot, tmp_path / "none" / "image.sqlite")
    name = uri.rpartition("/")[2]
    postgres.run("ALTER TABLE users RENAME TO hidden", name)
    with pytest.raises(ServiceInternal, match="cannot be read"):
        catalog.change(lambda _connection, snapshot: snapshot, tmp_path / "image.sqlite")
    catalog.close()


def test_copies_of_a_directory_do_not_take_turns(postgres: Postgres, tmp_path: Path) -> None:
    uri, one, two = postgres.new_database(), tmp_path / "one", tmp_path / "two"
    one.mkdir()
    open_catalog_of(one, uri).close()
    open_catalog_of(one, uri).close()
    shutil.copytree(one, two)
    open_catalog_of(two, uri).close()
    with pytest.raises(UnexpectedError, match="a copy of this directory has served with it"):
        open_catalog_of(one, uri)
    open_catalog_of(two, uri).close()


def test_an_earlier_state_of_the_catalog_is_refused_at_the_start(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    name = uri.rpartition("/")[2]
    open_catalog_of(tmp_path, uri).close()
    postgres.run(f"CREATE DATABASE {name}_old TEMPLATE {name}")
    open_catalog_of(tmp_path, uri).close()
    postgres.run(f"ALTER DATABASE {name} RENAME TO {name}_lost")
    postgres.run(f"ALTER DATABASE {name}_old RENAME TO {name}")
    with pytest.raises(UnexpectedError, match="it is an earlier state") as refused:
        open_catalog_of(tmp_path, uri)
    assert str(tmp_path / MARKER) in str(refused.value)
