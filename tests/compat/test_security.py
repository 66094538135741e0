"""What docs/security.md promises: tokens, what a new password ends, the audit log, metrics, weak defaults."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from conftest import Server, free_port
from grpc_calls import assert_ok
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import c1_rows, make_c1

from milvine.catalog import users as changes
from milvine.config import load_settings
from milvine.model.users import Caller
from milvine.server import build_engine
from milvine.service import passwords
from milvine.service.admin import check_health
from milvine.service.context import ROOT, Engine, RequestContext
from milvine.service.users import authenticate, create_user, drop_user, update_user

WRONG_PASSWORD = "auth check failure, please check username and password are correct"
SECRETS = ("Milvus", "sesame-77", "opened-88")
VECTOR = [0.123456789, 0.0, 0.0, 0.0]


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with users, an audit log of small files and a token for its metrics."""
    environment = {
        "MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true",
        "MILVINE_AUDIT_ENABLED": "true",
        "MILVINE_AUDIT_MAXBYTES": "20000",
        "MILVINE_AUDIT_FILES": "3",
        "MILVINE_METRICS_TOKEN": "let-me-see",
    }
    with Server(tmp_path_factory.mktemp("secured"), env=environment, metrics_port=free_port()).running() as server:
        yield server


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that throttles logins after the attacks on it."""
    environment = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    with Server(tmp_path_factory.mktemp("attacked"), env=environment).running() as server:
        yield server


def _audit_text(server: Server) -> str:
    files = sorted(server.data_dir.glob("audit.log*"), key=lambda path: path.stat().st_mtime)
    return "".join(path.read_text() for path in files)


def _entries(server: Server, call: str, **values: Any) -> list[dict[str, Any]]:
    """Entries with these values. Waits for one: an answer may reach the client before it is logged."""
    wanted = {"call": call, **values}
    deadline = time.monotonic() + 20
    while True:
        lines = map(json.loads, _audit_text(server).splitlines())
        found = [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _grpc_refusal(server: Server, authorization: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        server.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=[("authorization", authorization)])
    return refused.value.code(), refused.value.details() or ""


MALFORMED = {
    "empty": ("", "invalid token format|check api key"),
    "no separator": (encoded("root"), "check api key"),
    "not base64": ("%%%", "invalid token format"),
    "base64 without padding": (encoded("root:Milvus").rstrip("="), "invalid token format"),
    "only a separator": (encoded(":"), "check username"),
    "no name": (encoded(":Milvus"), "check username"),
    "no password": (encoded("root:"), "check username"),
    "name in another case": (encoded("ROOT:Milvus"), "check username"),
    "password in another case": (encoded("root:milvus"), "check username"),
    "a space after the name": (encoded("root :Milvus"), "check username"),
    "a zero byte": (encoded("root\0:Milvus"), "check username"),
    "bytes that are no text": (encoded(b"\xff\xfe:\xff"), "check username"),
    "twice encoded": (encoded(encoded("root:Milvus")), "check api key"),
    "a third part": (encoded("root:Milvus:more"), "check username"),
    "a long password": (encoded("root:" + "x" * 20_000), "check username"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_token_is_refused_by_both_protocols(attacked: Server, case: str) -> None:
    token, text = MALFORMED[case]
    code, details = _grpc_refusal(attacked, token)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert any(part in details for part in text.split("|")), details
    for header in (f"Basic {token}", f"Bearer {token}", token):
        answer = requests.post(
            f"{attacked.uri}/v2/vectordb/databases/list", json={}, headers={"Authorization": header}, timeout=30
        )
        assert (answer.status_code, answer.json()["code"]) == (401, 1800), header
    assert attacked.process.poll() is None


def test_a_token_of_a_megabyte_is_refused_and_costs_the_server_nothing(attacked: Server) -> None:
    huge = "root:" + "x" * 1_000_000
    try:
        answer = requests.post(
            f"{attacked.uri}/v2/vectordb/databases/list", headers={"Authorization": huge}, json={}, timeout=30
        )
        assert answer.status_code in (401, 431)
    except requests.ConnectionError:
        pass  # The front may close the connection instead of reading on.
    with pytest.raises(grpc.RpcError):
        attacked.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), metadata=[("authorization", huge)], timeout=30)
    assert requests.get(f"{attacked.uri}/healthz", timeout=30).status_code == 200


def test_a_new_password_ends_what_the_old_one_opened(guarded: Server) -> None:
    root = guarded.client(token="root:Milvus")
    root.create_user("alice", "sesame-77")
    root.grant_role("alice", "admin")
    opened = guarded.client(token="alice:sesame-77")
    make_c1(opened, "alices", load=True)
    opened.insert("alices", c1_rows(30))
    pages = opened.query_iterator("alices", batch_size=10, output_fields=["id"])
    assert len(pages.next()) == 10
    root.update_password("alice", "sesame-77", "opened-88")
    with pytest.raises(Exception, match="auth check failure"):
        pages.next()
    with pytest.raises(Exception, match="auth check failure"):
        opened.list_collections()
    assert guarded.client(token="alice:opened-88").has_collection("alices")


def test_a_new_password_ends_calls_on_open_connections_within_a_second(guarded: Server) -> None:
    """Traffic with the old password over a gRPC channel, a REST session and both kinds of iterators goes on."""
    root = guarded.client(token="root:Milvus")
    root.create_user("dora", "sesame-77")
    root.grant_role("dora", "admin")
    make_c1(root, "doras", load=True)
    root.insert("doras", c1_rows(30))
    opened = guarded.client(token="dora:sesame-77")
    rest = requests.Session()
    rest.headers["Authorization"] = "Bearer dora:sesame-77"
    channel = {"metadata": [("authorization", encoded("dora:sesame-77"))]}
    searches = opened.search_iterator("doras", [VECTOR], batch_size=5, limit=30, anns_field="vec")
    queries = opened.query_iterator("doras", batch_size=5, output_fields=["id"])
    assert len(searches.next()) == len(queries.next()) == 5

    def goes_on() -> dict[str, bool]:
        answer = rest.post(f"{guarded.uri}/v2/vectordb/databases/list", json={}, timeout=30)
        try:
            guarded.stub.ListDatabases(milvus_pb2.ListDatabasesRequest(), **channel)
        except grpc.RpcError:
            return {"rest": answer.status_code == 200, "grpc": False}
        return {"rest": answer.status_code == 200, "grpc": True}

    assert goes_on() == {"rest": True, "grpc": True}
    done = threading.Event()
    last = {"rest": 0.0, "grpc": 0.0}

    def traffic() -> None:
        while not done.is_set():
            begun = time.monotonic()
            last.update({name: begun for name, is_served in goes_on().items() if is_served})

    caller = threading.Thread(target=traffic)
    caller.start()
    try:
        time.sleep(0.3)
        root.update_password("dora", "sesame-77", "opened-88")
        changed = time.monotonic()
        for pages in (searches, queries):
            with pytest.raises(Exception, match="auth check failure"):
                pages.next()
        time.sleep(1.2)
    finally:
        done.set()
        caller.join(30)
    assert max(last.values()) < changed + 1.0
    assert goes_on() == {"rest": False, "grpc": False}
    assert opened.close() is None
    root.close()


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_password_that_ends_while_it_is_verified_lets_in_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dropped: bool
) -> None:
    engine = _engine(tmp_path, MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED="true")
    root = RequestContext(caller=Caller(ROOT))
    matches = passwords._matches

    def end() -> None:
        if is_dropped:
            drop_user(engine, root, "ann")
        else:
            changes.update_user(engine.catalog, "ann", passwords.hash_password("opened-88"), None)

    def slowly(password: str, stored: str) -> bool:
        is_right = matches(password, stored)
        if is_right:
            end()
        return is_right

    try:
        create_user(engine, root, "ann", "sesame-77")
        monkeypatch.setattr(passwords, "_matches", slowly)
        assert not authenticate(engine, "ann", "sesame-77")
        monkeypatch.setattr(passwords, "_matches", matches)
        assert not authenticate(engine, "ann", "sesame-77")
        assert authenticate(engine, "ann", "opened-88") is not is_dropped
    finally:
        assert engine.close(time.monotonic() + 60)


def _raw_status(server: Server, *headers: tuple[str, bytes]) -> int:
    """The status of a request with these headers, as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v2/vectordb/databases/list")
    for name, value in (("Content-Length", b"2"), ("Content-Type", b"application/json"), *headers):
        connection.putheader(name, value)
    connection.endheaders(b"{}")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", b"bearer root:Milvus")],
        [("Authorization", b"BEARER root:Milvus")],
        [("Authorization", b"Bearer  root:Milvus")],
        [("Authorization", b"Bearer\troot:Milvus")],
        [("Authorization", b"Bearer Bearer root:Milvus")],
        [("Authorization", b"Bearer root:Milvus"), ("Authorization", b"Bearer ann:guess")],
        [("Authorization", b"Bearer ann:guess"), ("Authorization", b"Bearer root:Milvus")],
        [("Authorization", b"Bearer root:Milvus\xff")],
        [("Authorization", b"Bearer \xff\xfe")],
        [("Authorization", b"Basic \xff\xfe")],
        [("Authorization", b"Basic " + base64.b64encode(b"\xff:\xfe"))],
        [("Authorization_", b"Bearer root:Milvus")],
        [("HTTP_AUTHORIZATION", b"Bearer root:Milvus")],
        [("Proxy-Authorization", b"Bearer root:Milvus")],
        [("Token", b"root:Milvus")],
    ],
)
def test_a_header_that_is_nearly_right_is_refused(attacked: Server, headers: list[tuple[str, bytes]]) -> None:
    assert _raw_status(attacked, *headers) in (400, 401)


