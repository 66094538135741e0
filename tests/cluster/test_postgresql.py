"""A catalog in PostgreSQL: the same answers, one server at a time, no change lost, repeated or made by half."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from conftest import HOST, Server, ServerFactory, free_port
from postgres_servers import Postgres
from pymilvus import DataType, MilvusClient, MilvusException

from milvine.catalog import users
from milvine.catalog.migrations import STEPS
from milvine.catalog.migrations.upgrade import FIRST_VERSION, Step
from milvine.catalog.opening import MOVED_FILE, open_catalog_of, read_catalog_of
from milvine.catalog.postgresql import SESSION, PostgresDatabase
from milvine.catalog.sqlite_file import CATALOG_FILE, open_catalog, read_catalog
from milvine.catalog.store import Catalog
from milvine.config import load_settings
from milvine.errors import DataIntegrityError, ServiceInternal, UnexpectedError
from milvine.model.users import User

ROWS = 300
RESTART_SECONDS = 30.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres(free_port())) as started:
        yield started.start()


def fill(client: MilvusClient, name: str) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    index = client.prepare_index_params("vec", index_type="HNSW", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, properties={"collection.ttl.seconds": "100000"})
    client.insert(name, [{"id": i, "vec": [i, 0, 0, 0], "tag": f"t{i % 3}"} for i in range(ROWS)])


def count(client: MilvusClient, name: str) -> int:
    found: int = client.query(name, "", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    return found


def added(catalog: Catalog, name: str) -> None:
    users.create_user(catalog, User(name, "hash", 1, ""), max_users=100)


def checked(server: Server) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "milvine", "check", str(server.data_dir)],
        env={**os.environ, **server.environment},
        check=False,
        capture_output=True,
        text=True,
    )


def test_everything_is_there_after_a_kill(postgres: Postgres, new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_CATALOG_URI": postgres.new_database()})
    client = server.client()
    fill(client, "books")
    client.flush("books")
    client.create_alias("books", "novels")
    client.create_user("ann", "Secret12")
    client.create_role("reader")
    client.grant_role("ann", "reader")
    before = (client.describe_collection("books"), client.describe_user("ann"), client.list_indexes("books"))
    server.kill()
    server.start()
    client = server.client()
    assert (client.describe_collection("books"), client.describe_user("ann"), client.list_indexes("books")) == before
    assert count(client, "novels") == ROWS
    assert not (server.data_dir / CATALOG_FILE).exists()
    server.stop()
    found = checked(server)
    assert found.returncode == 0 and f"{ROWS} rows" in found.stdout, found


@pytest.mark.local_catalog("it begins with the file of a catalog")
def test_a_directory_moves_to_postgresql_with_all_it_has(postgres: Postgres, new_server: ServerFactory) -> None:
    server = new_server()
    fill(server.client(), "books")
    server.client().flush("books")
    server.client().create_user("ann", "Secret12")
    server.stop()
    before = read_catalog(server.data_dir / CATALOG_FILE)
    uri = postgres.new_database()
    moved = new_server(env={"MILVINE_CATALOG_URI": uri}, data_dir=server.data_dir)
    assert count(moved.client(), "books") == ROWS
    moved.client().create_user("bob", "Secret12")
    moved.stop()
    after = read_catalog_of(server.data_dir)
    assert after.segments == before.segments and after.users.keys() == {"root", "ann", "bob"}
    assert read_catalog(server.data_dir / MOVED_FILE) == before

    with pytest.raises(UnexpectedError, match=r"the catalog of .* is in postgresql://.*: set catalog.uri to it"):
        open_catalog_of(server.data_dir, "")
    with pytest.raises(UnexpectedError, match="is empty"):
        open_catalog_of(server.data_dir, postgres.new_database())


@pytest.mark.parametrize("point", ["catalog.marked", "catalog.copied", "catalog.committing", "catalog.claimed"])
def test_a_crash_during_the_move_loses_nothing(postgres: Postgres, tmp_path: Path, point: str) -> None:
    catalog = open_catalog_of(tmp_path, "")
    added(catalog, "ann")
    catalog.close()
    uri = postgres.new_database()
    code = "import sys, pathlib as p, milvine.catalog.opening as o; o.open_catalog_of(p.Path(sys.argv[1]), sys.argv[2])"
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), uri], env={**os.environ, "MILVINE_CRASH_AT": point}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    moved = open_catalog_of(tmp_path, uri)
    assert moved.snapshot.users.keys() == {"ann"}
    moved.close()
    assert (tmp_path / MOVED_FILE).exists() and not (tmp_path / CATALOG_FILE).exists()


def test_a_move_that_was_cut_short_can_be_given_up(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    postgres.run(f"ALTER DATABASE {uri.rpartition('/')[2]} SET default_transaction_read_only = on")
    with pytest.raises(ServiceInternal, match="read-only transaction"):
        open_catalog_of(tmp_path, uri)
    catalog = open_catalog_of(tmp_path, "")
    added(catalog, "ann")
    catalog.close()
    assert read_catalog_of(tmp_path).users.keys() == {"ann"}


def test_a_database_belongs_to_one_directory(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    open_catalog_of(tmp_path / "one", uri).close()
    with pytest.raises(UnexpectedError, match="belongs to another data directory"):
        open_catalog_of(tmp_path / "two", uri)
    open_catalog_of(tmp_path / "one", uri).close()
    open_catalog_of(tmp_path / "two", "").close()


def test_a_second_server_is_refused_while_the_first_one_lives(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milvine.catalog.leases._PATIENCE_SECONDS", 0.2)
    uri = postgres.new_database()
    first = Catalog(PostgresDatabase(uri, "dir"))
    with pytest.raises(UnexpectedError, match="another server uses the catalog at postgresql://"):
        Catalog(PostgresDatabase(uri, "dir"))
    added(first, "ann")
    first.close()
    Catalog(PostgresDatabase(uri, "dir")).close()


@pytest.mark.parametrize("made", ["", "other"])
def test_tables_of_something_else_are_left_alone(postgres: Postgres, tmp_path: Path, made: str) -> None:
    uri = postgres.new_database()
    name = uri.rpartition("/")[2]
    postgres.run("CREATE TABLE users (email VARCHAR)", name)
    postgres.run("INSERT INTO users VALUES ('ann@example')", name)
    if made:  # a schema of its own, with the other's behind it in the path
        postgres.run(f"CREATE SCHEMA {made}", name)
        uri += f"?options=-csearch_path%3D{made},public"
    with pytest.raises(UnexpectedError, match=r"has tables of something else \(users\)"):
        open_catalog_of(tmp_path, uri)
    tables = postgres.run("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'other')", name)
    assert tables == [("users",)] and postgres.run("SELECT * FROM users", name) == [("ann@example",)]


def test_a_schema_of_its_own_holds_a_catalog_beside_other_tables(postgres: Postgres, tmp_path: Path) -> None:
    uri = postgres.new_database()
    name = uri.rpartition("/")[2]
    postgres.run("CREATE TABLE users (email VARCHAR)", name)
    uri += "?options=-csearch_path%3Dmilvine"
    with pytest.raises(UnexpectedError, match="has no schema of its search_path"):
        open_catalog_of(tmp_path, uri)
    postgres.run("CREATE SCHEMA milvine", name)
    catalog = open_catalog_of(tmp_path, uri)
    added(catalog, "ann")
    catalog.close()
    assert read_catalog_of(tmp_path).users.keys() == {"ann"}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused(postgres: Postgres, tmp_path: Path, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    with pytest.raises(UnexpectedError, match=f"has the encoding {encoding}: it must be UTF8"):
        open_catalog_of(tmp_path, postgres.uri(name))


@pytest.mark.parametrize("query", ["password=secret", "sslmode=require&sslpassword=secret"])
def test_a_password_in_the_parameters_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="the password is read from PGPASSWORD"):
        load_settings({}, {"MILVINE_CATALOG_URI": f"postgresql://milvine@db/milvine?{query}"}, None)


def test_a_uri_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnexpectedError, match="the URI cannot be read"):
        open_catalog_of(tmp_path, "postgresql://milvine@db:abc/milvine")


def test_parameters_of_the_uri_replace_those_of_the_program(postgres: Postgres) -> None:
    uri = postgres.new_database() + "?application_name=mine"
    with closing(PostgresDatabase(uri, "dir")) as database, database.engine.connect() as connection:
        assert connection.execute(sa.text("SHOW application_name")).scalar() == "mine"


def test_postgresql_lets_the_locks_of_a_lost_machine_go_soon(postgres: Postgres) -> None:
    with (
        closing(PostgresDatabase(postgres.new_database(), "dir")) as database,
        database.engine.connect() as connection,
    ):
        shown = [
            connection.execute(sa.text(f"SHOW tcp_keepalives_{name}")).scalar()
            for name in ("idle", "interval", "count")
        ]
    assert shown == ["5", "2", "2"]


def test_a_change_does_not_wait_for_ever_for_the_locks_of_others(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION, "lock_timeout", "200")
    uri = postgres.new_database()
    catalog = Catalog(PostgresDatabase(uri, "dir"))
    with psycopg.connect(uri) as other:
        other.execute("LOCK TABLE users")
        with pytest.raises(ServiceInternal, match="lock timeout"):
            added(catalog, "ann")
    added(catalog, "bob")
    assert catalog.snapshot.users.keys() == {"bob"}
    catalog.close()


def test_a_server_that_was_replaced_changes_nothing(postgres: Postgres) -> None:
    uri = postgres.new_database()
    old = Catalog(PostgresDatabase(uri, "dir"))
    added(old, "ann")
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{uri.rpartition('/')[2]}'")
    new = Catalog(PostgresDatabase(uri, "dir"))
    before = old.snapshot
    for _ in range(3):
        with pytest.raises(ServiceInternal, match="another server has taken over the catalog at"):
            added(old, "late")
    assert old.snapshot is before
    added(new, "bob")
    old.close()
    new.close()
    again = Catalog(PostgresDatabase(uri, "dir"))
    assert again.snapshot.users.keys() == {"ann", "bob"}
    again.close()


def test_a_database_that_has_lost_changes_gets_no_more(postgres: Postgres) -> None:
    uri = postgres.new_database()
    name = uri.rpartition("/")[2]
    catalog = Catalog(PostgresDatabase(uri, "dir"))
    added(catalog, "ann")
    end = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
    postgres.run(end)
    postgres.run(f"CREATE DATABASE {name}_old TEMPLATE {name}")
    added(catalog, "bob")
    postgres.run(end)
    postgres.run(f"ALTER DATABASE {name} RENAME TO {name}_lost")
    postgres.run(f"ALTER DATABASE {name}_old RENAME TO {name}")
    for _ in range(2):
        with pytest.raises(ServiceInternal, match="has lost changes"):
            added(catalog, "eve")
    assert catalog.snapshot.users.keys() == {"ann", "bob"}
    assert postgres.run("SELECT name FROM users", name) == [("ann",)]
    catalog.close()


def test_reads_and_inserts_go_on_without_postgresql_and_changes_after_it_is_back(new_server: ServerFactory) -> None:
    with closing(Postgres(free_port()).start()) as own:
        server = new_server(env={"MILVINE_CATALOG_URI": own.new_database()})
        client = server.client()
        fill(client, "books")
        own.kill()
        client.insert("books", [{"id": ROWS, "vec": [1, 1, 1, 1]}])
        assert count(client, "books") == ROWS + 1
        with pytest.raises(MilvusException, match=r"the catalog at postgresql://.* cannot be written"):
            client.create_alias("books", "novels")
        own.start()
        client.create_alias("books", "novels")
        client.flush("books")
        server.kill()
        server.start()
        assert count(server.client(), "novels") == ROWS + 1


class Relay:
    """Between a client and PostgreSQL. `lose_commit`: the next COMMIT gets there or not, its answer never comes back,
    and the connection ends."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self.lose_commit = ""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self._target))
            except OSError:
                near.close()
                continue
            is_lost = threading.Event()
            threading.Thread(target=self._pump, args=(near, far, is_lost, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, is_lost, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_lost: threading.Event, is_request: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if is_request and b"COMMIT" in data and self.lose_commit:
                    lost, self.lose_commit = self.lose_commit, ""
                    is_lost.set()
                    if lost == "answer":
                        target.sendall(data)
                        time.sleep(0.5)  # PostgreSQL commits; its answer is dropped below
                    break
                if not (is_lost.is_set() and not is_request):
                    target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # it also wakes the thread that reads from it
            one.close()

    def close(self) -> None:
        self._listening.close()


@pytest.mark.parametrize(("lost", "is_there"), [("answer", True), ("request", False)])
def test_a_change_whose_commit_was_lost_is_looked_up(postgres: Postgres, lost: str, is_there: bool) -> None:
    with closing(Relay(postgres.port)) as relay:
        uri = postgres.new_database(relay.port)
        catalog = Catalog(PostgresDatabase(uri, "dir"))
        added(catalog, "ann")
        relay.lose_commit = lost
        if is_there:
            added(catalog, "bob")
        else:
            with pytest.raises(ServiceInternal, match="cannot be written"):
                added(catalog, "bob")
        added(catalog, "eve")
        expected = {"ann", "eve", *(["bob"] if is_there else [])}
        assert catalog.snapshot.users.keys() == expected
        catalog.close()
        again = Catalog(PostgresDatabase(uri, "dir"))
        assert again.snapshot.users.keys() == expected
        again.close()


def test_a_commit_waits_for_postgresql_until_its_outcome_is_known() -> None:
    with closing(Postgres(free_port()).start()) as own, closing(Relay(own.port)) as relay:
        catalog = Catalog(PostgresDatabase(own.new_database(relay.port), "dir"))
        relay.lose_commit = "answer"
        change = threading.Thread(target=added, args=(catalog, "ann"), daemon=True)
        change.start()
        while relay.lose_commit and change.is_alive():
            time.sleep(0.01)
        time.sleep(0.2)  # PostgreSQL commits
        own.kill()
        change.join(1.5)
        assert change.is_alive() and "ann" not in catalog.snapshot.users
        own.start()
        change.join(RESTART_SECONDS)
        assert not change.is_alive() and "ann" in catalog.snapshot.users
        catalog.close()


def _add_notes(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE notes (note VARCHAR NOT NULL)"))


def _fails(connection: sa.Connection) -> None:
    _add_notes(connection)
    raise ValueError("a step fails")


def test_an_upgrade_is_whole_or_not_at_all(postgres: Postgres) -> None:
    uri = postgres.new_database()
    Catalog(PostgresDatabase(uri, "dir")).close()
    name, number = uri.rpartition("/")[2], FIRST_VERSION + len(STEPS) + 1
    database = PostgresDatabase(uri, "dir")
    with pytest.raises(ValueError, match="a step fails"):
        Catalog(database, (*STEPS, Step(number, _fails)))
    database.close()
    assert postgres.run("SELECT version FROM catalog_version", name) == [(number - 1,)]
    Catalog(PostgresDatabase(uri, "dir"), (*STEPS, Step(number, _add_notes))).close()
    assert postgres.run("SELECT version FROM catalog_version", name) == [(number,)]
    assert postgres.run("SELECT * FROM notes", name) == []
    database = PostgresDatabase(uri, "dir")
    with pytest.raises(DataIntegrityError, match="a newer Milvine wrote it"):
        Catalog(database)
    database.close()


def test_a_backup_of_a_catalog_in_postgresql_is_restored_into_a_directory(
    postgres: Postgres, new_server: ServerFactory, tmp_path: Path
) -> None:
    server = new_server(env={"MILVINE_CATALOG_URI": postgres.new_database()})
    fill(server.client(), "books")
    run = [sys.executable, "-m", "milvine"]
    subprocess.run([*run, "backup", "--uri", server.uri, str(tmp_path / "kept")], check=True, capture_output=True)
    target = tmp_path / "restored"
    subprocess.run([*run, "restore", str(tmp_path / "kept"), str(target)], check=True, capture_output=True)
    open_catalog(target / CATALOG_FILE).close()
    restored = new_server(data_dir=target)
    assert count(restored.client(), "books") == ROWS
