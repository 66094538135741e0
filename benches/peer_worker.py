"""One database under measurement, in an environment of its own. `peers.py` starts it and asks in lines of JSON.

    PYTHON peer_worker.py NAME DIRECTORY

Only numpy, psutil and the database's own client are imported, so that it runs in any of the environments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

K, M, EF_CONSTRUCTION = 10, 16, 100
BATCH = 5000


class Database:
    """`processes`: those that serve, besides this one."""

    is_embedded = True
    has_effort = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[psutil.Process] = []

    def create(self, dim: int) -> None:
        raise NotImplementedError

    def insert(self, first: int, vectors: np.ndarray) -> None:
        raise NotImplementedError

    def build(self) -> None:
        """Returns when searches use the index."""

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        """The ids of the nearest rows, among those whose id is `below`."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the server."""

    def usage(self) -> dict[str, float]:
        """CPU seconds and resident bytes of the processes that serve."""
        roots = [psutil.Process()] if self.is_embedded else self.processes
        found = [p for root in roots for p in (root, *root.children(recursive=True))]
        cpu = memory = 0.0
        for process in found:
            try:
                times, resident = process.cpu_times(), process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            ended = times.children_user + times.children_system  # of processes that built indexes, say
            cpu, memory = cpu + times.user + times.system + ended, memory + resident
        return {"cpu": cpu, "memory": memory}


class MilvusLike(Database):
    """A server that speaks Milvus's protocol."""

    is_embedded = False

    def start(self) -> str:
        raise NotImplementedError

    def create(self, dim: int) -> None:
        from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections

        connections.connect(uri=f"http://{self.start()}")
        fields = [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=dim),
        ]
        self.collection = Collection("bench", CollectionSchema(fields))

    def insert(self, first: int, vectors: np.ndarray) -> None:
        self.collection.insert([list(range(first, first + len(vectors))), list(vectors)])

    def build(self) -> None:
        from pymilvus import utility

        self.collection.flush()
        params = {"M": M, "efConstruction": EF_CONSTRUCTION}
        self.collection.create_index("vector", {"index_type": "HNSW", "metric_type": "L2", "params": params})
        utility.wait_for_index_building_complete("bench")
        self.collection.load()

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        params = {"metric_type": "L2", "params": {"ef": max(effort, K)}}
        expression = None if below is None else f"id < {below}"
        return list(self.collection.search([query], "vector", params, K, expr=expression)[0].ids)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        psutil.wait_procs(self.processes, 30)

    def run(self, *command: str, ready: str) -> str:
        """Starts a server, and returns the end of the line that says that it is ready."""
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.processes = [psutil.Process(started.pid)]
        assert started.stdout is not None
        return next(line for line in started.stdout if ready in line).split()[-1]


class Milvine(MilvusLike):
    def start(self) -> str:
        command = ["-m", "milvine", "serve", "--data-dir", str(self.directory), "--port", "0", "--metrics-port", "0"]
        return self.run(sys.executable, *command, ready="milvine ready")


class Milvus(MilvusLike):
    def start(self) -> str:
        from milvus import MilvusServer

        server = MilvusServer()
        server.set_base_dir(str(self.directory))
        server.start()
        self.server = server
        self.processes = psutil.Process().children()
        return f"127.0.0.1:{server.listen_port}"

    def close(self) -> None:
        self.server.stop()