def test_the_audit_log_says_who_did_what_from_where_with_which_result(guarded: Server) -> None:
    root = guarded.client(token="root:Milvus")
    make_c1(root, "audited", load=True)
    root.search("audited", [VECTOR], limit=1, anns_field="vec", filter="a in [424242]")
    with pytest.raises(Exception, match="find collection"):
        root.describe_collection("no_such_one")
    created = _entries(guarded, "CreateCollection", on={"collection": "audited"})[-1]
    assert {**created, "time": "", "address": ""} == {
        "time": "",
        "protocol": "grpc",
        "call": "CreateCollection",
        "user": "root",
        "address": "",
        "database": "default",
        "on": {"collection": "audited"},
        "code": 0,
    }
    ipaddress.ip_address(created["address"])
    assert any(
        e["code"] == 100 and e["on"]["collection"] == "no_such_one"
        for e in _entries(guarded, "DescribeCollection", code=100)
    )
    _grpc_refusal(guarded, encoded("mallory:guess"))
    refused = _entries(guarded, "ListDatabases", claimedUser="mallory")
    assert [e["code"] for e in refused] == [-16]
    answer = requests.post(
        f"{guarded.uri}/v2/vectordb/users/list", json={}, headers={"Authorization": "Bearer root:Milvus"}, timeout=30
    )
    assert answer.json()["code"] == 0
    assert _entries(guarded, "users/list")[-1]["user"] == "root"


