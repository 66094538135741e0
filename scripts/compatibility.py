"""Writes docs/compatibility.md: what of Milvus is served, read from the code that serves it.

`python scripts/compatibility.py` writes the page; `--check` fails if the stored one differs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from milvine import MILVUS_VERSION
from milvine.errors import MilvineError
from milvine.expr import compile_filter
from milvine.grpc_api import unserved
from milvine.grpc_api.proto import milvus_pb2, request_class, schema_pb2
from milvine.grpc_api.servicer import RPCS
from milvine.index.registry import TYPES
from milvine.index.scalar_registry import SCALAR_TYPES
from milvine.model.known_keys import REMOVED_BY_MILVUS, refused_keys
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.types import DataType
from milvine.rest_api import unserved as unserved_routes
from milvine.rest_api.app import VERSIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
YES, PARTLY, NO = "yes", "partly", "no"
_TYPES_ELSEWHERE = {
    "GPU_BRUTE_FORCE": "needs a GPU",
    "GPU_CAGRA": "needs a GPU",
    "GPU_IVF_FLAT": "needs a GPU",
    "GPU_IVF_PQ": "needs a GPU",
    "RTREE": "",
}
"""Index types of Milvus, and why those that the registries lack are not there."""
_SCHEMA = CollectionSchema(
    with_field_ids(
        [
            FieldSchema(0, "id", DataType.INT64, is_primary=True),
            FieldSchema(0, "vec", DataType.FLOAT_VECTOR, dim=4),
            FieldSchema(0, "price", DataType.DOUBLE, nullable=True),
            FieldSchema(
                0,
                "name",
                DataType.VARCHAR,
                max_length=99,
                properties={"enable_match": "true", "enable_analyzer": "true"},
            ),
            FieldSchema(0, "on_sale", DataType.BOOL),
            FieldSchema(0, "tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_length=9, max_capacity=9),
            FieldSchema(0, "doc", DataType.JSON),
            FieldSchema(0, "at", DataType.TIMESTAMPTZ),
        ]
    )
)
_FILTERS = {
    "comparisons": ["id == 1", "id != 1", "price < 1.5", "price <= 1.5", "price > 1.5", "price >= 1.5"],
    "of two fields": ["price > id"],
    "ranges": ["1 < price <= 3"],
    "logic": ["id == 1 and on_sale == true", "id == 1 or id == 2", "not (id == 1)", "id == 1 && id == 2 || !(id == 3)"],
    "lists": ["id in [1, 2]", "id not in [1, 2]", "id in {ids}"],
    "moments": [
        "at > ISO '2025-01-01T00:00:00Z'",
        "ISO '2025-01-01 00:00:00' <= at",
        "at + INTERVAL 'P1MT12H' < ISO '2025-01-01T00:00:00+08:00'",
    ],
    "NULL": ["price is null", "price is not null"],
    "texts": ['name like "a%"', 'name like "%a_b%"', 'name =~ "a+"', 'name !~ "a+"', 'starts_with(name, "a")'],
    "words": [
        'text_match(name, "red blue")',
        'text_match(name, "red blue", minimum_should_match=2)',
        'text_match_fuzzy(name, "red", max_edit_distance=1)',
        'phrase_match(name, "red blue", 1)',
    ],
    "arithmetic": ["price + 1 == 2", "price - 1 < 2", "price * 2 > 3", "price / 2 > 3", "id % 2 == 0", "id == 2 ** 3"],
    "bits": ["(id & 1) == 1", "(id | 1) == 1", "(id ^ 1) == 1", "id << 1 == 2", "id >> 1 == 2"],
    "arrays": [
        'tags[0] == "a"',
        'array_contains(tags, "a")',
        'array_contains_all(tags, ["a", "b"])',
        'array_contains_any(tags, ["a", "b"])',
        "array_length(tags) == 2",
        'tags == ["a"]',
    ],
    "JSON": [
        'doc["a"]["b"] == 1',
        'doc["a"][0] == "x"',
        'exists doc["a"]',
        'json_contains(doc["a"], 1)',
        'json_contains_all(doc["a"], [1, 2])',
        'json_contains_any(doc["a"], [1, 2])',
    ],
    "samples and sets": ["random_sample(0.1)", "id == 1 and random_sample(0.1)", "bloom_match(id, {filter})"],
    "places": ['st_within(doc, "POLYGON((0 0, 1 0, 1 1, 0 0))")', 'st_contains(doc, "POINT(0 0)")'],
    "times": ["doc > ISO '2025-01-01T00:00:00Z'", "doc + INTERVAL 'P1D' > ISO '2025-01-01T00:00:00Z'"],
    "structs": ["element_filter(doc, $[a] == 1)", "MATCH_ANY(doc, $[a] == 1)", "doc[0][a] == 1"],
}
_TEMPLATES: dict[str, object] = {"ids": [1, 2]}

_PROBES = [
    ("pymilvus, Go, Java", "a search's answer has a token", "search iterators of the second kind", "Search"),
    ("pymilvus, Java", "a first page has a session timestamp", "iterators whose pages are of one moment", "Query"),
    ("pymilvus, Go, Java", "`AlterCollectionSchema` is implemented", "fields added by it", "AlterCollectionSchema"),
    ("NodeJS", "`Connect` is implemented", "calls that old servers lack", "Connect"),
    ("Go", "`ClientHeartbeat` is implemented", "reports about the client", "ClientHeartbeat"),
    ("VectorDBBench", "segments are sorted, no index row is pending", "the forced merge", "GetPersistentSegmentInfo"),
]
"""(clients, what they look at, what they switch on, the RPC that answers)."""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows), ""]


def _code(text: str) -> str:
    """Code in a cell of a table."""
    return f"`` {text} ``".replace("|", "\\|")


def _without(place: str) -> str:
    """The keys of a place that ask for what is not served."""
    found = [f"`{name}`" for name, _ in refused_keys(place)]
    return f"without {', '.join(found)}" if found else ""


def _rpc(name: str) -> tuple[str, str, str]:
    if name in RPCS:
        note = _without(request_class(name).DESCRIPTOR.name)
        return f"`{name}`", PARTLY if note else YES, note
    if name in unserved.REFUSED_BY_MILVUS or name in REMOVED_BY_MILVUS:
        return f"`{name}`", NO, "Milvus refuses it, too"
    if name in unserved.WITHOUT_CODE_IN_MILVUS:
        return f"`{name}`", NO, "Milvus declares it only"
    return f"`{name}`", NO, (unserved.ABSENT | unserved.WITHOUT_STATUS).get(name, "")


def _route(path: str, kind: str) -> tuple[str, str, str]:
    if path in unserved_routes.REMOVED:
        return f"`{path}`", NO, "Milvus refuses it, too"
    if path in unserved_routes.ABSENT:
        return f"`{path}`", NO, unserved_routes.ABSENT[path]
    note = _without(kind)
    return f"`{path}`", PARTLY if note else YES, note


def _filter(text: str) -> str:
    try:
        compile_filter(text, _SCHEMA, None, _TEMPLATES | {"filter": b""})
    except MilvineError as error:
        # An empty Bloom filter is refused for its content.
        return YES if "bloom" in str(error) else NO
    return YES


def _is_used(fields: frozenset[DataType]) -> str:
    return ", ".join(t.name for t in sorted(fields))


def page() -> str:
    rpcs = [_rpc(name) for name in sorted(milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name)]
    second, first, _ours = VERSIONS
    routes = [_route(path, route.kind) for path, route in sorted(second.routes.items())]
    firsts = [_route(path, route.kind) for path, route in sorted(first.routes.items())]
    data_types = [n for n in schema_pb2.DataType.keys() if n != "None"]  # noqa: SIM118 - an enum has no iterator
    served_types = {t.milvus_name for t in DataType}
    lines = [
        "# Compatibility",
        "",
        "What of Milvus is served: **yes**; **partly**, with what is missing; or **no**, with the feature that it",
        "belongs to. What is not served is refused with a sentence, and never ignored. `scripts/compatibility.py`",
        "writes this page from the code that serves.",
        "",
        *_summary({"RPCs": rpcs, "routes of REST v2": routes, "routes of REST v1": firsts}),
        "## What clients look at before a call",
        "",
        f"The server announces Milvus `{MILVUS_VERSION}`. None of these compares that version with another: pymilvus",
        "2.5.18, 2.6.17 and 3.0.2, the SDKs for Java, Go and NodeJS, Attu 2.6, milvus-cli, LangChain,",
        "LlamaIndex, Haystack, mem0, VectorDBBench. They show it, or ask for it to see whether the server",
        "answers. What they switch on, they switch on by an answer:",
        "",
        *_table(
            ("client", "if", "switched on", "here"), ((*row[:3], YES if row[3] in RPCS else NO) for row in _PROBES)
        ),
        "## Types of fields",
        "",
        *_table(("type", "served"), ((f"`{n}`", YES if n in served_types else NO) for n in data_types)),
        "## Arrays of structs",
        "",
        "Not served: `ARRAY` of `STRUCT`, lists of vectors (`EmbeddingList`) with the `MAX_SIM` metrics,",
        "`element_filter`, `MATCH_ANY` and the like. Schemas, added fields, rows, searches, indexes and filters with",
        "them are refused with code 1100, and `AddCollectionStructField` and its route with code 10.",
        "",
        "## Index types of vectors",
        "",
        *_table(
            ("index type", "served", "fields", "metrics"),
            [
                *(
                    (f"`{n}`", YES, _is_used(t.data_types), ", ".join(sorted(m.value for m in t.metrics)))
                    for n, t in TYPES.items()
                ),
                (
                    "`AUTOINDEX`",
                    YES,
                    _is_used(frozenset(d for t in TYPES.values() for d in t.auto)),
                    "of the chosen type",
                ),
                *((f"`{n}`", NO, why, "") for n, why in _TYPES_ELSEWHERE.items() if n.startswith("GPU")),
            ],
        ),
        "## Index types of other fields",
        "",
        *_table(
            ("index type", "served"),
            [
                *((f"`{n}`", YES) for n in SCALAR_TYPES if n),
                *((f"`{n}`", NO) for n in _TYPES_ELSEWHERE if not n.startswith("GPU") and n not in SCALAR_TYPES),
            ],
        ),
        "## Filters",
        "",
        *_table(
            ("", "filter", "served"),
            (
                (title if i == 0 else "", _code(text), _filter(text))
                for title, texts in _FILTERS.items()
                for i, text in enumerate(texts)
            ),
        ),
        "## RPCs",
        "",
        *_table(("RPC", "served", ""), rpcs),
        "## Routes of REST v2",
        "",
        "Paths after `/v2/vectordb/`.",
        "",
        *_table(("route", "served", ""), routes),
        "## Routes of REST v1",
        "",
        "Paths after `/v1/`.",
        "",
        *_table(("route", "served", ""), firsts),
    ]
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _summary(tables: dict[str, list[tuple[str, str, str]]]) -> list[str]:
    def counted(rows: list[tuple[str, str, str]], answer: str) -> str:
        return str(sum(row[1] == answer for row in rows))

    return _table(
        ("", YES, PARTLY, NO),
        ((name, *(counted(rows, answer) for answer in (YES, PARTLY, NO))) for name, rows in tables.items()),
    )


def main() -> int:
    if "--check" not in sys.argv:
        PAGE.write_text(page())
        return 0
    if PAGE.read_text() == page():
        return 0
    print("docs/compatibility.md is not current; run: python scripts/compatibility.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
