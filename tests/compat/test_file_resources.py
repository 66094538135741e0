"""File resources: added, listed, removed, and used by analyzers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from conftest import Server, ServerFactory
from directory_check import damages, findings
from pymilvus import (
    DataType,
    Function,
    FunctionChain,
    FunctionChainStage,
    FunctionType,
    MilvusClient,
    MilvusException,
)
from pymilvus.function_chain import col, fn
from pymilvus.grpc_gen import milvus_pb2
from tree_models import model, stump, ubj

from milvine.catalog.opening import read_catalog_of

FILES = {
    "stop/words.txt": "\ufeffthe\r\n\r\na\n",
    "synonyms.txt": "car, auto\nfast => quick\n",
    "parts.txt": "dampf\nschiff\n",
    "jieba.txt": "向量数据库 100000 n\n语义搜索\n\n",
    "bad_jieba.txt": "word often n\n",
    "gbk.txt": "的\n",
    "empty.txt": "",
}
ROWS_OF_A_CHILD = 20_100
"""So many rows that their index of words is built in a child process."""


def write_files(directory: Path) -> Path:
    for path, text in FILES.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("gbk" if "gbk" in path else "utf-8"))
    (directory / "large.txt").write_bytes(b"word\n" * (2 << 20))
    (directory.parent / "secret.txt").write_text("secret")
    (directory / "link.txt").symlink_to(directory.parent / "secret.txt")
    return directory


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that file resources may come from."""
    return write_files(tmp_path_factory.mktemp("outside") / "words")


@pytest.fixture(scope="module")
def shelf(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"MILVINE_FILERESOURCE_PATH": str(words), "MILVINE_AUDIT_ENABLED": "true"}
    with Server(tmp_path_factory.mktemp("shelf"), env=env).running() as server:
        yield server


