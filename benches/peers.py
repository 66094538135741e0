"""One workload on this checkout and on other databases, side by side, at equal recall. Writes a page and a plot.

    python benches/peers.py [--rows 20000] [--vectors FILE.npy] [--peers milvine milvus lancedb ...] [--minutes 15]

Every database is installed in an environment of its own below `--cache` (about 2 GB for all), and runs in a process of
its own (`peer_worker.py`). Graphs have M=16 and efConstruction=100. For each database the smallest effort that reaches
`--recall` is found; then rounds of searches take turns among the databases. CPU and memory are those of the processes
that serve; an embedded database serves in the client's process, so its client is counted too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from plot import line_plot
from server import Array, K, exact, vectors

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "milvine": (),
    "milvus": ("milvus==2.3.5", "pymilvus==2.3.7", "setuptools<81", "marshmallow<4"),
    "lite": ("milvus-lite", "pymilvus"),
    "lancedb": ("lancedb",),
    "chroma": ("chromadb",),
    "qdrant": ("qdrant-client",),
    "pgvector": ("pgserver", "psycopg[binary]"),
}
TITLES = {
    "milvine": "Milvine",
    "milvus": "Milvus",
    "lite": "Milvus Lite",
    "lancedb": "LanceDB",
    "chroma": "Chroma",
    "qdrant": "Qdrant (client, exact)",
    "pgvector": "pgvector",
}
EFFORTS = (16, 32, 48, 64, 80, 96, 128, 192, 256, 384)
_HEADING = "## Other databases"
SHARES = (0.01, 0.1, 0.5)
_FILTERED = 100


@dataclass
class Peer:
    """`points`: recall, queries a second and effort while the effort was found. `failure`: why there are no figures."""

    name: str
    version: str = ""
    failure: str = ""
    effort: int = 0
    insert: dict[str, float] = field(default_factory=dict)
    build: dict[str, float] = field(default_factory=dict)
    points: list[tuple[float, float, int]] = field(default_factory=list)
    recall: float = 0.0
    rounds: list[dict[str, Any]] = field(default_factory=list)
    filters: dict[float, tuple[float, float]] = field(default_factory=dict)
    worker: subprocess.Popen[str] | None = None

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Raises RuntimeError with what the database said."""
        assert self.worker is not None
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        self.worker.stdin.write(json.dumps(asked) + "\n")
        self.worker.stdin.flush()
        line = self.worker.stdout.readline()
        if not line:
            raise RuntimeError("its process ended")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def close(self) -> None:
        if self.worker is not None and self.worker.stdin is not None:
            self.worker.stdin.close()
            try:
                self.worker.wait(60)
            except subprocess.TimeoutExpired:
                self.worker.kill()


