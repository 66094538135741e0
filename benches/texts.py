"""Full text search of one server of this checkout: quality over a real corpus, rows/s, latencies, peers beside it.

    python benches/texts.py [--rows 1000000] [--queries 300] [--lite PYTHON]

- Quality: the titles of the diseases of ICD-10-CM, which the package simple-icd-10-cm carries. Queries are the other
  names that the classification lists for a disease; the disease is the one right answer. bm25s ranks the same tokens.
- Speed: texts of 6 to 18 words, 300,000 words by Zipf's law. Queries are three words, as frequent as in the texts.
- Inside the engine: tantivy and our index search the same texts in turn; CPU time of one thread.
- Milvus Lite: 100,000 of these texts, searched in turn by the same client, if `--lite` names the Python of an
  environment with `pip install milvus-lite pymilvus`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import tantivy
from pymilvus import DataType, Function, FunctionType, MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from server import Server, caller, checked, show

from milvine.index.inverted_terms import TermIndex, build
from milvine.index.term_queries import TermQueries
from milvine.model.sparse_vectors import SparseVectors

Array = np.ndarray[Any, Any]
K = 10
BATCH = 10_000
LITE_ROWS = 100_000
VOCABULARY = 300_000
QUERY_WORDS = 3
SCALE = 2.2
"""bm25s leaves the factor k1 + 1 out of scores."""


def classification() -> tuple[list[str], list[tuple[str, int]]]:
    """The titles, and the other names with the number of their title."""
    spec = find_spec("simple_icd_10_cm")
    assert spec is not None and spec.origin is not None, "`make setup` installs simple-icd-10-cm"
    (file,) = (Path(spec.origin).parent / "data").glob("icd10c*tabular*.xml")
    titles: list[str] = []
    names: list[tuple[str, int]] = []
    for disease in ET.parse(file).getroot().iter("diag"):
        title = disease.findtext("desc", "")
        others = [note.text for note in disease.iterfind("inclusionTerm/note") if note.text]
        names += [(name, len(titles)) for name in others if name.lower() != title.lower()]
        titles.append(title)
    return titles, names


def insert_request(name: str, first: int, texts: Sequence[str]) -> bytes:
    request = milvus_pb2.InsertRequest(collection_name=name, num_rows=len(texts))
    field = request.fields_data.add(type=5, field_name="id")
    field.scalars.long_data.data.extend(range(first, first + len(texts)))
    field = request.fields_data.add(type=21, field_name="text")
    field.scalars.string_data.data.extend(texts)
    encoded: bytes = request.SerializeToString()
    return encoded


class Collection:
    """Texts with BM25 and the analyzer `standard`, on a server."""

    def __init__(self, server: Server, client: MilvusClient, name: str) -> None:
        self.client, self.name, self.call = client, name, caller(server.address)
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
        schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
        indexes = client.prepare_index_params()
        indexes.add_index("terms", index_type="AUTOINDEX", metric_type="BM25")
        client.create_collection(name, schema=schema, index_params=indexes)

    def fill(self, texts: Sequence[str]) -> float:
        """Texts a second."""
        requests = [
            insert_request(self.name, start, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)
        ]
        began = time.perf_counter()
        for request in requests:
            checked(milvus_pb2.MutationResult.FromString(self.call("Insert", request)))
        spent = time.perf_counter() - began
        self.client.flush(self.name)
        while (found := self.client.describe_index(self.name, "terms"))["indexed_rows"] < found["total_rows"]:
            time.sleep(0.1)
        return len(texts) / spent

    def search(self, text: str) -> dict[int, float]:
        """The scores by id, best first."""
        (hits,) = self.client.search(self.name, [text], anns_field="terms", limit=K)
        return {hit["id"]: hit["distance"] for hit in hits}


def tokens(client: MilvusClient, texts: list[str]) -> list[list[str]]:
    """Of the analyzer `standard`, as the server cuts texts."""
    batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    return [list(found.tokens) for batch in batches for found in client.run_analyzer(batch, {"type": "standard"})]


def gain(found: Iterable[int], right: int) -> float:
    """nDCG at K with one right answer."""
    ranks = [rank for rank, number in enumerate(found) if number == right]
    return 1 / float(np.log2(ranks[0] + 2)) if ranks else 0.0


def ranking(index: Any, words: list[str]) -> tuple[Array, Array]:
    """The best K texts and their scores, by bm25s."""
    if not words:
        return np.zeros(0, np.int64), np.zeros(0)
    texts, scores = index.retrieve([words], k=K, show_progress=False)
    return texts[0], scores[0]


def quality(server: Server, client: MilvusClient, query_count: int) -> None:
    titles, names = classification()
    rng = np.random.default_rng(0)
    asked = [names[place] for place in rng.choice(len(names), query_count, replace=False)]
    collection = Collection(server, client, "diseases")
    collection.fill(titles)
    words = tokens(client, [*titles, *(name for name, _ in asked)])
    other = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    other.index(words[: len(titles)], show_progress=False)
    known = set().union(*words[: len(titles)])
    mine, theirs, spent, equal = [], [], [], 0
    for (name, right), query in zip(asked, words[len(titles) :], strict=True):
        began = time.perf_counter()
        found = collection.search(name)
        spent.append(time.perf_counter() - began)
        mine.append(gain(found, right))
        ranked, scores = ranking(other, [word for word in query if word in known])
        theirs.append(gain(ranked, right))
        equal += np.allclose(list(found.values()), SCALE * scores[: len(found)], rtol=1e-4)
    show(f"nDCG@{K}, {len(titles)} titles, {len(asked)} names", f"{np.mean(mine):.4f}", server)
    show("  bm25s over the same tokens", f"{np.mean(theirs):.4f}", server)
    show("  queries with the same scores", f"{equal} of {len(asked)}", server)
    show("  search by gRPC, p50", f"{statistics.median(spent) * 1e3:.2f} ms", server)


class Synthetic:
    def __init__(self, rows: int) -> None:
        self._rng = np.random.default_rng(0)
        shares = 1 / (np.arange(VOCABULARY) + 2.7)
        self._ends = np.cumsum(shares / shares.sum())
        self.offsets = np.concatenate(([0], np.cumsum(self._rng.integers(6, 19, rows))))
        self.words = self.drawn(self.offsets[-1])

    def drawn(self, count: int) -> Array:
        return np.minimum(np.searchsorted(self._ends, self._rng.random(count)), VOCABULARY - 1)

    def queries(self, count: int) -> list[Array]:
        found: list[Array] = []
        while len(found) < count:
            words = np.unique(self.drawn(QUERY_WORDS))
            if len(words) == QUERY_WORDS:
                found.append(words)
        return found

    def texts(self) -> list[str]:
        words, ends = [f"w{word}" for word in self.words.tolist()], self.offsets.tolist()
        return [" ".join(words[start:end]) for start, end in pairwise(ends)]

    def vectors(self) -> SparseVectors:
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        pairs, counts = np.unique(rows * VOCABULARY + self.words, return_counts=True)
        offsets = np.searchsorted(pairs, np.arange(len(self.offsets)) * VOCABULARY)
        return SparseVectors(offsets, (pairs % VOCABULARY).astype(np.uint32), counts.astype(np.float32))


def as_text(words: Array) -> str:
    return " ".join(f"w{word}" for word in words)


def search_request(name: str, text: str) -> bytes:
    group = common_pb2.PlaceholderGroup()
    group.placeholders.add(tag="$0", type=21).values.append(text.encode())
    request = milvus_pb2.SearchRequest(
        collection_name=name, placeholder_group=group.SerializeToString(), nq=1, dsl_type=common_pb2.BoolExprV1
    )
    for key, value in (("anns_field", "terms"), ("topk", str(K)), ("params", "{}")):
        request.search_params.add(key=key, value=value)
    encoded: bytes = request.SerializeToString()
    return encoded


def over_grpc(server: Server, client: MilvusClient, texts: list[str], queries: list[Array]) -> None:
    collection = Collection(server, client, "synthetic")
    show(f"insert, {len(texts)} texts", f"{collection.fill(texts):,.0f} texts/s", server)
    bare, by_client = [], []
    for text in map(as_text, queries):
        request = search_request(collection.name, text)
        began = time.perf_counter()
        checked(milvus_pb2.SearchResults.FromString(collection.call("Search", request)))
        bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        collection.search(text)
        by_client.append(time.perf_counter() - began)
    for name, times in (("bare gRPC", bare), ("MilvusClient", by_client)):
        show(f"search, 3 words, {name}, p50", f"{statistics.median(times) * 1e3:.2f} ms", server)


class Lite:
    """Milvus Lite in a child process, filled with texts."""

    def __init__(self, python: Path, directory: str, texts: Sequence[str]) -> None:
        file = Path(directory, "texts.json")
        file.write_text(json.dumps(texts))
        command = [str(python), str(Path(__file__).with_name("lite_peer.py")), directory, str(file), str(K)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.texts_per_second = len(texts) / self._answer()

    def search(self, text: str) -> tuple[float, list[int]]:
        """The seconds that it took, and the ids of the hits."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        seconds, ids = self._answer()
        return seconds, ids

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def beside_lite(
    server: Server, client: MilvusClient, python: Path, texts: Sequence[str], queries: Sequence[Array]
) -> None:
    collection = Collection(server, client, "beside_lite")
    show(f"insert, {len(texts)} texts", f"{collection.fill(texts):,.0f} texts/s", server)
    mine, theirs, common = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        lite = Lite(python, directory, texts)
        show("  Milvus Lite", f"{lite.texts_per_second:,.0f} texts/s", server)
        for text in map(as_text, queries):
            began = time.perf_counter()
            found = collection.search(text)
            mine.append(time.perf_counter() - began)
            seconds, ids = lite.search(text)
            theirs.append(seconds)
            common += len(found.keys() & set(ids))
        lite.stop()
    show("search, 3 words, MilvusClient, p50", f"{statistics.median(mine) * 1e3:.2f} ms", server)
    show("  Milvus Lite", f"{statistics.median(theirs) * 1e3:.2f} ms", server)
    show("  hits in common", f"{common} of {K * len(queries)}", server)