@pytest.fixture(scope="module")
def reader(shelf: Server) -> Iterator[MilvusClient]:
    client = shelf.client()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _without_resources(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "reader" in request.fixturenames:
        client = request.getfixturevalue("reader")
        for resource in client.list_file_resources():
            client.remove_file_resource(resource.name)


def remote(name: str, file_name: str) -> dict[str, str]:
    return {"type": "remote", "resource_name": name, "file_name": file_name}


def with_stop_words(name: str, file_name: str = "words.txt") -> dict[str, Any]:
    return {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": remote(name, file_name)}]}


def listed(client: MilvusClient) -> dict[str, str]:
    return {one.name: one.path for one in client.list_file_resources()}


def test_resources_are_added_listed_and_removed(reader: MilvusClient) -> None:
    reader.add_file_resource("b", "stop/words.txt")
    reader.add_file_resource("a", "synonyms.txt")
    reader.add_file_resource("a", "synonyms.txt")
    assert listed(reader) == {"a": "synonyms.txt", "b": "stop/words.txt"}
    with pytest.raises(MilvusException, match="file resource a already exists: invalid parameter") as refused:
        reader.add_file_resource("a", "parts.txt")
    assert refused.value.code == 1100
    reader.remove_file_resource("a")
    reader.remove_file_resource("a")
    reader.add_file_resource("a", "parts.txt")
    assert listed(reader)["a"] == "parts.txt"


@pytest.mark.parametrize(
    ("name", "path", "code", "reason"),
    [
        ("", "parts.txt", 1101, "file resource name"),
        ("x", "", 1001, "Object name cannot be empty"),
        ("x", "none.txt", 1100, "file resource path not exist"),
        ("x", "stop", 1100, "file resource path not exist"),
        ("x", "link.txt", 1100, "file resource path not exist"),
        ("x", "../secret.txt", 1001, "it must be relative and without .."),
        ("x", "/etc/passwd", 1001, "it must be relative and without .."),
        ("x", "large.txt", 1100, "has 10485760 bytes, more than 8912896"),
        ("x" * 256, "parts.txt", 1100, "has 256 characters, more than 255"),
        ("x", "x" * 1025, 1100, "has 1025 characters, more than 1024"),
    ],
)
def test_a_bad_name_or_path_is_refused(
    shelf: Server, reader: MilvusClient, name: str, path: str, code: int, reason: str
) -> None:
    status = shelf.stub.AddFileResource(milvus_pb2.AddFileResourceRequest(name=name, path=path))
    assert (status.code, reason in status.reason) == (code, True), status
    assert not listed(reader)
    assert not list((shelf.data_dir / "file_resources").glob("*"))


def test_the_routes_do_the_same(shelf: Server, reader: MilvusClient) -> None:
    def post(action: str, **body: str) -> Any:
        uri = f"{shelf.uri}/v2/vectordb/file_resources/{action}"
        return requests.post(uri, json=body, headers={"Accept-Type-Allow-Int64": "true"}, timeout=30).json()

    assert post("add", name="a", path="synonyms.txt") == {"code": 0, "data": {}}
    found = post("list")["data"]
    assert [(one["name"], one["path"], type(one["id"])) for one in found] == [("a", "synonyms.txt", int)]
    assert post("add", name="a", path="parts.txt")["code"] == 1100
    assert post("add", name="b", path="none.txt")["message"] == "file resource path not exist: invalid parameter"
    assert [post("add", name="b")["code"], post("add", path="p")["code"], post("remove")["code"]] == [1802] * 3
    assert post("remove", name="a") == {"code": 0, "data": {}}
    assert listed(reader) == {}


def test_the_audit_log_names_the_resource_and_its_file(shelf: Server, reader: MilvusClient) -> None:
    reader.add_file_resource("audited", "parts.txt")
    body = {"name": "audited"}
    requests.post(f"{shelf.uri}/v2/vectordb/file_resources/remove", json=body, timeout=30).raise_for_status()
    lines = map(json.loads, (shelf.data_dir / "audit.log").read_text().splitlines())
    found = [(line["call"], line["on"]) for line in lines if line["on"].get("resource") == "audited"]
    assert found == [
        ("AddFileResource", {"resource": "audited", "file": "parts.txt"}),
        ("file_resources/remove", {"resource": "audited"}),
    ]


def test_without_a_place_for_files_the_refusal_names_the_setting(client: MilvusClient) -> None:
    with pytest.raises(MilvusException, match=r"fileResource\.path") as refused:
        client.add_file_resource("a", "synonyms.txt")
    assert refused.value.code == 1100
    assert client.list_file_resources() == []


@pytest.mark.parametrize(
    ("path", "params", "text", "tokens"),
    [
        ("stop/words.txt", with_stop_words("r"), "the fox a hen", ["fox", "hen"]),
        (
            "synonyms.txt",
            {"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms_file": remote("r", "synonyms.txt")}]},
            "fast car",
            ["fast", "quick", "car", "auto"],
        ),
        (
            "parts.txt",
            {"tokenizer": "standard", "filter": [{"type": "decompounder", "word_list_file": remote("r", "parts.txt")}]},
            "dampfschiff",
            ["dampf", "schiff"],
        ),
        (
            "jieba.txt",
            {"tokenizer": {"type": "jieba", "mode": "exact", "extra_dict_file": remote("r", "jieba.txt")}},
            "向量数据库和语义搜索",
            ["向量数据库", "和", "语义搜索"],
        ),
    ],
)
def test_an_analyzer_reads_its_words_from_a_resource(
    reader: MilvusClient, path: str, params: dict[str, Any], text: str, tokens: list[str]
) -> None:
    reader.add_file_resource("r", path)
    assert list(reader.run_analyzer(text, params).tokens) == tokens


def test_a_name_that_is_added_again_stands_for_the_new_words(reader: MilvusClient, words: Path) -> None:
    file = words / "changing.txt"
    params = with_stop_words("r", file.name)
    file.write_text("red\n")
    reader.add_file_resource("r", file.name)
    assert list(reader.run_analyzer("red blue", params).tokens) == ["blue"]
    file.write_text("blue\n")
    assert list(reader.run_analyzer("red blue", params).tokens) == ["blue"], "the outside file is read again"
    reader.remove_file_resource("r")
    with pytest.raises(MilvusException, match="file resource: r not found in local resource list"):
        reader.run_analyzer("red blue", params)
    reader.add_file_resource("r", file.name)
    assert list(reader.run_analyzer("red blue", params).tokens) == ["red"]


