"""Measures the ways in and out of one server of this checkout, and prints a table in Markdown.

    python benches/data.py [--rows R] [--inserted N]

For R rows (1,000,000) of 128 float32 numbers beside an INT64 key: an import of Parquet until a scan finds every row,
and the same rows read from the file and inserted with pymilvus, 5,000 a call (N rows, scaled up); exports to Parquet
and JSON lines; a snapshot, a query of it, and its restore; `milvine backup` to an empty place, again, and encrypted;
`milvine restore`. CPU is that of the server and its children, and of the client or the command. Memory is the most of
the import's child or of the command, without the pages of files that it maps. Other programs on the machine make
seconds longer, and CPU hardly: the load is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from pymilvus import DataType, MilvusClient

DIM = 128
BATCH = 5000
NAME = "bench"
_POLL_SECONDS = 0.05
_WAIT_SECONDS = 900.0


def write_rows(path: Path, rows: int) -> None:
    generator = np.random.default_rng(7)
    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            flat = pa.array(generator.random(count * DIM, np.float32))
            offsets = pa.array(np.arange(0, count * DIM + 1, DIM, dtype=np.int32))
            keys = pa.array(np.arange(start, start + count))
            writer.write_table(pa.table([keys, pa.ListArray.from_arrays(offsets, flat)], schema=schema))


def cpu_of(process: psutil.Process) -> float:
    """Of the process and of its children that have ended, and of those that run."""
    times = process.cpu_times()
    running = sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    return float(times.user + times.system + times.children_user + times.children_system + running)


class Watch:
    """The most memory of one child of the server, or of a command beside it, polled."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.command: psutil.Process | None = None
        self._ended = threading.Event()
        self.child = 0
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            others = [self.command] if self.command else self._process.children(recursive=True)
            self.child = max([self.child, *map(_own_bytes, others)])

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _own_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)
    except psutil.Error:
        return 0


