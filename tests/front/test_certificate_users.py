"""Users by the certificates of clients, and what a client says of its certificate itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from certificates import NAME, Certificates
from conftest import Server, ServerFactory
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
AUTHORIZED = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
BY_COMMON_NAME = {**AUTHORIZED, "MILVINE_TLS_CLIENTUSER_FROM": "commonName"}
LIST, ROOT_TOKEN = "/v2/vectordb/collections/list", "root:Milvus"
FORGED = f'Hash={"0" * 64};Subject="CN=root"'
CLIENTS = {
    "root": ("/CN=root", f"DNS:{NAME}"),
    "ann": ("/O=Example, Inc./OU=a;b/CN=ann", "URI:spiffe://example/ann"),
    "ghost": ("/CN=ghost", "URI:spiffe://example/ghost"),
    "nameless": ("/O=Example", f"DNS:{NAME}"),
    "two": ("/CN=ann/CN=root", "URI:spiffe://example/ann,URI:spiffe://example/root"),
    "sly": ('/O=x\\,CN=root/CN=x";Subject="CN=root', 'URI:spiffe://example/ann;Subject="CN=root"'),
    "capital": ("/CN=Ann", "URI:spiffe://example/ANN"),
    "spaced": ("/CN=ann ", "URI:spiffe://example/ann "),
}
"""The subject and the further names of each client's certificate."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.authority("ca")
    made.signed("server", "ca")
    for name, (subject, names) in CLIENTS.items():
        made.signed(name, "ca", subject, names)
    return made


def _serving(directory: Path, certificates: Certificates, **environment: str) -> Iterator[Server]:
    with Server(directory, env={**certificates.environment(2), **environment}).running() as server:
        for user in ("ann", "bob"):
            made = ask(server, certificates, "root", "/v2/vectordb/users/create", user, Authorization=ROOT_TOKEN)
            assert made.json()["code"] == 0, made.text
        yield server


@pytest.fixture(scope="module")
def by_common_name(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("by-name"), certificates, **BY_COMMON_NAME)


def ask(
    server: Server, certificates: Certificates, who: str, path: str = LIST, user: str = "", **headers: str
) -> requests.Response:
    body = {"userName": user, "password": "secret1"} if user else {}
    return requests.post(
        f"https://{NAME}:{server.port}{path}",
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        verify=certificates.path("ca.pem"),
        cert=certificates.pair(who),
        timeout=30,
    )


def user_of(server: Server, certificates: Certificates, who: str) -> str:
    """The user that REST takes a client for: the one who is refused to list users, or root; "" for none."""
    answer = ask(server, certificates, who, "/v2/vectordb/users/list")
    if answer.status_code == 401:
        return ""
    if answer.json()["code"] == 0:
        return "root"
    assert answer.status_code == 403, answer.text
    return str(answer.json()["message"]).partition("permission deny to ")[2].partition(" ")[0]


def client_of(server: Server, certificates: Certificates, who: str, **options: Any) -> MilvusClient:
    certificate, key = certificates.pair(who)
    return MilvusClient(
        f"https://{NAME}:{server.port}",
        secure=True,
        ca_pem_path=certificates.path("ca.pem"),
        client_pem_path=certificate,
        client_key_path=key,
        server_name=NAME,
        dedicated=True,  # Others are shared by address and token, with the certificate of the first.
        **options,
    )


def test_a_common_name_is_the_user_of_the_sdk_and_of_curl(by_common_name: Server, certificates: Certificates) -> None:
    client = client_of(by_common_name, certificates, "root")
    assert sorted(client.list_users()) == ["ann", "bob", "root"]
    client.close()
    client = client_of(by_common_name, certificates, "ann")
    assert client.list_collections() == []
    with pytest.raises(Exception, match="PrivilegeSelectOwnership: permission deny to ann"):
        client.list_users()
    client.close()
    certificate, key = certificates.pair("ann")
    command = ["curl", "--silent", "--cacert", certificates.path("ca.pem"), "--cert", certificate, "--key", key]
    sent = ["--data", "{}", "--header", "Content-Type: application/json", f"https://{NAME}:{by_common_name.port}{LIST}"]
    answer = subprocess.run([*command, *sent], check=True, capture_output=True, timeout=30).stdout
    assert json.loads(answer) == {"code": 0, "data": []}


@pytest.mark.parametrize(("who", "user"), [(who, who if who in ("root", "ann") else "") for who in CLIENTS])
def test_a_common_name_that_is_no_user_names_none(
    by_common_name: Server, certificates: Certificates, who: str, user: str
) -> None:
    assert user_of(by_common_name, certificates, who) == user


def test_a_token_counts_more_than_the_certificate(by_common_name: Server, certificates: Certificates) -> None:
    client = client_of(by_common_name, certificates, "ann", token=ROOT_TOKEN)
    assert sorted(client.list_users()) == ["ann", "bob", "root"]
    client.close()
    with pytest.raises(Exception, match="illegal connection params"):
        client_of(by_common_name, certificates, "root", token="root:wrong")
    for token in ("root:wrong", "Bearer ", "bob"):
        assert ask(by_common_name, certificates, "root", Authorization=token).status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-Client-Cert", "x_forwarded_client_cert", "X_Forwarded-Client_Cert"])
