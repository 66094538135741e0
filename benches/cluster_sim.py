"""A cluster of a thousand nodes in one process: placement, moves, the plan of a read, and the sizes of segments.

    python benches/cluster_sim.py [--nodes 1000] [--segments 1000000] [--copies 2] [--full 0.9]

Runs the head's own code (holdings, groups, moves, balancer, reads, fan-out, codec, reduce) over nodes whose answers
are there at once, so that only the wire is missing. All numbers are CPU time, so a busy machine changes them little.
The last table searches real HNSW segments of several sizes, which `--no-graphs` leaves out. Ends with status 1 if a
bound is not kept.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from milvine.background import Supervisor
from milvine.index.base import Effort
from milvine.index.exact import exact_of
from milvine.index.registry import TYPES
from milvine.model.collections import LoadConfig
from milvine.model.columns import Column, ColumnBatch
from milvine.model.resource_groups import initial_groups
from milvine.model.schema import CollectionSchema, FieldSchema, IndexSpec, with_field_ids
from milvine.model.segments import SegmentIndexMeta, SegmentMeta
from milvine.model.types import DataType, MetricType
from milvine.querynode.reduce import condensed, merge_hits
from milvine.querynode.remote.balancer import Balancer
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import HERE, Holdings, Placed
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.messages import encode_result
from milvine.querynode.remote.moves import LOOKED_AT_IN_A_TURN, Moves
from milvine.querynode.remote.node_groups import NodeGroups
from milvine.querynode.remote.placement import Wanted, placed
from milvine.querynode.remote.reads import Read, Reads
from milvine.querynode.remote.remote_node import RemoteNode, Report
from milvine.segment.growing import make_chunk
from milvine.segment.plans import Hits, SearchPlan, SegmentSearchStats
from milvine.segment.sealed import LoadSpec, SealedSegment, open_segment, part_sizes
from milvine.segment.search import search_row_sets
from milvine.storage.directories import make_directory
from milvine.storage.files import seal_written
from milvine.storage.segment_files import (
    FORMAT_VERSION,
    INDEX_KIND,
    ROWS_FILE,
    RowsFile,
    SegmentPaths,
    save_column,
    save_rows,
)

COLLECTION, PK, VEC, INDEX = 1, 100, 101, 900
DIM, K = 128, 10
SCHEMA = CollectionSchema(
    with_field_ids(
        [FieldSchema(0, "id", DataType.INT64, is_primary=True), FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=DIM)]
    )
)
PLAN = SearchPlan(
    field_id=VEC,
    queries=np.zeros((1, DIM), np.float32),
    k=K,
    metric=MetricType.L2,
    exact=exact_of(SCHEMA.by_id[VEC]),
    effort=Effort(64, 8, K),
    read_ts=2**62,
    predicate=None,
    partition_ids=None,
    output_field_ids=(),
    primary_field_id=PK,
)
META = SegmentMeta(0, COLLECTION, 1, 10_000, 1, 2, 160_000, {PK: 80_000, VEC: 5_120_000})
SPEC = LoadSpec(SCHEMA, frozenset(SCHEMA.by_id), {})
SIZE = sum(part_sizes(META, SPEC).values())
PARTS = {("rows", 0): SIZE}
MOST_MOVES, MOST_PLAN_MS, MOST_NODE_MS = 1.1, 1.0, 20.0
_LOOKS = 100_000

logging.getLogger("milvine").setLevel(logging.ERROR)
failures: list[str] = []


def check(is_kept: bool, bound: str) -> None:
    if not is_kept:
        failures.append(bound)


@contextmanager
def cpu() -> Iterator[Callable[[], float]]:
    """Seconds of CPU time since the block began."""
    began = time.process_time()
    yield lambda: time.process_time() - began


class Answered:
    """A call that is answered at once."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def on_end(self, then: Callable[[], None]) -> None:
        then()

    def cancel(self) -> None:
        pass

    def result(self) -> bytes:
        return self._answer


