"""The older, object-style SDK: connections, Collection, utility."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility

ALIAS = "orm"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def connected(server: Server) -> Iterator[None]:
    connections.connect(ALIAS, uri=server.uri, token="root:Milvus")
    yield
    connections.disconnect(ALIAS)


@pytest.fixture
def books(collection_name: str) -> Any:
    fields = [
        FieldSchema("book_id", DataType.INT64, is_primary=True),
        FieldSchema("word_count", DataType.INT64),
        FieldSchema("book_intro", DataType.FLOAT_VECTOR, dim=2),
    ]
    collection = Collection(collection_name, CollectionSchema(fields, "books"), using=ALIAS)
    collection.insert([list(range(50)), [i * 100 for i in range(50)], [[float(i), 0.0] for i in range(50)]])
    return collection


def _indexed(books: Any) -> Any:
    books.create_index(
        "book_intro", {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 8, "efConstruction": 64}}
    )
    return books


def test_a_collection_object_reads_its_schema_back(books: Any, collection_name: str) -> None:
    again = Collection(collection_name, using=ALIAS)
    assert [f.name for f in again.schema.fields] == ["book_id", "word_count", "book_intro"]
    assert again.description == "books"
    assert again.primary_field.name == "book_id"
    assert utility.has_collection(collection_name, using=ALIAS)


def test_load_search_query_delete_and_release(books: Any, collection_name: str) -> None:
    _indexed(books).load()
    assert utility.load_state(collection_name, using=ALIAS).name == "Loaded"
    assert utility.loading_progress(collection_name, using=ALIAS) == {"loading_progress": "100%"}
    hits = books.search(
        [[0.0, 0.0]], "book_intro", {"metric_type": "L2", "params": {"ef": 50}}, limit=3, output_fields=["word_count"]
    )[0]
    assert list(hits.ids) == [0, 1, 2]
    assert list(hits.distances) == [0.0, 1.0, 4.0]
    assert [hit.entity.get("word_count") for hit in hits] == [0, 100, 200]
    rows = books.query("word_count in [300, 400]", output_fields=["book_id"])
    assert [r["book_id"] for r in rows] == [3, 4]
    books.delete("book_id in [0, 1]")
    assert books.query("book_id >= 0", output_fields=["count(*)"])[0]["count(*)"] == 48
    books.flush()
    assert books.num_entities == 50
    books.release()
    assert utility.load_state(collection_name, using=ALIAS).name == "NotLoad"
    with pytest.raises(Exception, match="collection not loaded"):
        books.query("book_id > 0")


def test_a_partial_load_takes_fields(books: Any) -> None:
    _indexed(books).load(load_fields=["book_id", "book_intro"], skip_load_dynamic_field=True)
    with pytest.raises(Exception, match="field word_count is not loaded"):
        books.query("book_id > 0", output_fields=["word_count"])
    utility.wait_for_loading_complete(books.name, using=ALIAS)


def test_index_is_found_described_and_dropped(books: Any) -> None:
    _indexed(books)
    assert books.has_index()
    described = books.index().params
    assert (described["index_type"], described["metric_type"]) == ("HNSW", "L2")
    assert utility.index_building_progress(books.name, using=ALIAS)["pending_index_rows"] == 0
    books.drop_index()
    assert not books.has_index()
    with pytest.raises(Exception, match="index not found"):
        books.load()


def test_a_dropped_collection_does_not_exist(books: Any, collection_name: str) -> None:
    utility.drop_collection(collection_name, using=ALIAS)
    assert not utility.has_collection(collection_name, using=ALIAS)
    assert utility.load_state(collection_name, using=ALIAS).name == "NotExist"
