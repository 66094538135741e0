"""Imports of files in an object store: all kinds of files and functions, and stores that break off."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import HOST, Server, ServerFactory
from import_files import Jobs
from model_server import ModelServer, model_server, vector_of
from object_servers import BUCKET, KEYS, ObjectServer
from pymilvus import DataType, Function, FunctionType, MilvusClient

DIM = 4
WORDS = ("red", "grey", "arctic", "bat")
ROWS = [{"id": i, "text": f"the {WORDS[i % 4]} fox"} for i in range(40)]
_STEP = 1 << 14


class Breaker:
    """Passes connections to a store. Answers of more than a step are cut off while `cuts` are left."""

    def __init__(self, endpoint: str) -> None:
        self._store = (HOST, urlsplit(endpoint).port)
        self.cuts = 0
        self._listener = socket.create_server((HOST, 0))
        self.endpoint = f"http://{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                store = socket.create_connection(self._store)
                threading.Thread(target=self._pass, args=(client, store, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(store, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError), source, target:
            passed = 0
            while step := source.recv(_STEP):
                passed += len(step)
                if is_answer and passed > 4 * _STEP and self.cuts > 0:
                    self.cuts -= 1
                    for end in (source, target):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(step)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    made = ObjectServer(tmp_path_factory.mktemp("store"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def breaker(store: ObjectServer) -> Iterator[Breaker]:
    made = Breaker(store.endpoint)
    yield made
    made.close()


@pytest.fixture(scope="module")
def importer(breaker: Breaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        **KEYS,
        "MILVINE_IMPORT_PATH": f"s3://{BUCKET}/imports",
        "MILVINE_STORE_ENDPOINT": breaker.endpoint,
        "MILVINE_STORE_REGION": "us-east-1",
    }
    server = Server(tmp_path_factory.mktemp("importer"), env=env)
    try:
        yield server.start()
        server.stop()
    finally:
        server.close()


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with model_server() as made:
        made.dim = DIM
        yield made


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def _csv(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _array(values: list[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


KINDS: dict[str, dict[str, bytes]] = {
    "parquet": {"rows.parquet": _parquet(ROWS)},
    "json": {"rows.json": json.dumps(ROWS).encode()},
    "lines": {"rows.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)},
    "csv": {"rows.csv": _csv(ROWS)},
    "numpy": {f"arrays/{name}.npy": _array([row[name] for row in ROWS]) for name in ("id", "text")},
}


@pytest.mark.parametrize(
    "kind", ["parquet", "numpy", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("json", "lines", "csv"))]
)
def test_files_of_a_store_go_through_all_functions(
    importer: Server, store: ObjectServer, model: ModelServer, kind: str
) -> None:
    for path, content in KINDS[kind].items():
        store.s3.put_object(Bucket=BUCKET, Key=f"imports/{path}", Body=content)
    client = importer.client()
    name = f"functions_{kind}"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("sketch", DataType.BINARY_VECTOR, dim=512)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    schema.add_function(Function("minhash", FunctionType.MINHASH, ["text"], ["sketch"]))
    given = {"provider": "TEI", "endpoint": model.url}
    schema.add_function(Function("embed", FunctionType.TEXTEMBEDDING, ["text"], ["vector"], params=given))
    indexes = client.prepare_index_params()
    indexes.add_index("terms", index_type="AUTOINDEX", metric_type="BM25")
    indexes.add_index("sketch", index_type="MINHASH_LSH", metric_type="MHJACCARD", params={"mh_lsh_band": 8})
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes)
    model.requests = []

    group = list(KINDS[kind])
    done = Jobs(importer).run(name, [[f"s3://{BUCKET}/imports/{path}" for path in group]])
    assert (done["state"], done["importedRows"]) == ("Completed", 40), done
    assert 0 < len(model.requests) <= 3, "the model gets many texts at a time"
    found = client.query(name, "", output_fields=["text", "vector"], limit=100, consistency_level="Strong")
    assert {row["id"]: row["text"] for row in found} == {row["id"]: row["text"] for row in ROWS}
    assert all(row["vector"] == vector_of(row["text"], DIM) for row in found)
    for field, data in (("terms", ["grey"]), ("vector", ["the grey fox"]), ("sketch", ["the grey fox"])):
        (hits,) = client.search(name, data, anns_field=field, limit=10)
        assert {hit["id"] for hit in hits} == set(range(1, 40, 4)), field
    client.drop_collection(name)
    client.close()


@pytest.fixture
def plain(importer: Server, store: ObjectServer) -> Iterator[MilvusClient]:
    """A client of a collection `plain`, for whose rows there is a file of a few megabytes."""
    client = importer.client()
    client.create_collection("plain", dimension=64)
    rows = 20_000
    vectors = np.random.default_rng(0).random(64 * rows, np.float32)
    table = pa.table({"id": range(rows), "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 64)})
    file = io.BytesIO()
    pq.write_table(table, file)
    store.s3.put_object(Bucket=BUCKET, Key="imports/plain.parquet", Body=file.getvalue())
    yield client
    client.drop_collection("plain")
    client.close()


def test_a_store_that_breaks_off_is_asked_again(importer: Server, breaker: Breaker, plain: MilvusClient) -> None:
    breaker.cuts = 2
    done = Jobs(importer).run("plain", [["plain.parquet"]])
    assert (done["state"], done["importedRows"]) == ("Completed", 20_000), done
    assert breaker.cuts == 0


def test_a_store_that_always_breaks_off_ends_the_job_and_leaves_nothing(
    importer: Server, breaker: Breaker, plain: MilvusClient
) -> None:
    breaker.cuts = 1 << 30
    try:
        failed = Jobs(importer).run("plain", [["plain.parquet"]])
    finally:
        breaker.cuts = 0
    assert failed["state"] == "Failed"
    assert "cannot read from s3://" in failed["reason"], failed
    assert plain.query("plain", "", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"] == 0
    directory = importer.data_dir / "segments" / str(plain.describe_collection("plain")["collection_id"])
    assert not directory.exists() or list(directory.iterdir()) == []


def test_files_and_buckets_that_are_not_there_are_named(importer: Server, plain: MilvusClient) -> None:
    gone = Jobs(importer).run("plain", [["gone.parquet"]])
    assert gone["reason"].startswith("failed to read the file 'gone.parquet', error: The specified key does not exist")
    for path in (f"s3://{BUCKET}/elsewhere/a.parquet", "s3://other/imports/a.parquet", "../a.parquet"):
        answer = Jobs(importer).call("create", collectionName="plain", files=[[path]])
        assert answer["code"] != 0
        assert "import" in answer["message"]


def test_rows_that_are_not_committed_yet_outlive_the_disk(store: ObjectServer, new_server: ServerFactory) -> None:
    rows = [{"id": i, "vector": [1.0 * i] * DIM} for i in range(40)]
    store.s3.put_object(Bucket=BUCKET, Key="imports/vectors.json", Body=json.dumps(rows).encode())
    server = new_server(env={**store.environment("uncommitted"), "MILVINE_IMPORT_PATH": f"s3://{BUCKET}/imports"})
    client = server.client()
    client.create_collection("books", DIM, metric_type="L2")
    job_id = Jobs(server).create("books", [["vectors.json"]], options={"auto_commit": "false"})
    assert Jobs(server).wait(job_id, "Uncommitted")["state"] == "Uncommitted"
    client.close()
    server.kill()
    shutil.rmtree(server.data_dir / "segments")
    client = server.start().client()
    assert Jobs(server).call("commit", jobId=job_id)["code"] == 0
    found = client.query("books", "", limit=100)
    assert [dict(row) for row in found] == rows
    client.close()