def installed(name: str, cache: Path) -> tuple[str, str]:
    """The interpreter of the peer's environment, and the version of its first package. Raises RuntimeError."""
    if not PACKAGES[name]:
        return sys.executable, _printed("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "this checkout"
    place = cache / name
    python = str(place / "bin" / "python")
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "numpy", "psutil", *PACKAGES[name]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError("not installed: " + (done.stderr.strip().splitlines() or ["pip failed"])[-1][:200])
        (place / "installed").touch()
    first = PACKAGES[name][0].partition("=")[0]
    return python, _printed(python, "-c", f"import importlib.metadata as m; print(m.version({first!r}))")


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def recall_of(found: Sequence[Sequence[int]], truth: Array) -> float:
    shares = [len(set(ids) & set(wanted.tolist())) / len(wanted) for ids, wanted in zip(found, truth, strict=True)]
    return float(np.mean(shares))


class Workload:
    """Rows and queries in files, with the true neighbours of each query."""

    def __init__(self, rows: Array, queries: Array, directory: Path) -> None:
        self.rows, self.queries = rows, queries
        self.rows_file, self.queries_file = str(directory / "rows.npy"), str(directory / "queries.npy")
        np.save(self.rows_file, rows)
        np.save(self.queries_file, queries)
        self.truth = exact(rows, queries)

    def prepare(self, peer: Peer, directory: Path, cache: Path, wanted: float) -> None:
        python, peer.version = installed(peer.name, cache)
        command = [python, str(HERE / "peer_worker.py"), peer.name, str(directory)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False", "GRPC_VERBOSITY": "NONE"}
        peer.worker = subprocess.Popen(command, text=True, env=environment, **pipes)
        peer.insert = peer.ask(do="insert", file=self.rows_file)
        peer.build = peer.ask(do="build")
        count = len(self.queries)
        for effort in EFFORTS:
            peer.ask(do="search", file=self.queries_file, count=10, effort=effort)
            found = peer.ask(do="search", file=self.queries_file, count=count, effort=effort)
            recall = recall_of(found["ids"], self.truth)
            peer.points.append((recall, 1000 / statistics.mean(found["ms"]), effort))
            if not peer.effort and (recall >= wanted or not found["has_effort"]):
                peer.effort = effort
            if recall > 0.995 or not found["has_effort"]:
                break
        peer.effort = peer.effort or EFFORTS[-1]

    def round(self, peer: Peer) -> None:
        found = peer.ask(do="search", file=self.queries_file, count=len(self.queries), effort=peer.effort)
        peer.recall = recall_of(found.pop("ids"), self.truth)
        peer.rounds.append(found)

    def filtered(self, peer: Peer, share: float) -> None:
        below, count = int(len(self.rows) * share), min(_FILTERED, len(self.queries))
        found = peer.ask(do="search", file=self.queries_file, count=count, effort=peer.effort, below=below)
        recall = recall_of(found["ids"], exact(self.rows[:below], self.queries[:count]))
        peer.filters[share] = statistics.median(found["ms"]), recall


def measure(peers: Sequence[Peer], workload: Workload, options: argparse.Namespace, directory: Path) -> None:
    deadline = time.monotonic() + 60 * options.minutes
    for peer in peers:
        print(f"{TITLES[peer.name]}: rows, index, effort", flush=True)
        own = directory / peer.name
        own.mkdir()
        try:
            workload.prepare(peer, own, options.cache, options.recall)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            peer.failure = str(error)
            print(f"  {peer.failure}", flush=True)
    for number in range(options.rounds):
        if number and time.monotonic() > deadline:
            break
        print(f"round {number + 1}", flush=True)
        attempt(peers, workload.round)
    for share in SHARES:
        attempt(peers, lambda peer, share=share: workload.filtered(peer, share))


def attempt(peers: Sequence[Peer], work: Any) -> None:
    for peer in peers:
        if not peer.failure:
            try:
                work(peer)
            except (RuntimeError, OSError) as error:
                peer.failure = str(error)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def with_section(document: str, section: str) -> str:
    """The document with the section in the place of the last one, or at its end."""
    before, _, rest = document.partition(_HEADING)
    _, found, after = rest.partition("\n## ")
    return f"{before.rstrip()}\n\n{section.rstrip()}\n" + (f"{found}{after}" if found else "")


def section(peers: Sequence[Peer], workload: Workload, options: argparse.Namespace, load: Sequence[float]) -> str:
    count, dim = workload.rows.shape
    what = options.vectors.name if options.vectors else "a seeded mixture of 1,000 clusters"
    lines = [
        _HEADING,
        "",
        "`make bench-peers` writes this section: one workload on every database that its registry gives, at equal",
        "recall, in turns. Medians of the rounds, with the smallest and the largest in brackets.",
        "",
        f"- {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; load of the machine before and after: "
        f"{load[0]:.1f} and {load[1]:.1f}",
        f"- {count:,} x {dim} float32 ({what}), L2, {len(workload.queries)} queries a round, {options.rounds} rounds, "
        f"top {K}, one client; graphs with M=16, efConstruction=100; recall@{K} at least {options.recall} where an "
        "effort can be chosen",
        "- CPU and memory of the processes that serve; LanceDB, Chroma and Qdrant's client serve in the client's",
        "  process, whose own work is counted; Chroma builds its graph while rows are inserted",
        "",
        "| database | version | effort | recall | p50 ms | p99 ms | CPU ms a search | memory MB | insert rows/s | "
        "build s (CPU s) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for peer in peers:
        if peer.failure or not peer.rounds:
            lines.append(f"| {TITLES[peer.name]} | {peer.version} | {peer.failure or 'no round'} | | | | | | | |")
            continue
        p50 = [statistics.median(r["ms"]) for r in peer.rounds]
        p99 = [float(np.quantile(r["ms"], 0.99)) for r in peer.rounds]
        cpu = [1000 * r["cpu"] / len(r["ms"]) for r in peer.rounds]
        lines.append(
            f"| {TITLES[peer.name]} | {peer.version} | {peer.effort} | {peer.recall:.3f} | {_spread(p50)} | "
            f"{_spread(p99)} | {_spread(cpu)} | {peer.rounds[-1]['memory'] / 2**20:.0f} | "
            f"{count / peer.insert['seconds']:,.0f} | {peer.build['seconds']:.1f} ({peer.build['cpu']:.1f}) |"
        )
    lines += ["", "Filters that keep a share of the rows, at the same effort: p50 in ms / recall.", ""]
    lines += ["| database | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |", "|---|" + "---|" * len(SHARES)]
    for peer in peers:
        cells = [f"{peer.filters[s][0]:.2f} / {peer.filters[s][1]:.3f}" if s in peer.filters else "" for s in SHARES]
        lines.append(f"| {TITLES[peer.name]} | " + " | ".join(cells) + " |")
    lines += ["", "![Recall against queries a second of one client](benchmarks.svg)", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--vectors", type=Path, help="a .npy file; its first 1,000 rows are the queries")
    parser.add_argument("--queries", type=int, default=300, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--minutes", type=float, default=15, help="no round begins later, but the first")
    parser.add_argument("--peers", nargs="+", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "milvine-peers")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    load = [os.getloadavg()[0]]
    rows, queries = vectors(options.vectors, options.rows)
    peers = [Peer(name) for name in options.peers]
    with tempfile.TemporaryDirectory() as directory:
        workload = Workload(rows, queries[: options.queries], Path(directory))
        try:
            measure(peers, workload, options, Path(directory))
        finally:
            for peer in peers:
                peer.close()
    load.append(os.getloadavg()[0])
    made = section(peers, workload, options, load)
    options.output.write_text(with_section(options.output.read_text(), made))
    lines = {TITLES[p.name]: [(recall, speed) for recall, speed, _ in p.points] for p in peers if p.points}
    plot = line_plot(lines, "recall@10", "queries a second, one client")
    options.output.with_suffix(".svg").write_text(plot)
    print(options.output.read_text())


if __name__ == "__main__":
    main()