@pytest.mark.parametrize(
    ("path", "file", "reason"),
    [
        ("parts.txt", {"type": "local", "path": "/etc/passwd"}, "a local file (stop words dict file) is not supported"),
        ("parts.txt", {"type": "web"}, "unsupported file type web of stop words dict file"),
        ("parts.txt", {"path": "x"}, "file type of stop words dict file must be set"),
        ("parts.txt", {"type": "remote"}, "resource name of remote file `stop words dict file` must be set"),
        ("parts.txt", {"type": "remote", "resource_name": "r"}, "file name of remote file"),
        ("parts.txt", remote("r", "../parts.txt"), "is parts.txt, not ../parts.txt"),
        ("parts.txt", remote("other", "parts.txt"), "file resource: other not found in local resource list"),
        ("gbk.txt", remote("r", "gbk.txt"), "stream did not contain valid UTF-8"),
        ("empty.txt", remote("r", "empty.txt"), ""),
    ],
)
def test_wrong_parameters_of_a_file_are_refused_in_the_words_of_milvus(
    reader: MilvusClient, path: str, file: dict[str, str], reason: str
) -> None:
    reader.add_file_resource("r", path)
    params = {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": file}]}
    if not reason:
        assert list(reader.run_analyzer("the", params).tokens) == ["the"]
        return
    with pytest.raises(MilvusException) as refused:
        reader.run_analyzer("the", params)
    assert reason in refused.value.message


def test_the_files_of_an_analyzer_have_a_limit_together(reader: MilvusClient, words: Path) -> None:
    (words / "many.txt").write_bytes(b"word\n" * (1 << 20))
    reader.add_file_resource("r", "many.txt")
    several = {"type": "stop", "stop_words_file": remote("r", "many.txt")}
    with pytest.raises(MilvusException, match="the files of the analyzer have 10485824 bytes, more than 9437184"):
        reader.run_analyzer("the", {"tokenizer": "standard", "filter": [several, several]})


def test_a_frequency_that_is_no_number_is_refused(reader: MilvusClient) -> None:
    reader.add_file_resource("r", "bad_jieba.txt")
    params = {"tokenizer": {"type": "jieba", "extra_dict_file": remote("r", "bad_jieba.txt")}}
    with pytest.raises(MilvusException, match="frequency often is not a valid integer"):
        reader.run_analyzer("x", params)


def create(client: MilvusClient, name: str, params: dict[str, Any]) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    analyzed = {"enable_analyzer": True, "enable_match": True, "analyzer_params": params}
    schema.add_field("text", DataType.VARCHAR, max_length=100, **analyzed)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    indexes = client.prepare_index_params()
    indexes.add_index("sparse", index_type="AUTOINDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=indexes)


def test_a_resource_in_use_stays_until_its_collections_are_gone(reader: MilvusClient) -> None:
    reader.add_file_resource("r", "stop/words.txt")
    for name in ("one", "two"):
        create(reader, name, with_stop_words("r"))
    assert json.loads(reader.describe_collection("one")["fields"][1]["params"]["analyzer_params"]) == with_stop_words(
        "r"
    )
    for name, uses in (("one", 2), ("two", 1)):
        with pytest.raises(MilvusException, match=f"file resource r is still in use: {uses}: invalid parameter"):
            reader.remove_file_resource("r")
        reader.drop_collection(name)
    reader.remove_file_resource("r")
    with pytest.raises(MilvusException, match="file resource: r not found in local resource list"):
        create(reader, "three", with_stop_words("r"))
    assert reader.list_collections() == []


def wait_built(server: Server, count: int) -> None:
    """Until the one segment has so many index files; clients are not shown the index of a field's words."""
    deadline = time.monotonic() + 30
    while True:
        segments = read_catalog_of(server.data_dir).segments.values()
        if [sum(bool(built.file_name) for built in meta.indexes.values()) for (meta,) in segments] == [count]:
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def matched(client: MilvusClient, word: str) -> int:
    found = client.query("docs", filter=f"text_match(text, '{word}')", output_fields=["count(*)"])
    return int(found[0]["count(*)"])


def check_tells_damage(root: Path, copy: Path) -> None:
    """Damages the one copy, and repairs it."""
    content = copy.read_bytes()
    assert findings(root) == []
    copy.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert damages(root) == [f"{copy} does not match its checksum: data integrity check failed"]
    copy.unlink()
    assert damages(root) == [f"{copy} is missing: data integrity check failed"]
    copy.write_bytes(content)


def test_copies_outlive_restarts_crashes_and_the_outside_files(new_server: ServerFactory, tmp_path: Path) -> None:
    words = write_files(tmp_path / "outside")
    setting = {"MILVINE_FILERESOURCE_PATH": str(words)}
    dying = new_server(env={**setting, "MILVINE_CRASH_AT": "file_resource.copied"})
    with pytest.raises(grpc.RpcError):
        dying.stub.AddFileResource(milvus_pb2.AddFileResourceRequest(name="r", path="stop/words.txt"))
    assert dying.process.wait(20) == -signal.SIGKILL
    copies = dying.data_dir / "file_resources"
    assert len(list(copies.iterdir())) == 1
    assert ["is left over" in text for text in findings(dying.data_dir)] == [True]

    server = new_server(env=setting, data_dir=dying.data_dir)
    client = server.client()
    assert client.list_file_resources() == []
    assert list(copies.iterdir()) == []
    client.add_file_resource("r", "stop/words.txt")
    create(client, "docs", with_stop_words("r"))
    (words / "stop" / "words.txt").unlink()
    keys = range(ROWS_OF_A_CHILD)
    client.insert("docs", [{"id": key, "text": "the fox" if key % 100 == 0 else "a hen"} for key in keys])
    client.flush("docs")
    wait_built(server, 2)
    client.close()
    server.stop()
    check_tells_damage(server.data_dir, *copies.iterdir())

    again = new_server(data_dir=dying.data_dir, env={"MILVINE_CRASH_AT": "file_resource.removed"})
    client = again.client()
    client.insert("docs", [{"id": -1, "text": "the fox"}])
    assert (matched(client, "fox"), matched(client, "the"), matched(client, "a")) == (ROWS_OF_A_CHILD // 100 + 1, 0, 0)
    assert len(client.search("docs", ["the fox"], anns_field="sparse", limit=1000)[0]) == ROWS_OF_A_CHILD // 100 + 1
    assert client.search("docs", ["the"], anns_field="sparse", limit=1)[0] == []
    client.drop_collection("docs")
    with pytest.raises(grpc.RpcError):
        again.stub.RemoveFileResource(milvus_pb2.RemoveFileResourceRequest(name="r"))
    assert again.process.wait(20) == -signal.SIGKILL
    assert ["is left over" in text for text in findings(again.data_dir)] == [True]


def test_a_tree_model_in_a_resource_gives_rows_their_scores(
    reader: MilvusClient, words: Path, collection_name: str
) -> None:
    """NULL is a missing value. A search after the model was removed is refused."""
    (words / "ranks.ubj").write_bytes(ubj(model([stump(0, 2.5, 1.0, 4.0), stump(1, 5.0, 0.25, 0.5)], 2)))
    (words / "bad.ubj").write_bytes(b'{"learner":{}}')
    for name, path in (("ranks", "ranks.ubj"), ("bad", "bad.ubj"), ("parts", "parts.txt")):
        reader.add_file_resource(name, path)
    schema = reader.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("age", DataType.INT32, nullable=True)
    schema.add_field("price", DataType.DOUBLE)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    indexes = reader.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="IP")
    reader.create_collection(collection_name, schema=schema, index_params=indexes)
    ages = [1, 2, 3, None]
    rows = [{"id": i, "age": age, "price": 4.0 + i, "vector": [float(i), 0.0]} for i, age in enumerate(ages)]
    reader.insert(collection_name, rows[:2])
    reader.flush(collection_name)
    reader.insert(collection_name, rows[2:])

    def found(resource: str, *columns: str) -> dict[int, float]:
        model = fn.xgboost(*map(col, columns), model_resource=resource)
        chain = FunctionChain(FunctionChainStage.L0_RERANK, name="trees").map("$score", model)
        hits = reader.search(collection_name, [[0.0, 0.0]], limit=4, function_chains=chain)[0]
        return {hit["id"]: hit["distance"] for hit in hits}

    assert found("ranks", "age", "price") == {0: 1.75, 1: 2.0, 2: 5.0, 3: 2.0}
    for resource, columns, code, text in (
        ("ranks", ("age",), 1100, "expected 2 feature columns, got 1"),
        ("bad", ("age", "price"), 2000, r"failed to parse UBJ model.*segcoreCode=2042"),
        ("parts", ("age", "price"), 1100, 'file resource "parts" not found'),
    ):
        with pytest.raises(MilvusException, match=text) as refused:
            found(resource, *columns)
        assert refused.value.code == code
    reader.remove_file_resource("ranks")
    with pytest.raises(MilvusException, match='file resource "ranks" not found'):
        found("ranks", "age", "price")
    reader.drop_collection(collection_name)