class Lite(MilvusLike):
    def start(self) -> str:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        program = str(Path(sys.executable).with_name("milvus-lite"))
        started = subprocess.Popen(
            [program, "server", "--data-dir", str(self.directory), "--port", port],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes = [psutil.Process(started.pid)]
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    break
            time.sleep(0.1)
        return f"127.0.0.1:{port}"


class LanceDb(Database):
    def _table(self, first: int, vectors: np.ndarray) -> Any:
        import pyarrow as pa

        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        return pa.table({"id": pa.array(range(first, first + len(vectors)), pa.int64()), "vector": flat})

    def create(self, dim: int) -> None:
        import lancedb

        empty = self._table(0, np.zeros((0, dim), np.float32))
        self.table = lancedb.connect(str(self.directory)).create_table("bench", empty)

    def insert(self, first: int, vectors: np.ndarray) -> None:
        self.table.add(self._table(first, vectors))

    def build(self) -> None:
        kind = {"index_type": "IVF_HNSW_SQ", "num_partitions": 1, "m": M, "ef_construction": EF_CONSTRUCTION}
        self.table.create_index(metric="l2", vector_column_name="vector", **kind)

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        asked = self.table.search(query).limit(K).ef(max(effort, 2 * K)).refine_factor(2).select(["id"])
        if below is not None:
            asked = asked.where(f"id < {below}", prefilter=True)
        found: list[int] = asked.to_arrow()["id"].to_pylist()
        return found


class Chroma(Database):
    effort = 0

    def create(self, dim: int) -> None:
        import chromadb

        graph = {"space": "l2", "ef_construction": EF_CONSTRUCTION, "max_neighbors": M}
        client = chromadb.PersistentClient(str(self.directory))
        self.collection = client.create_collection("bench", configuration={"hnsw": graph}, embedding_function=None)

    def insert(self, first: int, vectors: np.ndarray) -> None:
        ids = range(first, first + len(vectors))
        self.collection.add(ids=[str(i) for i in ids], embeddings=vectors, metadatas=[{"id": i} for i in ids])

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        if effort != self.effort:
            self.collection.modify(configuration={"hnsw": {"ef_search": effort}})
            self.effort = effort
        where = None if below is None else {"id": {"$lt": below}}
        found = self.collection.query(query_embeddings=[query], n_results=K, where=where, include=[])
        return [int(i) for i in found["ids"][0]]


class QdrantLocal(Database):
    """The client's own exact search in numpy, since the server is no package."""

    has_effort = False

    def create(self, dim: int) -> None:
        from qdrant_client import QdrantClient, models

        self.client, self.models = QdrantClient(path=str(self.directory)), models
        space = models.VectorParams(size=dim, distance=models.Distance.EUCLID)
        self.client.create_collection("bench", vectors_config=space)

    def insert(self, first: int, vectors: np.ndarray) -> None:
        ids = range(first, first + len(vectors))
        point = self.models.PointStruct
        points = [point(id=i, vector=v.tolist(), payload={"id": i}) for i, v in zip(ids, vectors, strict=True)]
        self.client.upsert("bench", points)

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        models, condition = self.models, None
        if below is not None:
            condition = models.Filter(must=[models.FieldCondition(key="id", range=models.Range(lt=below))])
        found = self.client.query_points("bench", query=query.tolist(), limit=K, query_filter=condition)
        return [point.id for point in found.points]


class PgVector(Database):
    is_embedded = False
    effort = 0

    def create(self, dim: int) -> None:
        import pgserver
        import psycopg

        server = pgserver.get_server(str(self.directory))
        self.server = server
        self.connection = psycopg.connect(server.get_uri(), autocommit=True)
        self.processes = [psutil.Process(server.get_pid())]
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.connection.execute(f"CREATE TABLE bench (id bigint PRIMARY KEY, v vector({dim}))")

    def insert(self, first: int, vectors: np.ndarray) -> None:
        with self.connection.cursor() as cursor, cursor.copy("COPY bench (id, v) FROM STDIN") as copy:
            for i, vector in enumerate(vectors, first):
                copy.write_row((i, _as_text(vector)))

    def build(self) -> None:
        self.connection.execute("SET maintenance_work_mem = '1GB'")
        given = f"m = {M}, ef_construction = {EF_CONSTRUCTION}"
        self.connection.execute(f"CREATE INDEX ON bench USING hnsw (v vector_l2_ops) WITH ({given})")
        self.connection.execute("ANALYZE bench")

    def search(self, query: np.ndarray, effort: int, below: int | None) -> list[int]:
        if effort != self.effort:
            self.connection.execute(f"SET hnsw.ef_search = {max(effort, K)}")
            self.effort = effort
        condition = "" if below is None else f"WHERE id < {below}"
        text = f"SELECT id FROM bench {condition} ORDER BY v <-> %s::vector LIMIT {K}"
        return [row[0] for row in self.connection.execute(text, (_as_text(query),)).fetchall()]

    def close(self) -> None:
        self.connection.close()
        self.server.cleanup()


def _as_text(vector: np.ndarray) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


DATABASES: dict[str, type[Database]] = {
    "milvine": Milvine,
    "milvus": Milvus,
    "lite": Lite,
    "lancedb": LanceDb,
    "chroma": Chroma,
    "qdrant": QdrantLocal,
    "pgvector": PgVector,
}


def answer(database: Database, asked: dict[str, Any]) -> dict[str, Any]:
    before, started = database.usage(), time.perf_counter()
    found: dict[str, Any] = {}
    what = asked["do"]
    if what == "insert":
        vectors = np.load(asked["file"], mmap_mode="r")
        database.create(vectors.shape[1])
        before, started = database.usage(), time.perf_counter()
        for first in range(0, len(vectors), BATCH):
            database.insert(first, np.ascontiguousarray(vectors[first : first + BATCH]))
    elif what == "build":
        database.build()
    elif what == "search":
        queries, times, ids = np.load(asked["file"])[: asked["count"]], [], []
        for query in queries:
            began = time.perf_counter()
            ids.append(database.search(query, asked["effort"], asked.get("below")))
            times.append(1000 * (time.perf_counter() - began))
        found = {"ids": ids, "ms": times}
    after = database.usage()
    usage = {"seconds": time.perf_counter() - started, "cpu": after["cpu"] - before["cpu"], "memory": after["memory"]}
    return {**found, **usage, "has_effort": database.has_effort}


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print what they like
    database = DATABASES[sys.argv[1]](Path(sys.argv[2]))
    try:
        for line in sys.stdin:
            try:
                told = answer(database, json.loads(line))
            except Exception as error:  # noqa: BLE001 - the table says why
                told = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(told), file=answers, flush=True)
    finally:
        database.close()


if __name__ == "__main__":
    main()
