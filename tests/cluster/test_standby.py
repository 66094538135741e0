"""A head that waits while another one serves, and takes over from it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
import requests
from conftest import HOST, READY_SECONDS, Node, Server, ServerFactory, dies_with_parent, free_port
from import_files import Jobs
from load_calls import gate
from object_servers import ObjectServer
from postgres_servers import Postgres
from pymilvus import MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from stored_rows import check

from milvine.catalog import users
from milvine.catalog.postgresql import PostgresDatabase
from milvine.catalog.store import Catalog
from milvine.errors import ServiceNotReady, UnexpectedError
from milvine.model.users import User

ROWS = 500
SECONDS = 30.0
WAITS = "milvine standby "


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres(free_port())) as started:
        yield started.start()


def fill(client: MilvusClient, name: str) -> None:
    client.create_collection(name, 4, metric_type="L2")
    client.insert(name, [{"id": i, "vector": [i, 0, 0, 0]} for i in range(ROWS)])


def count(client: MilvusClient, name: str) -> int:
    found: int = client.query(name, "", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
    return found


def waiting(server: Server) -> Server:
    """Started, and known to wait."""
    before = server.log.count(WAITS)
    server.spawn()
    deadline = time.monotonic() + SECONDS
    while server.log.count(WAITS) == before:
        assert server.process.poll() is None and time.monotonic() < deadline, server.log
        time.sleep(0.02)
    server.port = int(server.log.split(WAITS)[-1].split("\n")[0].rpartition(":")[2])
    return server


def test_a_standby_of_the_same_directory_says_that_it_waits_and_takes_over(new_server: ServerFactory) -> None:
    head = new_server("--standby")
    fill(head.client(), "books")
    standby = waiting(
        new_server("--standby", data_dir=head.data_dir, metrics_port=free_port(), start=False),
    )
    for uri in (standby.uri, standby.metrics_uri):
        answer = requests.get(f"{uri}/healthz", timeout=SECONDS)
        assert (answer.status_code, answer.text) == (503, "StandBy")
    assert requests.get(f"{standby.metrics_uri}/livez", timeout=SECONDS).status_code == 200
    answer = requests.post(f"{standby.uri}/v2/vectordb/collections/list", json={}, timeout=SECONDS)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"code": 1, "message": "service not ready[proxy=1]: StandBy"}
    with pytest.raises(grpc.RpcError, match="service not ready") as refused:
        standby.stub.ShowCollections(milvus_pb2.ShowCollectionsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    state = standby.stub.GetComponentStates(milvus_pb2.GetComponentStatesRequest()).state
    assert state.state_code == common_pb2.StateCode.StandBy
    with grpc.insecure_channel(standby.address) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x02"

    head.kill()
    standby.wait_ready()
    assert count(standby.client(), "books") == ROWS
    assert requests.get(f"{standby.uri}/healthz", timeout=SECONDS).status_code == 200
    assert "this is likely a bug" not in standby.log
    waiting(head).stop()


CHILD = """
import sys
from milvine.catalog.postgresql import PostgresDatabase
from milvine.catalog.store import Catalog
catalog = Catalog(PostgresDatabase(sys.argv[1], "dir", float(sys.argv[2]), is_standby=True))
print("serves", flush=True)
catalog.lease.lost.wait()
print("lost", catalog.lease.is_valid, flush=True)
sys.stdin.read()
"""


class Head:
    """A process with the lease of a catalog."""

    def __init__(self, uri: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [*dies_with_parent(), sys.executable, "-c", CHILD, uri, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_standby_waits_until_the_lease_has_run_out(postgres: Postgres, number: signal.Signals) -> None:
    uri, seconds = postgres.new_database(), 1.0
    with closing(Head(uri, seconds)) as head:
        assert head.told() == "serves"
        time.sleep(2 * seconds)  # the lease was renewed
        head.process.send_signal(number)
        stopped = time.monotonic()
        catalog = Catalog(PostgresDatabase(uri, "dir", seconds, is_standby=True))
        # The last renewal was a fifth of the lease ago at most.
        assert 0.8 * seconds <= time.monotonic() - stopped < 10 * seconds
        users.create_user(catalog, User("ann", "hash", 1, ""), max_users=9)
        if number == signal.SIGSTOP:
            head.process.send_signal(signal.SIGCONT)
            assert head.told() == "lost False"
        catalog.close()


def test_a_standby_does_not_take_over_from_a_head_that_lives(postgres: Postgres) -> None:
    uri = postgres.new_database()
    name = uri.rpartition("/")[2]
    with closing(Head(uri, 0.5)) as head:
        assert head.told() == "serves"
        epoch = postgres.run("SELECT epoch FROM catalog_epoch", name)
        with closing(Head(uri, 0.5)) as standby:
            time.sleep(3)
            assert postgres.run("SELECT epoch FROM catalog_epoch", name) == epoch
            head.process.kill()
            assert standby.told() == "serves"
            assert postgres.run("SELECT epoch FROM catalog_epoch", name) > epoch


def test_a_standby_that_may_never_serve_does_not_wait(postgres: Postgres) -> None:
    uri = postgres.new_database()
    with closing(Head(uri, 1.0)) as head:
        assert head.told() == "serves"
        wrong = {
            uri: ("other", "belongs to another data directory"),
            uri.replace("catalog_", "katalog_"): ("dir", 'database "katalog_.*" does not exist'),
            uri.replace("milvine@", "nobody@"): ("dir", 'role "nobody" does not exist'),
        }
        for place, (owner, reason) in wrong.items():
            began = time.monotonic()
            with pytest.raises(UnexpectedError, match=reason):
                Catalog(PostgresDatabase(place, owner, 1.0, is_standby=True))
            assert time.monotonic() - began < SECONDS / 3


def test_a_directory_that_never_served_is_not_called_damaged(postgres: Postgres, new_server: ServerFactory) -> None:
    uri = postgres.new_database()
    Catalog(PostgresDatabase(uri, "dir")).close()
    standby = new_server("--standby", env={"MILVINE_CATALOG_URI": uri}, start=False)
    standby.spawn()
    assert standby.process.wait(SECONDS) == 1
    assert "belongs to another data directory" in standby.log
    checked = check(standby, {})
    assert checked.returncode == 1 and "no server has served with" in checked.stderr, checked
    assert "damaged" not in checked.stdout


def test_a_standby_whose_store_cannot_be_its_own_says_so_at_its_start(
    postgres: Postgres, new_server: ServerFactory, objects: ObjectServer
) -> None:
    env = {
        **objects.environment("right"),
        "MILVINE_LOG_STORE": "object",
        "MILVINE_CATALOG_URI": postgres.new_database(),
        "MILVINE_COMMON_SESSION_TTL": "60s",
    }
    head = new_server("--standby", env=env)
    fill(head.client(), "books")
    wrong = [
        ({"MILVINE_STORE_URI": "s3://katalog/right"}, "NoSuchBucket"),
        ({"MILVINE_STORE_URI": objects.uri("empty")}, "has no copy of the segment files of this catalog"),
        ({"MILVINE_WAL_KEEPHOURS": "1"}, "wal.keepHours keeps files of logs"),
    ]
    standbys = [new_server("--standby", env={**env, **settings}, start=False) for settings, _ in wrong]
    for standby in standbys:
        standby.spawn()
    for standby, (_, reason) in zip(standbys, wrong, strict=True):
        assert standby.process.wait(3 * SECONDS) == 1, reason
        assert reason in standby.log and "ready" not in standby.log and "Traceback" not in standby.log, standby.log
    right = waiting(new_server("--standby", env=env, start=False))
    stopped = time.monotonic()
    head.stop()  # the lease of a minute is given back
    right.wait_ready()
    assert time.monotonic() - stopped < 60
    assert count(right.client(), "books") == ROWS


def test_a_lease_that_was_given_back_is_not_waited_for(postgres: Postgres) -> None:
    uri = postgres.new_database()
    first = Catalog(PostgresDatabase(uri, "dir", 60.0, is_standby=True))
    assert first.lease is not None
    first.lease.check()
    first.close()
    with pytest.raises(ServiceNotReady, match=r"service not ready\[proxy=1\]: Abnormal"):
        first.lease.check()
    Catalog(PostgresDatabase(uri, "dir", 60.0)).close()


@pytest.mark.cluster
def test_a_head_whose_work_does_not_end_gives_its_lease_back(
    postgres: Postgres, new_server: ServerFactory, objects: ObjectServer, tmp_path: Path
) -> None:
    env = {
        **objects.environment("unended"),
        "MILVINE_LOG_STORE": "object",
        "MILVINE_CATALOG_URI": postgres.new_database(),
        "MILVINE_COMMON_SESSION_TTL": f"{2 * READY_SECONDS}s",
    }
    with gate(tmp_path, "import.files_written") as held:
        head = new_server("--standby", env={**env, **held.environment, "MILVINE_IMPORT_PATH": str(tmp_path)})
        standby = waiting(new_server("--standby", env=env, start=False))
        fill(head.client(), "books")
        (tmp_path / "rows.json").write_text(json.dumps([{"id": ROWS, "vector": [1.0] * 4}]))
        job_id = Jobs(head).create("books", [["rows.json"]])
        while Jobs(head).describe(job_id)["progress"] < 98:  # all is written
            time.sleep(0.02)
        head.stop()
        assert "abandoned_work=True" in head.log
        standby.wait_ready()
        assert count(standby.client(), "books") == ROWS


@pytest.mark.cluster
def test_a_head_without_postgresql_stops_to_answer_and_goes_on_afterwards(new_server: ServerFactory) -> None:
    with closing(Postgres(free_port())) as own:
        own.start()
        env = {"MILVINE_CATALOG_URI": own.new_database(), "MILVINE_COMMON_SESSION_TTL": "3s"}
        server = new_server("--standby", env=env)
        fill(server.client(), "books")
        own.kill()
        assert healthy(server, False) == "Abnormal"
        with pytest.raises(grpc.RpcError, match="Abnormal") as refused:
            server.stub.ShowCollections(milvus_pb2.ShowCollectionsRequest())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        own.start()
        assert healthy(server, True) == "OK"
        assert count(server.client(), "books") == ROWS
        server.client().create_user("ann", "Secret12")


@pytest.mark.cluster
def test_nodes_follow_the_head(new_server: ServerFactory, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    heads = [{"MILVINE_CLUSTER_PORT": str(port)} for port in ports]
    head = new_server("--standby", env=heads[0])
    standby = waiting(new_server("--standby", env=heads[1], data_dir=head.data_dir, start=False))
    addresses = ",".join(f"{HOST}:{port}" for port in ports)
    nodes = [Node(ports[0], tmp_path / f"node-{i}", f"--head={addresses}").start() for i in range(2)]
    try:
        client = head.client()
        fill(client, "books")
        client.flush("books")
        held_by(head, 2)
        head.kill()
        standby.wait_ready()
        held_by(standby, 2)
        hits = standby.client().search("books", [[3, 0, 0, 0]], limit=1, consistency_level="Strong")
        assert hits[0][0]["id"] == 3
    finally:
        for node in nodes:
            node.kill()


def healthy(server: Server, wanted: bool) -> str:
    """The text of `/healthz` once it is as wanted."""
    deadline = time.monotonic() + SECONDS
    while (answer := requests.get(f"{server.uri}/healthz", timeout=SECONDS)).ok != wanted:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return answer.text


def held_by(server: Server, count: int) -> None:
    """Waits until so many nodes report to the server and one of them has a segment."""
    deadline = time.monotonic() + SECONDS
    while True:
        data = requests.post(f"{server.uri}/milvine/v1/memory", json={}, timeout=SECONDS).json()["data"]
        nodes = data.get("nodes", [])
        if len(nodes) == count and any(node["segments"] for node in nodes):
            return
        assert time.monotonic() < deadline, nodes
        time.sleep(0.05)