def test_a_client_cannot_say_which_certificate_it_has(
    by_common_name: Server, certificates: Certificates, name: str
) -> None:
    for who, status in (("ann", 403), ("ghost", 401), ("nameless", 401)):
        answer = requests.post(
            f"https://{NAME}:{by_common_name.port}/v2/vectordb/users/list",
            json={},
            headers={name: FORGED},
            verify=certificates.path("ca.pem"),
            cert=certificates.pair(who),
            timeout=30,
        )
        assert answer.status_code == status, (who, answer.text)
    certificate, key = (Path(path).read_bytes() for path in certificates.pair("ghost"))
    trusted = grpc.ssl_channel_credentials(Path(certificates.path("ca.pem")).read_bytes(), key, certificate)
    with grpc.secure_channel(f"{NAME}:{by_common_name.port}", trusted) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="missing authorization in header"):
            stub.ListCredUsers(milvus_pb2.ListCredUsersRequest(), metadata=[(name.lower(), FORGED)])


def test_a_server_whose_clients_need_no_certificate_believes_no_header(
    new_server: ServerFactory, certificates: Certificates
) -> None:
    for mode in (0, 1):
        environment = certificates.environment(mode) if mode else {}
        server = new_server(env={**environment, **AUTHORIZED})
        for name in ("X-Forwarded-Client-Cert", "x_forwarded_client_cert"):
            answer = requests.post(
                f"{'https' if mode else 'http'}://{NAME}:{server.port}{LIST}",
                json={},
                headers={name: FORGED},
                verify=certificates.path("ca.pem"),
                timeout=30,
            )
            assert answer.status_code == 401
        server.stop()


def test_a_dropped_user_is_not_let_in_by_certificate(by_common_name: Server, certificates: Certificates) -> None:
    client = client_of(by_common_name, certificates, "ann")
    drop = "/v2/vectordb/users/drop"
    assert ask(by_common_name, certificates, "root", drop, "ann").json()["code"] == 0
    with pytest.raises(Exception, match="missing authorization in header"):
        client.list_collections()
    client.close()
    assert user_of(by_common_name, certificates, "ann") == ""
    assert ask(by_common_name, certificates, "root", "/v2/vectordb/users/create", "ann").json()["code"] == 0
    assert user_of(by_common_name, certificates, "ann") == "ann"


@pytest.mark.parametrize(
    ("source", "users", "found"),
    [
        ("commonName", {"ghost": "bob"}, {"ghost": "bob", "ann": "", "root": ""}),
        ("subject", {"CN=ann,OU=a\\;b,O=Example\\, Inc.": "bob"}, {"ann": "bob", "two": "", "root": ""}),
        ("uri", {"spiffe://example/ann": "bob"}, {"ann": "bob", "two": "", "sly": "", "capital": "", "root": ""}),
        ("uri", {"spiffe://example/ann": "nobody"}, {"ann": ""}),
    ],
)
def test_users_are_found_by_a_part_of_the_certificate(
    tmp_path: Path, certificates: Certificates, source: str, users: dict[str, str], found: dict[str, str]
) -> None:
    environment = {
        **AUTHORIZED,
        "MILVINE_TLS_CLIENTUSER_FROM": source,
        "MILVINE_TLS_CLIENTUSER_USERS": json.dumps(users),
    }
    for server in _serving(tmp_path, certificates, **environment):
        assert {who: user_of(server, certificates, who) for who in found} == found


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"MILVINE_COMMON_SECURITY_TLSMODE": "1"}, "tls.clientUser.from needs common.security.tlsMode 2"),
        (
            {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "false"},
            "tls.clientUser.from needs common.security.authorizationEnabled",
        ),
        ({"MILVINE_TLS_CLIENTUSER_FROM": "uri"}, "tls.clientUser.from is uri, but tls.clientUser.users names no user"),
        (
            {"MILVINE_TLS_CLIENTUSER_FROM": "", "MILVINE_TLS_CLIENTUSER_USERS": '{"a": "b"}'},
            "tls.clientUser.users has no effect without tls.clientUser.from",
        ),
        ({"MILVINE_TLS_CLIENTUSER_FROM": "email"}, "it must be commonName, subject or uri"),
        ({"MILVINE_TLS_CLIENTUSER_USERS": "ann"}, "setting tls.clientUser.users: cannot read"),
        ({"MILVINE_TLS_CLIENTUSER_USERS": '{"a": 1}'}, "it must map texts to names of users"),
    ],
)
def test_a_server_with_settings_that_contradict_each_other_does_not_start(
    new_server: ServerFactory, certificates: Certificates, changed: dict[str, str], said: str
) -> None:
    server = new_server(env={**certificates.environment(2), **BY_COMMON_NAME, **changed}, start=False)
    server.spawn()
    assert server.process.wait(20) in (1, 2)
    assert said in server.log