def inside(server: Server, corpus: Synthetic, texts: list[str], queries: list[Array]) -> None:
    index = TermIndex(build(corpus.vectors()), "SPARSE_INVERTED_INDEX", 0)
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=False, tokenizer_name="whitespace", index_option="freq")
    other = tantivy.Index(builder.build())
    writer = other.writer(200_000_000, 1)
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    writer.wait_merging_threads()
    other.reload()
    searcher = other.searcher()
    mine: list[float] = []
    theirs: list[float] = []
    keys = np.arange(len(texts))
    for words in queries:
        terms = words.astype(np.uint32)
        raw = TermQueries(SparseVectors(np.array([0, len(terms)]), terms, np.ones(len(terms), np.float32)), 1.2, 0.75)
        parsed = other.parse_query(as_text(words), ["text"])
        began = time.thread_time()
        searcher.search(parsed, K, count=False)
        between = time.thread_time()
        index.scan_by_key(raw.weighed(index.statistics(terms)), K, None, keys.take)
        theirs.append(between - began)
        mine.append(time.thread_time() - between)
    for name, times in (("our index", mine), (f"tantivy, {searcher.num_segments} segments", theirs)):
        median, mean = statistics.median(times) * 1e3, statistics.mean(times) * 1e3
        show(f"inside the engine, {name}, p50, mean", f"{median:.2f}, {mean:.2f} ms", server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--lite", type=Path, metavar="PYTHON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data_dir:
        server = Server(data_dir)
        try:
            client = MilvusClient(uri=f"http://{server.address}")
            quality(server, client, options.queries)
            corpus = Synthetic(options.rows)
            texts, queries = corpus.texts(), corpus.queries(options.queries)
            if options.lite is not None:
                beside_lite(server, client, options.lite, texts[:LITE_ROWS], queries)
            over_grpc(server, client, texts, queries)
            inside(server, corpus, texts, queries)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
