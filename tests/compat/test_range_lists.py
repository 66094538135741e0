"""Range searches and iterators over inverted lists, against plain numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from sample_collections import add_index, clustered, scores, wait_indexed

PART, GROWING, DIM, BITS = 2000, 200, 16, 256
ROWS = 2 * PART + GROWING
IDS = np.arange(ROWS)
GONE = IDS % 13 == 0
FEW = {"nlist": 64}
FIELDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flat": ("IVF_FLAT", "L2", {"nlist": 32}),
    "sq8": ("IVF_SQ8", "COSINE", {"nlist": 32}),
    "jaccard": ("BIN_IVF_FLAT", "JACCARD", {"nlist": 32}),
    "rotated": ("FAISS", "IP", {"faiss_index_name": "PCAR12,IVF32,Flat"}),
}
"""`tests/segment/test_band_search.py` has the other types. NULLs are in `flat`."""
NULLS = IDS % 7 == 3
NAME = "range_lists"


@pytest.fixture(scope="module")
def base() -> Any:
    return clustered(ROWS, DIM, 21, clusters=30)


@pytest.fixture(scope="module")
def bits(base: Any) -> Any:
    """Near vectors have many bits in common."""
    planes = np.random.default_rng(22).normal(size=(DIM, BITS))
    return (base @ planes + 1 > 0).astype(np.uint8)


@pytest.fixture(scope="module")
def filled(_shared_client: MilvusClient, base: Any, bits: Any) -> Iterator[None]:
    """Two sealed segments, growing rows, and deletes in all of them."""
    client, packed = _shared_client, np.packbits(bits, axis=1)
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("group", DataType.INT64)
    for field in FIELDS:
        if field == "jaccard":
            schema.add_field(field, DataType.BINARY_VECTOR, dim=BITS)
        else:
            schema.add_field(field, DataType.FLOAT_VECTOR, dim=DIM, nullable=field == "flat")
    client.create_collection(NAME, schema=schema, properties={"collection.autocompaction.enabled": "false"})
    for field, (index_type, metric, params) in FIELDS.items():
        add_index(client, NAME, field, index_type, metric, **params)
    rows = [{"id": i, "group": i % 3, **dict.fromkeys(FIELDS, base[i].tolist())} for i in range(ROWS)]
    for i, row in enumerate(rows):
        row["jaccard"] = packed[i].tobytes()
        row["flat"] = None if NULLS[i] else row["flat"]
    for start in (0, PART):
        client.insert(NAME, rows[start : start + PART])
        client.flush(NAME)
    for field in FIELDS:
        wait_indexed(client, NAME, field, int(np.count_nonzero(~NULLS[: 2 * PART])) if field == "flat" else 2 * PART)
    client.load_collection(NAME)
    client.insert(NAME, rows[2 * PART :])
    client.delete(NAME, ids=np.flatnonzero(GONE).tolist())
    yield
    client.drop_collection(NAME)


class Field:
    """A field with one query, and where the query's rows are."""

    def __init__(self, name: str, base: Any, bits: Any, kept: Any) -> None:
        self.name = name
        self.metric = FIELDS[name][1]
        if name == "jaccard":
            query = bits[40]
            both, either = (bits & query).sum(axis=1), (bits | query).sum(axis=1)
            found = 1 - both / either
            self.query = np.packbits(query).tobytes()
        else:
            query = base[40] + 0.01
            found = scores(query[None], base, self.metric)[0]
            self.query = query.tolist()
        self.sign = -1 if self.metric in ("IP", "COSINE") else 1
        self.distances = self.sign * found.astype(np.float64)
        self.kept = kept & ~NULLS if name == "flat" else kept
        self.ordered = np.sort(self.distances[self.kept])

    def end(self, rank: int) -> float:
        """A distance with so many rows before it, and not too near to any row."""
        ends = self.ordered[rank : rank + 50]
        gap = int(np.argmax(np.diff(ends)))
        return float(ends[gap] + ends[gap + 1]) / 2

    def inside(self, low: float, high: float) -> set[int]:
        return set(IDS[self.kept & (self.distances >= low) & (self.distances < high)].tolist())

    def params(self, low: float | None, high: float, **more: Any) -> dict[str, Any]:
        near = {} if low is None else {"range_filter": self.sign * low}
        return {"metric_type": self.metric, "params": {"nprobe": 2, "radius": self.sign * high, **near, **more}}