class Bench:
    def __init__(self, directory: Path, rows: int, inserted: int) -> None:
        self.directory = directory
        self.rows = rows
        self.inserted = inserted
        self.lines: list[str] = []
        self.imports = directory / "imports"
        self.imports.mkdir()
        env = {**os.environ, "MILVINE_IMPORT_PATH": str(self.imports)}
        command = [sys.executable, "-m", "milvine", "serve", "--data-dir", str(directory / "data")]
        command += ["--port", "0", "--metrics-port", "0"]
        self._server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        self.uri = f"http://127.0.0.1:{self._server.stdout.readline().rsplit(':', 1)[1].strip()}"
        self.process = psutil.Process(self._server.pid)
        self.client = MilvusClient(self.uri)

    def close(self) -> None:
        self.client.close()
        self._server.terminate()
        self._server.wait(60)

    def row(self, what: str, seconds: float, cpu: str, memory: str, note: str = "") -> None:
        self.lines.append(f"| {what} | {seconds:.2f} s | {cpu} | {memory} | {note} |")
        print(self.lines[-1], flush=True)

    @contextmanager
    def measured(self) -> Iterator[dict[str, Any]]:
        found: dict[str, Any] = {}
        watch, before, started = Watch(self.process), cpu_of(self.process), time.monotonic()
        found["watch"] = watch
        yield found
        found["seconds"] = time.monotonic() - started
        found["cpu"] = cpu_of(self.process) - before
        watch.end()
        found["child"] = watch.child

    def collection(self, name: str) -> None:
        schema = self.client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        index = self.client.prepare_index_params("vector", index_type="FLAT", metric_type="L2")
        self.client.create_collection(name, schema=schema, index_params=index)

    def post(self, route: str, **body: Any) -> Any:
        answer = requests.post(f"{self.uri}/{route}", json=body, timeout=_WAIT_SECONDS).json()
        assert answer["code"] == 0, answer
        return answer["data"]

    def count(self, name: str) -> int:
        found = self.client.query(name, "", output_fields=["count(*)"], consistency_level="Strong")
        return int(found[0]["count(*)"])

    def import_rows(self) -> float:
        path = self.imports / "rows.parquet"
        write_rows(path, self.rows)
        self.collection(NAME)
        last = pq.ParquetFile(path).read_row_group(pq.ParquetFile(path).num_row_groups - 1)["vector"][-1].as_py()
        with self.measured() as found:
            job_id = self.post("v2/vectordb/jobs/import/create", collectionName=NAME, files=[[path.name]])["jobId"]
            deadline = time.monotonic() + _WAIT_SECONDS
            while True:
                job = self.post("v2/vectordb/jobs/import/describe", jobId=job_id)
                assert job["state"] != "Failed" and time.monotonic() < deadline, job
                if job["state"] == "Completed":
                    break
                time.sleep(_POLL_SECONDS)
            while self.count(NAME) < self.rows:
                time.sleep(_POLL_SECONDS)
            hit = self.client.search(NAME, [last], limit=1)[0][0]
            assert hit["id"] == self.rows - 1
        cpu = found["cpu"]
        megabytes = path.stat().st_size / 1e6
        note = f"{megabytes:.0f} MB file, until a scan finds every row"
        self.row("import of Parquet", found["seconds"], f"{cpu:.1f} s", f"{found['child'] / 1e6:.0f} MB", note)
        return float(cpu)

    def insert_rows(self, import_cpu: float) -> None:
        self.collection("inserted")
        table = pq.ParquetFile(self.imports / "rows.parquet")
        own = psutil.Process()
        before, done = sum(own.cpu_times()[:2]), 0
        with self.measured() as found:
            for batch in table.iter_batches(BATCH):
                self.client.insert("inserted", batch.to_pylist())
                done += batch.num_rows
                if done >= self.inserted:
                    break
            assert self.count("inserted") == done
        scale = self.rows / done
        cpu = scale * (found["cpu"] + sum(own.cpu_times()[:2]) - before)
        note = f"{done} rows, scaled up; {cpu / import_cpu:.1f} times the CPU of the import"
        self.row("the same by pymilvus, 5,000 a call", scale * found["seconds"], f"{cpu:.1f} s", "-", note)
        self.client.drop_collection("inserted")

    def command(self, what: str, *arguments: object, note: Callable[[], str] = str) -> None:
        with self.measured() as found:
            process = subprocess.Popen(
                [sys.executable, "-m", "milvine", *map(str, arguments)], stdout=subprocess.PIPE, text=True
            )
            found["watch"].command = psutil.Process(process.pid)
            assert process.stdout is not None
            process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, arguments
        cpu = f"{found['cpu']:.1f} + {usage.ru_utime + usage.ru_stime:.1f} s"
        self.row(what, found["seconds"], cpu, f"{found['child'] / 1e6:.0f} MB", note())

    def exports(self) -> None:
        for ending in ("parquet", "jsonl"):
            target = self.directory / f"rows.{ending}"
            self.command(
                f"`milvine export` to `.{ending}`",
                *("export", NAME, target, "--uri", self.uri),
                note=lambda target=target: f"{target.stat().st_size / 1e6:.0f} MB file",  # type: ignore[misc]
            )
            target.unlink()

    def snapshots(self) -> None:
        with self.measured() as found:
            self.client.create_snapshot("s", NAME)
        self.row("snapshot", found["seconds"], f"{found['cpu']:.2f} s", "-", "no copies")
        read = {"collectionName": NAME, "snapshotName": "s", "filter": "id == 7", "outputFields": ["id"]}
        for what in ("first query of the snapshot", "the next one"):
            with self.measured() as found:
                assert self.post("v2/vectordb/entities/query", **read) == [{"id": 7}]
            self.row(what, found["seconds"], f"{found['cpu']:.2f} s", "-", "nothing is loaded")
        with self.measured() as found:
            job_id = self.client.restore_snapshot("s", NAME, "restored")
            while self.client.get_restore_snapshot_state(job_id).progress < 100:
                time.sleep(_POLL_SECONDS)
        self.row("restore of the snapshot", found["seconds"], f"{found['cpu']:.2f} s", "-", "hard links")
        self.client.drop_collection("restored")
        self.client.drop_snapshot("s", NAME)

    def backups(self) -> None:
        place, key = self.directory / "place", self.directory / "key"
        key.write_text("a long enough secret")
        at = ("--uri", self.uri)
        self.command("`milvine backup`, the first", "backup", place, *at)
        self.command("the next one, with nothing new", "backup", place, *at, note=lambda: "reads what is stored")
        self.command("the next one, `--no-verify`", "backup", place, *at, "--no-verify")
        self.command("the first, encrypted", "backup", self.directory / "secret", *at, "--key-file", key)
        self.command("`milvine restore`", "restore", place, self.directory / "back", note=lambda: "with its check")
        secret = ("restore", self.directory / "secret", self.directory / "back2", "--key-file", key)
        self.command("`milvine restore`, encrypted", *secret)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--inserted", type=int, default=50_000, help="rows of the comparison with inserts")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="milvine-bench-") as directory:
        bench = Bench(Path(directory), options.rows, options.inserted)
        try:
            print(f"{options.rows} x {DIM}\n\n| | time | CPU | memory | |\n|---|---|---|---|---|")
            cpu = bench.import_rows()
            bench.insert_rows(cpu)
            bench.exports()
            bench.snapshots()
            bench.backups()
        finally:
            bench.close()
    print(f"\nload {before:.0f} before, {os.getloadavg()[0]:.0f} after, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
