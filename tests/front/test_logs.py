"""The log says when a server starts and stops, and what fails or takes long; its level can change while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from big_inserts import insert_message, make_plain, send
from conftest import Server, ServerFactory, free_port
from pymilvus import AnnSearchRequest, RRFRanker
from pymilvus.grpc_gen import milvus_pb2

JSON = {"MILVINE_LOG_FORMAT": "json"}
PATIENCE_SECONDS = 10.0


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def events(server: Server, message: str) -> list[dict[str, Any]]:
    """The events with this sentence, of a server that logs JSON."""
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [event for event in found if event["message"] == message]


def test_start_recovery_and_stop_are_logged(new_server: ServerFactory) -> None:
    server = new_server(env=JSON)
    make_plain(server, "books", 4)
    send(server, insert_message("books", 0, np.ones((10, 4), np.float32)))
    server.stop()
    server.start()
    server.stop()
    started, recovered, stopped = (events(server, name) for name in ("started", "recovered", "stopped"))
    assert [event["directory"] for event in started] == [str(server.data_dir)] * 2
    assert started[1]["address"] == server.address
    assert started[1]["on"] == []
    assert recovered[0]["collections"] == 0
    assert (recovered[1]["collections"], recovered[1]["to_load"]) == (1, 1)
    assert recovered[1]["growing_bytes"] > 0
    assert len(stopped) == 2
    assert not stopped[1]["abandoned_work"]


@pytest.fixture(scope="module")
def logging_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    env = JSON | {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    with Server(tmp_path_factory.mktemp("logging"), env=env).running() as server:
        yield server


ROOT = ("authorization", "root:Milvus")


def test_a_failed_rpc_is_logged_with_its_request_id(logging_server: Server) -> None:
    request = milvus_pb2.DescribeCollectionRequest(collection_name="no\nsuch")
    logging_server.stub.DescribeCollection(request, metadata=[ROOT, ("client-request-id", "mine-1")])
    event = until(lambda: [e for e in events(logging_server, "request failed") if e.get("request_id") == "mine-1"])[0]
    assert (event["protocol"], event["call"], event["user"]) == ("grpc", "DescribeCollection", "root")
    assert event["on"] == {"collection": "no\nsuch"}
    assert event["code"] != 0
    assert event["error"]
    assert event["level"] == "info"


def test_a_failed_rest_call_is_logged_with_the_trace_that_it_answers(logging_server: Server) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"Authorization": "Bearer root:Milvus", "client-request-id": trace}
    url = f"{logging_server.uri}/v2/vectordb/collections/describe"
    answer = requests.post(url, json={"collectionName": "nope"}, headers=headers, timeout=10)
    assert answer.headers["X-Milvus-Trace-Id"] == trace
    event = until(lambda: [e for e in events(logging_server, "request failed") if e.get("request_id") == trace])[0]
    assert (event["protocol"], event["code"]) == ("rest", answer.json()["code"])
    assert event["call"].endswith("collections/describe")


def test_a_failed_login_is_logged_without_the_password(logging_server: Server) -> None:
    url = f"{logging_server.uri}/v2/vectordb/collections/list"
    requests.post(url, json={}, headers={"Authorization": "Bearer root:let-me-in"}, timeout=10)
    event = until(lambda: events(logging_server, "login failed"))[0]
    assert (event["user"], event["level"]) == ("root", "warning")
    assert event["address"]
    assert "let-me-in" not in logging_server.log


def test_requests_that_succeed_quickly_are_not_logged(logging_server: Server) -> None:
    before = len(logging_server.log.splitlines())
    for _ in range(20):
        logging_server.stub.GetVersion(milvus_pb2.GetVersionRequest(), metadata=[ROOT])
    assert len(logging_server.log.splitlines()) == before


def test_a_slow_search_is_logged_with_its_plan(new_server: ServerFactory) -> None:
    server = new_server(env=JSON | {"MILVINE_PROXY_SLOWQUERYSPANINSECONDS": "0.000001"})
    make_plain(server, "books", 4)
    send(server, insert_message("books", 0, np.ones((10, 4), np.float32)))
    server.client().search("books", [[1.0] * 4], limit=3)
    event = until(lambda: [e for e in events(server, "slow request") if e["call"] == "Search"])[0]
    assert event["level"] == "warning"
    assert event["queries"] == 1
    assert event["ms"] > 0
    assert (event["segments"][0]["plan"], event["segments"][0]["rows"]) == ("scan", 10)
    parts = [AnnSearchRequest([[1.0] * 4], "vec", {}, 3) for _ in range(2)]
    server.client().hybrid_search("books", parts, RRFRanker(), limit=3)
    event = until(lambda: [e for e in events(server, "slow request") if e["call"] == "HybridSearch"])[0]
    assert event["queries"] == 2
    assert [(one["plan"], one["rows"]) for one in event["segments"]] == [("scan", 10)] * 2


def test_text_lines_cannot_be_forged(new_server: ServerFactory) -> None:
    server = new_server()
    forged = "x\n2026-01-31T12:00:00.000+00:00 ERROR forged: line"
    server.stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=forged))
    until(lambda: "request failed" in server.log)
    assert not any("ERROR forged" in line and line.startswith("2026-01-31") for line in server.log.splitlines())


def test_the_level_is_read_and_changed_as_in_milvus(new_server: ServerFactory) -> None:
    server = new_server(metrics_port=free_port())
    url = f"{server.metrics_uri}/log/level"
    assert requests.get(url, timeout=10).text == '{"level":"info"}\n'
    assert requests.put(url, json={"level": "error"}, timeout=10).text == '{"level":"error"}\n'
    server.stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name="quiet"))
    refused = requests.put(url, json={"level": "loud"}, timeout=10)
    assert (refused.status_code, refused.json()) == (400, {"error": 'unrecognized level: "loud"'})
    assert requests.put(url, data={"level": "warn"}, timeout=10).json() == {"level": "warn"}
    assert requests.put(url, json={"level": "info"}, timeout=10).json() == {"level": "info"}
    server.stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name="spoken"))
    until(lambda: "spoken" in server.log)
    assert "quiet" not in server.log


def test_the_level_needs_the_token_of_the_metrics(new_server: ServerFactory) -> None:
    server = new_server(metrics_port=free_port(), env={"MILVINE_METRICS_TOKEN": "t"})
    url = f"{server.metrics_uri}/log/level"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.put(url, json={"level": "error"}, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": "Bearer t"}, timeout=10).json() == {"level": "info"}


@pytest.mark.one_process("the call that sets the number of replicas is logged, too")
def test_the_access_log_has_a_line_for_each_request(new_server: ServerFactory) -> None:
    env = {"MILVINE_PROXY_ACCESSLOG_ENABLE": "true", "MILVINE_PROXY_ACCESSLOG_FILENAME": "access.log"}
    server = new_server(env=env)
    server.stub.GetVersion(milvus_pb2.GetVersionRequest())
    server.stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name="nope"))
    file = server.data_dir / "access.log"
    lines = until(lambda: file.exists() and len(file.read_text().splitlines()) >= 2 and file.read_text().splitlines())
    assert "[ACCESS] <Unknown: Unknown> GetVersion [status: Successful] [code: 0]" in lines[0]
    assert "DescribeCollection [status: Failed]" in lines[1]
    assert "[collection: nope]" in lines[1]


def test_milvus_names_of_metrics_count_what_ours_count(new_server: ServerFactory) -> None:
    server = new_server(metrics_port=free_port())
    make_plain(server, "books", 4)
    send(server, insert_message("books", 0, np.ones((10, 4), np.float32)))
    server.stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name="nope"))
    text = requests.get(f"{server.metrics_uri}/metrics", timeout=10).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("milvus_"))
    assert float(values['milvus_rootcoord_collection_num{node_id="1"}']) == 1
    assert float(values['milvus_proxy_insert_vectors_count{node_id="1"}']) == 10
    failed = 'milvus_proxy_req_count{function_name="DescribeCollection",node_id="1",status="fail"}'
    assert float(values[failed]) == 1
    slowest = 'milvus_proxy_req_latency_bucket{function_name="Insert",le="+Inf",node_id="1"}'
    assert float(values[slowest]) == 1