def test_the_audit_log_holds_no_secret_no_vector_and_no_filter_and_is_private(guarded: Server) -> None:
    root = guarded.client(token="root:Milvus")
    root.create_user("bob", "sesame-77")
    make_c1(root, "secretive", load=True)
    root.search("secretive", [VECTOR], limit=1, anns_field="vec", filter="a in [424242]")
    assert _entries(guarded, "Search")
    text = _audit_text(guarded)
    for secret in (*SECRETS, "0.12345", "424242", *(encoded(s) for s in SECRETS)):
        assert secret not in text
    for path in guarded.data_dir.glob("audit.log*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_audit_log_names_what_was_granted_to_whom(guarded: Server) -> None:
    root = guarded.client(token="root:Milvus")
    root.create_role("reader")
    root.create_user("carl", "sesame-77")
    root.grant_role("carl", "reader")
    root.grant_privilege_v2("reader", "Search", "granted", "default")
    headers = {"Authorization": "Bearer root:Milvus"}
    rest = f"{guarded.uri}/v2/vectordb/roles/revoke_privilege_v2"
    body = {"ROLENAME": "reader", "Privilege": "Search", "collectionname": "granted", "dbName": "default"}
    assert requests.post(rest, json=body, headers=headers, timeout=30).json()["code"] == 0
    on = {"collection": "granted", "role": "reader", "privilege": "Search"}
    assert _entries(guarded, "CreateRole", on={"role": "reader"})
    assert _entries(guarded, "OperateUserRole", on={"user": "carl", "role": "reader"})
    assert _entries(guarded, "OperatePrivilegeV2", on=on)
    assert _entries(guarded, "roles/revoke_privilege_v2", on=on)
    root.close()


def test_the_audit_log_bounds_what_a_caller_sends(guarded: Server) -> None:
    names = [f"{number}-{'x' * 1000}" for number in range(1000)]
    request = milvus_pb2.ShowCollectionsRequest(collection_names=names)
    guarded.stub.ShowCollections(request, metadata=[("authorization", encoded("root:Milvus"))])
    (entry,) = _entries(guarded, "ShowCollections", on={"collection": [name[:256] for name in names[:16]]})
    assert entry["user"] == "root"
    headers = {"Authorization": "Bearer root:Milvus"}
    answer = requests.post(f"{guarded.uri}/v2/vectordb/aliases/list", data=b"no json", headers=headers, timeout=30)
    assert answer.json()["code"] == 1801
    assert _entries(guarded, "aliases/list", code=1801, user="root")[-1]["on"] == {}


def test_the_audit_log_is_rotated_and_its_oldest_files_removed(guarded: Server) -> None:
    root = guarded.client(token="root:Milvus")
    for _ in range(400):
        root.list_databases()
    files = list(guarded.data_dir.glob("audit.log*"))
    assert len(files) == 3
    assert all(path.stat().st_size <= 21_000 for path in files)


def test_metrics_need_their_token_on_both_ports_and_health_pages_none(guarded: Server) -> None:
    for uri in (guarded.uri, guarded.metrics_uri):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer Let-me-see"}):
            assert requests.get(f"{uri}/metrics", headers=headers, timeout=30).status_code == 401
        shown = requests.get(f"{uri}/metrics", headers={"Authorization": "Bearer let-me-see"}, timeout=30)
        assert (shown.status_code, "milvine_requests_total" in shown.text) == (200, True)
        assert requests.get(f"{uri}/healthz", timeout=30).status_code == 200


def _engine(directory: Path, **environment: str) -> Engine:
    """Of a server that other machines could reach, were it to listen."""
    return build_engine(load_settings({"data_dir": str(directory), "host": "0.0.0.0"}, environment, None))


def test_a_default_root_password_on_a_reachable_address_is_warned_of_until_it_is_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = _engine(tmp_path, MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED="true")
    try:
        root = RequestContext(caller=Caller(ROOT))
        healthy, reasons = check_health(engine, root)
        assert healthy
        assert reasons == [
            "root has the default password, and the server can be reached from other machines: change it"
        ]
        assert reasons[0] in caplog.text
        update_user(engine, root, ROOT, "Milvus", "sesame-77")
        assert check_health(engine, root) == (True, [])
    finally:
        assert engine.close(time.monotonic() + 60)


def test_a_reachable_address_without_authorization_is_warned_of_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = _engine(tmp_path)
    assert engine.close(time.monotonic() + 60)
    assert "everyone who reaches it may do everything" in caplog.text


def test_health_on_loopback_has_no_warnings(guarded: Server) -> None:
    found = assert_ok(
        guarded.stub.CheckHealth(milvus_pb2.CheckHealthRequest(), metadata=[("authorization", encoded("root:Milvus"))])
    )
    assert list(found.reasons) == []
