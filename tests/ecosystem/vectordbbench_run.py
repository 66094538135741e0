"""Runs VectorDBBench itself, with a data set of its own, against a fresh Milvine: load, forced merge, searches, recall.

usage: vectordbbench_run.py --bench VENV/bin/vectordbbench [--rows N] [--indexes NAME ...] [--out DIR]

The package vectordb-bench (2.0.0 was tried) takes 1.2 GB, and its own data sets gigabytes more, so `make
test-ecosystem` only makes its calls (`programs/vectordbbench_calls.py`). Its figures are printed; a run is good if it
ends and finds the neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

sys.path.extend(str(Path(__file__).parent.parent / folder) for folder in (".", "cluster", "official"))

from official_suite import started_server

DIM, QUERIES, NEIGHBOURS, CENTRES, NOISE = 96, 200, 100, 200, 0.6
LEAST_RECALL = 0.9
_SECONDS = 900
LISTS = ("--lists", "64", "--probes", "16")
GRAPH = ("--m", "16", "--ef-construction", "100", "--ef-search", "150")
INDEXES = {
    "hnsw": GRAPH,
    "autoindex": (),
    "flat": (),
    "ivfflat": LISTS,
    "ivfsq8": LISTS,
    "hnswsq": (*GRAPH, "--sq-type", "SQ8", "--refine", "true", "--refine-type", "FP32", "--refine-k", "1"),
    "diskann": ("--search-list", "100"),
}
"""The options of the benchmark by the index type, as it names them."""


def write_data_set(folder: Path, rows: int) -> None:
    """`train`, `test` and `neighbors` as the benchmark reads them; float32 vectors around some centres."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(CENTRES, DIM))

    def around(count: int) -> np.ndarray:
        noise = NOISE * random.normal(size=(count, DIM))
        return np.asarray(centres[random.integers(0, CENTRES, count)] + noise, dtype=np.float32)

    stored, asked = around(rows), around(QUERIES)
    units = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (asked, stored)]
    nearest = np.argsort(-(units[0] @ units[1].T), axis=1)[:, :NEIGHBOURS]
    for name, column, values, item in (
        ("train", "emb", stored, pa.float32()),
        ("test", "emb", asked, pa.float32()),
        ("neighbors", "neighbors_id", nearest, pa.int64()),
    ):
        columns = {"id": pa.array(range(len(values)), pa.int64()), column: pa.array(list(values), pa.list_(item))}
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")


def run(options: argparse.Namespace, folder: Path, index: str) -> bool:
    """Whether the benchmark ends with the right neighbours."""
    results = options.out / index
    shape = {"size": options.rows, "dim": DIM, "file-count": 1, "name": "own", "dir": folder}
    data_set = [word for name, value in shape.items() for word in (f"--custom-dataset-{name}", str(value))]
    case = ("--case-type", "PerformanceCustomDataset", "--custom-case-name", "own", "--k", "10", *data_set)
    load = ("--num-concurrency", "1,2,4", "--concurrency-duration", "5")
    environment = {**os.environ, "RESULTS_LOCAL_DIR": str(results), "LOG_FILE": str(results / "log")}
    results.mkdir(parents=True, exist_ok=True)
    with started_server(results / "server", "", {}) as port, (results / "out").open("w") as out:
        address = ("--uri", f"http://localhost:{port}", "--db-label", index, "--task-label", index)
        command = [options.bench, f"milvus{index}", *address, *case, *load, *INDEXES[index]]
        subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=_SECONDS, check=False)
    found = [json.loads(path.read_text())["results"][0]["metrics"] for path in results.rglob("result_*.json")]
    if not found:
        print(f"FAILED {index}: see {results / 'out'}", flush=True)  # noqa: T201
        return False
    figures = {name: found[0][name] for name in ("insert_duration", "optimize_duration", "qps", "recall")}
    is_good = bool(figures["recall"] >= LEAST_RECALL)
    print("ok    " if is_good else "FAILED", index, figures, flush=True)  # noqa: T201
    return is_good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--indexes", nargs="*", default=list(INDEXES), choices=list(INDEXES))
    parser.add_argument("--out", type=Path, default=Path(tempfile.mkdtemp(prefix="milvine-vectordbbench-")))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_data_set(Path(folder), options.rows)
        good = [run(options, Path(folder), index) for index in options.indexes]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