class Channel:
    """To a node whose searches find `K` rows."""

    def __init__(self, segments: int) -> None:
        stats = SegmentSearchStats(1, False, META.row_count, META.row_count, "HNSW", 64, 0, 0.1)
        rows = ColumnBatch(K, {PK: Column(DataType.INT64, np.arange(K, dtype=np.int64))})
        hits = Hits(np.array([K]), np.sort(np.random.default_rng(1).random(K)), rows, (stats,) * segments)
        self.answer = encode_result(condensed(hits))

    def begin(self, name: str, content: bytes, seconds: float) -> Answered:
        return Answered(self.answer)

    def close(self) -> None:
        pass


class Node(RemoteNode):
    """It reports all the time."""

    @property
    def silent_seconds(self) -> float:
        return 0.0


class Cluster:
    """The head's parts around its table, and nodes without a process."""

    def __init__(self, nodes: int, segments: int, copies: int, full: float) -> None:
        load = LoadConfig(frozenset({1}), SPEC.field_ids, copies)
        snapshot = SimpleNamespace(
            resource_groups=initial_groups(), collections={COLLECTION: SimpleNamespace(load=load)}
        )
        self.limit = int(segments * copies * SIZE / nodes / full)
        self.holdings = Holdings()
        self.feed = DeleteFeed()
        self.later = Later()
        self.members = Members(self.holdings, self.feed, self.later, lambda: None)
        catalog = cast(Any, SimpleNamespace(snapshot=snapshot))
        self.groups = NodeGroups(catalog, self.members, lambda: False)
        self.moves = Moves(self.holdings, self.groups.shares)
        self.reads = Reads(cast(Any, None), self.members, self.holdings, self.feed)
        self._channel = Channel(max(1, segments // nodes))
        self._last_id = 1
        for _ in range(nodes):
            self.join()

    def join(self) -> int:
        self._last_id += 1
        report = Report(
            f"key-{self._last_id}", f"node-{self._last_id}:1", "host", self.limit, 0, 0, 1, self._last_id, {}, {}
        )
        self.members.join(Node(self._last_id, report, cast(Any, self._channel), 1, self._last_id))
        return self._last_id

    def load(self, segment_ids: list[int]) -> int:
        """As the loader does, with nodes that have room; returns the number of copies."""
        taken = self.holdings.bytes_by_node()
        free = {i: limit - taken.get(i, 0) for i, limit in self.members.rooms.limits.items()}
        found = placed([Wanted(i, SIZE) for i in segment_ids], self.groups.shares(COLLECTION), free)
        for segment_id, node_ids in found.items():
            meta = replace(META, segment_id=segment_id)
            self.holdings.put((COLLECTION, segment_id), Placed(meta, SPEC, dict.fromkeys(node_ids or (HERE,), PARTS)))
        return sum(map(len, found.values()))

    def settle(self) -> tuple[int, float]:
        """Moves until all is where it should be; returns the number of openings, and the CPU time of the plans."""
        openings, seconds, idle = 0, 0.0, 0
        while idle < 2 + self.moves.waiting // LOOKED_AT_IN_A_TURN:
            with cpu() as spent:
                wanted = self.moves.wanted(self.members.rooms, set(), _LOOKS)
                seconds += spent()
            idle = 0 if wanted else idle + 1
            for key, node_ids in wanted.items():
                one = self.holdings.get(*key)
                assert one is not None
                for node_id in set(node_ids) - one.holders.keys():
                    self.holdings.add_holder(key, node_id, PARTS)
                    openings += 1
                self.holdings.keep_holders(key, node_ids)
        return openings, seconds

    def lose(self, count: int) -> tuple[int, int, float]:
        """Of so many nodes: the copies that they held, the openings until all is well, the CPU time."""
        gone = random.Random(count).sample(sorted(self.members.ids()), count)
        lost = sum(len(self.holdings.of_node(i)) for i in gone)
        homeless: list[int] = []
        self.members.listener = cast(
            Any,
            SimpleNamespace(
                segments_lost=lambda ids: homeless.extend(ids.get(COLLECTION, ())), segment_grown=lambda *_: None
            ),
        )
        with cpu() as spent:
            for node_id in gone:
                self.members.lose(node_id, "the simulation stops it")
            opened = self.load(homeless)
            seconds = spent()
        moved, planned = self.settle()
        return lost, opened + moved, seconds + planned


def moves(cluster: Cluster, segments: int) -> None:
    with cpu() as spent:
        copies = cluster.load(list(range(1, segments + 1)))
        seconds = spent()
    counts = Counter({i: len(cluster.holdings.of_node(i)) for i in cluster.members.ids()})
    gc.freeze()  # a walk of the collector over a million records would count as the cost of what happens to be next
    print(f"placed {copies:,} copies in {seconds:.1f} s, {1e6 * seconds / segments:.0f} us a segment")
    mean, most = copies / len(counts), max(counts.values())
    full = SIZE * most / cluster.limit
    print(
        f"copies on a node: {mean:.0f} on average, {min(counts.values())} to {most}, at most {full:.0%} of its memory"
    )
    openings, seconds = cluster.settle()
    print(f"first look at all: {openings} moves, {seconds:.1f} s; then {idle_look(cluster):.1f} ms a look")
    check(openings == 0, "nothing moves without a reason")
    for count in (1, max(1, len(counts) // 100)):
        lost, opened, seconds = cluster.lose(count)
        moved = f"{opened:,} openings, {opened / lost:.3f} of what was lost"
        print(f"{count} nodes lost with {lost:,} copies: {moved}, {seconds:.2f} s")
        check(opened <= MOST_MOVES * lost, f"after a loss at most {MOST_MOVES} x the lost copies move")
    joined = cluster.join()
    openings, seconds = cluster.settle()
    share = len(cluster.holdings.of_node(joined))
    print(f"a node comes: {openings:,} openings, {share:,} on it, {seconds:.2f} s")
    check(openings <= MOST_MOVES * mean, f"a node that comes moves at most {MOST_MOVES} x its share")


def idle_look(cluster: Cluster) -> float:
    """Milliseconds of a look of the balancer at nodes that report what they hold."""
    unused = cast(Any, None)
    balancer = Balancer(cluster.members, cluster.groups, cluster.holdings, unused, cluster.later, Supervisor())
    for node in cluster.members.all():
        held = [segment_id for _, segment_id in cluster.holdings.of_node(node.node_id)]
        node.beat(replace(node.report, segments={COLLECTION: held}))
    balancer._look()
    for node in cluster.members.all():
        node.beat(replace(node.report, segments={COLLECTION: list(node.report.segments[COLLECTION])}))
    with cpu() as spent:
        balancer._look()
        return 1000 * spent()


def reads(cluster: Cluster, segments: int, rounds: int = 3) -> None:
    nodes = len(cluster.members)
    ids = tuple(range(1, segments + 1))
    with cpu() as spent:
        routes = cluster.reads.routes(COLLECTION, ids)
        first = spent()
    assert routes is not None
    with cpu() as spent:
        for _ in range(rounds):
            cluster.reads.routes(COLLECTION, ids)
        planned = spent() / rounds
    with cpu() as spent:
        for _ in range(rounds):
            found = cluster.reads.run(Read("search", COLLECTION, (PLAN,), None, 60.0), ids)
        whole = spent() / rounds
    with cpu() as spent:
        for _ in range(rounds):
            merged = merge_hits(found, PLAN)
        reduced = spent() / rounds
    assert merged.counts.tolist() == [K]
    shares = [len(some) for some in routes.values()]
    asked = f"{len(shares)} of {nodes} nodes, {min(shares)} to {max(shares)} segments each"
    print(f"a read of {segments:,} segments asks {asked}; CPU of the head for each of them:")
    for what, spent_on in (
        ("first routes, as after each move", first),
        ("routes", planned),
        ("routes, messages, fan-out, answers", whole),
        ("reduce", reduced),
    ):
        print(f"  {what}: {1000 * spent_on / len(shares):.3f} ms")
    check(1000 * whole / len(shares) < MOST_PLAN_MS, f"a read is planned in {MOST_PLAN_MS} ms a node")


# Sizes of segments


def graph_segment(root: Path, rows: int) -> SealedSegment:
    """A sealed segment with an HNSW graph."""
    rng = np.random.default_rng(rows)
    data = rng.standard_normal((1 + rows // 100, DIM), np.float32)[rng.integers(0, 1 + rows // 100, rows)]
    data = data + np.float32(0.6) * rng.standard_normal((rows, DIM), np.float32)
    batch = ColumnBatch(rows, {PK: Column(DataType.INT64, np.arange(rows)), VEC: Column(DataType.FLOAT_VECTOR, data)})
    chunk = make_chunk(SCHEMA, rows, 1, batch, 10)
    paths = SegmentPaths(root)
    make_directory(paths.segment(COLLECTION, rows))
    keys = RowsFile(chunk.insert_ts, chunk.keys.sorted_keys, chunk.keys.order)
    rows_bytes = save_rows(paths.segment(COLLECTION, rows) / ROWS_FILE, keys)
    sizes = {i: save_column(paths.column(COLLECTION, rows, i), column) for i, column in batch.columns.items()}
    path, hnsw = paths.index(COLLECTION, rows, f"{INDEX}.index"), TYPES["HNSW"]
    hnsw.save(hnsw.build(data, {"M": 16, "efConstruction": 100}, MetricType.L2, DataType.FLOAT_VECTOR, 2), path)
    built = SegmentIndexMeta(INDEX, path.name, seal_written(path, INDEX_KIND, FORMAT_VERSION))
    meta = SegmentMeta(rows, COLLECTION, 1, rows, 10, 10, rows_bytes, sizes, {INDEX: built})
    spec = LoadSpec(
        SCHEMA, SPEC.field_ids, {VEC: IndexSpec(INDEX, VEC, "vec", "HNSW", MetricType.L2, build_type="HNSW")}
    )
    return open_segment(paths, meta, spec)


def sizes_of_segments(sizes: list[int], node_rows: int, rounds: int = 30) -> None:
    """What a query costs a node with so many rows, by the size of its segments: their number x the cost of one, and the
    node's reduce."""
    print(f"\nA node with {node_rows:,} rows x {DIM}, HNSW, ef 64, k {K}\n")
    print("| rows of a segment | segments | CPU of one | of the node for a query |\n|---|---|---|---|")
    kept: list[int] = []
    with tempfile.TemporaryDirectory(prefix="milvine-sim-") as root:
        for rows in sizes:
            segment, count = graph_segment(Path(root), rows), max(1, node_rows // rows)
            queries = np.random.default_rng(2).standard_normal((rounds, 1, DIM), np.float32)
            search_row_sets([segment] * count, replace(PLAN, queries=queries[0]))
            with cpu() as spent:
                for query in queries:
                    search_row_sets([segment] * count, replace(PLAN, queries=query))
                ms = 1000 * spent() / rounds
            print(f"| {rows:,} | {count:,} | {ms / count:.3f} ms | {ms:.1f} ms |")
            if ms < MOST_NODE_MS:
                kept.append(rows)
    print(
        f"\nUnder {MOST_NODE_MS:.0f} ms with segments of {min(kept):,} rows and more."
        if kept
        else "\nNone is cheap enough."
    )
    check(bool(kept), f"a size of segments that keeps a query under {MOST_NODE_MS} ms of a node")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--full", type=float, default=0.9, help="how much of all memory is taken")
    parser.add_argument("--node-rows", type=int, default=2_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 10_000, 50_000])
    parser.add_argument("--no-graphs", action="store_true", help="do not measure the searches of a node")
    parsed = parser.parse_args()
    for copies in parsed.copies:
        print(f"\n{parsed.nodes:,} nodes, {parsed.segments:,} segments, {copies} copies, {parsed.full:.0%} full\n")
        cluster = Cluster(parsed.nodes, parsed.segments, copies, parsed.full)
        moves(cluster, parsed.segments)
        reads(cluster, parsed.segments)
        cluster.members.close()
    if not parsed.no_graphs:
        sizes_of_segments(parsed.sizes, parsed.node_rows)
    for bound in failures:
        print(f"not kept: {bound}", file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