def iterated(client: MilvusClient, field: Field, text: str, batch: int, params: dict[str, Any]) -> list[int]:
    iterator = client.search_iterator(
        NAME, [field.query], batch, filter=text, anns_field=field.name, search_params=params
    )
    found: list[int] = []
    while page := iterator.next():
        found += [hit["id"] for hit in page]
    iterator.close()
    return found


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("text", ["", "group != 1"], ids=["all", "filtered"])
def test_an_iterator_returns_every_row_inside_a_radius(
    client: MilvusClient, filled: None, base: Any, bits: Any, name: str, text: str
) -> None:
    field = Field(name, base, bits, ~GONE & ((IDS % 3 != 1) if text else True))
    for low, high in ((0, 150), (0, 1200), (500, 1200)):
        near = field.end(low) if low else None
        far = field.end(high)
        found = iterated(client, field, text, 100, field.params(near, far))
        expected = field.inside(-np.inf if near is None else near, far)
        assert len(found) == len(set(found)), "a row came twice"
        assert set(found) <= expected
        # Of a narrow range, rows in lists beyond two without any are left out, as in Milvus.
        assert len(found) >= (1 if high == 1200 else 0.9) * len(expected), (low, high, len(found), len(expected))


@pytest.mark.parametrize("name", FIELDS)
def test_an_iterator_without_a_radius_loses_few_rows(
    client: MilvusClient, filled: None, base: Any, bits: Any, name: str
) -> None:
    field = Field(name, base, bits, ~GONE)
    params = {"metric_type": field.metric, "params": {"nprobe": 2}}
    found = iterated(client, field, "", 100, params)
    assert len(found) == len(set(found)), "a row came twice"
    assert len(found) >= 0.95 * np.count_nonzero(field.kept)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("text", ["", "group != 1"], ids=["all", "filtered"])
def test_a_range_search_returns_the_nearest_rows_of_its_band(
    client: MilvusClient, filled: None, base: Any, bits: Any, name: str, text: str
) -> None:
    field = Field(name, base, bits, ~GONE & ((IDS % 3 != 1) if text else True))
    for low, high, limit in ((0, 100, 200), (40, 100, 200), (0, 1200, 50), (500, 1200, 50), (0, 2000, 2500)):
        near, far = field.end(low) if low else None, field.end(high)
        hits = client.search(NAME, [field.query], text, limit, anns_field=name, search_params=field.params(near, far))[
            0
        ]
        found = [hit["id"] for hit in hits]
        band = field.inside(-np.inf if near is None else near, far)
        nearest = sorted(band, key=lambda row: field.distances[row])[:limit]
        assert len(found) == len(set(found))
        assert set(found) <= band
        last = field.distances[nearest[-1]] + 1e-3
        good = sum(field.distances[row] <= last for row in found)
        assert good >= 0.85 * len(nearest), (low, high, limit, good, len(nearest))


@pytest.mark.parametrize("name", ["flat", "sq8", "jaccard"])
def test_more_lists_without_hits_end_a_range_search_later(
    client: MilvusClient, filled: None, base: Any, bits: Any, name: str
) -> None:
    field = Field(name, base, bits, ~GONE)
    far = field.end(60)
    counts = []
    for most in (1, "4", 65536, 0):
        params = field.params(None, far, nprobe=1, max_empty_result_buckets=most)
        hits = client.search(NAME, [field.query], limit=300, anns_field=name, search_params=params)[0]
        counts.append(len(hits))
    assert counts[0] <= counts[1] <= counts[2]
    assert counts[2] == counts[3] == len(field.inside(-np.inf, far))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (65537, r"Out of range in json: param 'max_empty_result_buckets' \(65537\) should be in range \[0, 65536\]"),
        (-1, r"Out of range in json: param 'max_empty_result_buckets' \(-1\) should be in range \[0, 65536\]"),
        (1.5, r"Type conflict in json: param 'max_empty_result_buckets' \(1.5\) should be integer"),
    ],
)
def test_a_wrong_number_of_lists_without_hits_is_refused(
    client: MilvusClient, filled: None, base: Any, bits: Any, value: Any, text: str
) -> None:
    field = Field("flat", base, bits, ~GONE)
    params = field.params(None, 1.0, max_empty_result_buckets=value)
    with pytest.raises(MilvusException, match=text):
        client.search(NAME, [field.query], anns_field=field.name, search_params=params)
    del params["params"]["radius"]  # searches without one do not read it, as in Milvus
    client.search(NAME, [field.query], anns_field=field.name, search_params=params)
