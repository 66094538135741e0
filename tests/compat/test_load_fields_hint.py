"""`load_fields_mode: hint`: listed fields are resident, the others are served from their files."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused, query_request, search_request
from load_calls import load, loaded, progress, release
from pymilvus import DataType, MilvusClient
from sample_collections import add_index, c1_rows, ids_of, make_c1, make_two_vectors, wait_indexed

ORIGIN = [0.0, 0.0, 0.0, 0.0]
ROWS = 2000


@pytest.fixture(scope="module")
def hint_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hint"), env={"MILVINE_LOAD_FIELDS_MODE": "hint"}).running() as server:
        yield server


@pytest.fixture(scope="module")
def hint_client(hint_server: Server) -> Iterator[MilvusClient]:
    client = hint_server.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def partial(hint_server: Server, hint_client: MilvusClient) -> str:
    """A dynamic C1, its first 2,000 rows sealed, loaded with [id, vec] and without its dynamic field."""
    make_c1(hint_client, "partial", dynamic=True)
    hint_client.insert("partial", c1_rows(ROWS, color="red"))
    hint_client.flush("partial")
    hint_client.insert("partial", c1_rows(2, first=ROWS, color="blue"))
    loaded(hint_server.stub, "partial", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    return "partial"


def test_an_unlisted_field_is_returned(hint_client: MilvusClient, partial: str) -> None:
    """LF-10h"""
    rows = hint_client.query(partial, filter=f"id in [3, {ROWS}]", output_fields=["a"])
    assert [(r["id"], r["a"]) for r in rows] == [(3, 30), (ROWS, 10 * ROWS)]
    hit = hint_client.search(partial, [[7.0, 0, 0, 0]], limit=1, output_fields=["a"])[0][0]
    assert (hit["id"], hit["entity"]["a"]) == (7, 70)


def test_an_unlisted_field_is_filtered_on(hint_server: Server, hint_client: MilvusClient, partial: str) -> None:
    """LF-11h"""
    assert ids_of(hint_client, partial, f"a > {10 * ROWS - 20}") == [ROWS - 1, ROWS, ROWS + 1]
    answer = assert_ok(hint_server.stub.Search(search_request(partial, [ORIGIN], 2, filter_text="a >= 50")))
    assert list(answer.results.ids.int_id.data) == [5, 6]
    counted = assert_ok(hint_server.stub.Query(query_request(partial, "a < 100", ["count(*)"])))
    assert counted.fields_data[0].scalars.long_data.data[0] == 10


def test_a_star_stands_for_all_fields(hint_client: MilvusClient, partial: str) -> None:
    """LF-12h"""
    row = hint_client.query(partial, filter="id == 1", output_fields=["*"])[0]
    assert dict(row) == {"id": 1, "vec": [1.0, 0.0, 0.0, 0.0], "a": 10, "color": "red"}
    hit = hint_client.search(partial, [[1.0, 0, 0, 0]], limit=1, output_fields=["*"])[0][0]
    assert dict(hit["entity"]) == {"id": 1, "vec": [1.0, 0.0, 0.0, 0.0], "a": 10, "color": "red"}


def test_a_skipped_dynamic_field_serves_its_keys(hint_client: MilvusClient, partial: str) -> None:
    """LF-13h"""
    assert ids_of(hint_client, partial, 'color == "blue"') == [ROWS, ROWS + 1]
    rows = hint_client.query(partial, filter='$meta["color"] == "blue" or id == 1', output_fields=["color"])
    assert [r["color"] for r in rows] == ["red", "blue", "blue"]


def test_only_listed_fields_are_resident(hint_server: Server, hint_client: MilvusClient, partial: str) -> None:
    stub = hint_server.stub
    lean = sum(s.mem_size for s in hint_client.list_loaded_segments(partial))
    loaded(stub, partial)
    whole = sum(s.mem_size for s in hint_client.list_loaded_segments(partial))
    assert whole > lean + 8 * ROWS, "the INT64 column and the documents take memory"
    loaded(stub, partial, load_fields=["id", "vec"], skip_load_dynamic_field=True)
    assert sum(s.mem_size for s in hint_client.list_loaded_segments(partial)) == lean


def test_the_list_is_validated_and_nothing_changes_for_a_bad_one(hint_server: Server, partial: str) -> None:
    refused = load(hint_server.stub, partial, load_fields=["id", "a"])
    assert_refused(refused, 1100, "load field list [id a] does not contain vector field", legacy=5)
    assert assert_ok(progress(hint_server.stub, partial)).progress == 100


def test_other_fields_are_swapped_in_place_under_searches_that_use_them(
    hint_server: Server, hint_client: MilvusClient, partial: str
) -> None:
    """LF-14h, in hint mode also for reads of a field that comes and goes."""
    stop, failures, reads = threading.Event(), list[str](), [0]

    def read_all_the_time() -> None:
        while not stop.is_set():
            request = search_request(partial, [ORIGIN], 3, filter_text="a >= 100", output_fields=["a", "color"])
            answer = hint_server.stub.Search(request)
            if answer.status.code or list(answer.results.ids.int_id.data) != [10, 11, 12]:
                failures.append(f"{answer.status.code} {answer.status.reason} {answer.results.ids}")
            reads[0] += 1

    threads = [threading.Thread(target=read_all_the_time) for _ in range(2)]
    for thread in threads:
        thread.start()
    for fields in (["id", "vec", "a"], ["id", "vec"]) * 5:
        loaded(hint_server.stub, partial, load_fields=fields, skip_load_dynamic_field=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reads[0] > 0


def test_a_vector_without_an_index_cannot_be_searched(hint_server: Server, hint_client: MilvusClient) -> None:
    """LF-18 hint; after the index is built and the collection is loaded again it can."""
    make_two_vectors(hint_client, "two")
    rows = [{"id": i, "v0": [float(i), 0, 0, 0], "v1": [0, float(-i), 0, 0]} for i in range(1, 6)]
    hint_client.insert("two", rows)
    hint_client.flush("two")
    loaded(hint_server.stub, "two", load_fields=["id", "v0"])
    answer = hint_server.stub.Search(search_request("two", [ORIGIN], 2, anns_field="v1"))
    text = "field index of the field: v1 is not loaded, please reload the collection: segcore error[segcoreCode=2027]"
    assert_refused(answer, 2000, text, retriable=True)
    add_index(hint_client, "two", "v1")
    loaded(hint_server.stub, "two", load_fields=["id", "v0"])
    answer = assert_ok(hint_server.stub.Search(search_request("two", [ORIGIN], 2, anns_field="v1")))
    assert list(answer.results.ids.int_id.data) == [1, 2]


@pytest.mark.one_process("it compares the memory of one replica in one process")
def test_an_unlisted_vector_is_searched_by_its_mapped_index(hint_server: Server, hint_client: MilvusClient) -> None:
    schema = hint_client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name in ("v0", "v1"):
        schema.add_field(name, DataType.FLOAT_VECTOR, dim=4)
    hint_client.create_collection("graphs", schema=schema)
    add_index(hint_client, "graphs", "v0", "FLAT")
    add_index(hint_client, "graphs", "v1", "HNSW", M=8, efConstruction=20)
    hint_client.insert("graphs", [{"id": i, "v0": [float(i)] * 4, "v1": [float(i), 0, 0, 0]} for i in range(2000)])
    hint_client.flush("graphs")
    wait_indexed(hint_client, "graphs", "v1", 2000)
    loaded(hint_server.stub, "graphs", load_fields=["id", "v0"])
    held = sum(s.mem_size for s in hint_client.list_loaded_segments("graphs"))
    assert held < 2000 * (4 * 4 + 4 + 40), "the graph is not counted"
    answer = assert_ok(hint_server.stub.Search(search_request("graphs", [[500.0, 0, 0, 0]], 1, anns_field="v1")))
    assert list(answer.results.ids.int_id.data) == [500]


def test_rows_sealed_during_a_partial_load_are_complete(hint_server: Server, hint_client: MilvusClient) -> None:
    make_c1(hint_client, "sealed_later", dynamic=True)
    loaded(hint_server.stub, "sealed_later", load_fields=["id", "vec"], skip_load_dynamic_field=True)
    hint_client.insert("sealed_later", c1_rows(3, color="red"))
    hint_client.flush("sealed_later")
    assert ids_of(hint_client, "sealed_later", 'a > 5 and color == "red"') == [1, 2]
    assert_ok(release(hint_server.stub, "sealed_later"))


def test_an_unknown_mode_is_refused_at_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Server(tmp_path_factory.mktemp("mode"), env={"MILVINE_LOAD_FIELDS_MODE": "lenient"})
    server.spawn()
    assert server.process.wait(30) == 1
    assert "setting load_fields_mode: cannot read 'lenient': it must be strict or hint" in server.log
