"""TLS on the one port, with certificates made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from certificates import NAME, Certificates
from conftest import Server, ServerFactory
from pymilvus import MilvusClient, MilvusException

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    for authority in ("ca", "strangers_ca"):
        made.authority(authority)
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "strangers_ca")):
        made.signed(name, authority)
    return made


def _serving(directory: Path, certificates: Certificates, mode: int) -> Iterator[Server]:
    with Server(directory, env=certificates.environment(mode)).running() as server:
        yield server


@pytest.fixture(scope="module")
def one_way(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("one-way"), certificates, 1)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Server]:
    yield from _serving(tmp_path_factory.mktemp("mutual"), certificates, 2)


def _uri(server: Server) -> str:
    return f"https://{NAME}:{server.port}"


def _list(server: Server, **options: object) -> requests.Response:
    return requests.post(f"{_uri(server)}/v2/vectordb/collections/list", json={}, timeout=5, **options)  # type: ignore[arg-type]


def test_the_sdk_trusts_the_servers_certificate(one_way: Server, certificates: Certificates) -> None:
    client = MilvusClient(_uri(one_way), secure=True, server_pem_path=certificates.path("server.pem"), server_name=NAME)
    client.create_collection("c", dimension=2)
    client.insert("c", [{"id": 1, "vector": [1, 2]}])
    assert client.search("c", [[1, 2]], limit=1, consistency_level="Strong")[0][0]["id"] == 1
    client.drop_collection("c")
    client.close()


def test_rest_is_served_over_tls(one_way: Server, certificates: Certificates) -> None:
    assert _list(one_way, verify=certificates.path("ca.pem")).json() == {"code": 0, "data": []}
    with pytest.raises(requests.exceptions.SSLError):
        _list(one_way, verify=certificates.path("strangers_ca.pem"))


def test_a_tls_port_serves_no_plaintext(one_way: Server) -> None:
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.post(f"http://127.0.0.1:{one_way.port}/v2/vectordb/collections/list", json={}, timeout=5)
    with pytest.raises(MilvusException):
        MilvusClient(one_way.uri, timeout=2)


def test_mutual_tls_accepts_a_client_with_a_certificate(mutual: Server, certificates: Certificates) -> None:
    client = MilvusClient(
        _uri(mutual),
        secure=True,
        ca_pem_path=certificates.path("ca.pem"),
        client_pem_path=certificates.path("client.pem"),
        client_key_path=certificates.path("client.key"),
        server_name=NAME,
    )
    assert client.list_collections() == []
    client.close()
    assert _list(mutual, verify=certificates.path("ca.pem"), cert=certificates.pair("client")).json() == {
        "code": 0,
        "data": [],
    }


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_mutual_tls_refuses_other_clients(mutual: Server, certificates: Certificates, who: str) -> None:
    options: dict[str, object] = {"verify": certificates.path("ca.pem")}
    if who == "stranger":
        options["cert"] = certificates.pair("stranger")
    with pytest.raises(requests.exceptions.ConnectionError):
        _list(mutual, **options)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"MILVINE_TLS_SERVERPEMPATH": ""}, "common.security.tlsMode is 2, but tls.serverPemPath is not set"),
        ({"MILVINE_TLS_CAPEMPATH": "/nowhere/ca.pem"}, "tls.caPemPath: cannot read /nowhere/ca.pem"),
        ({"MILVINE_TLS_SERVERKEYPATH": "stranger.key"}, "cannot be used together"),
        (
            {"MILVINE_COMMON_SECURITY_TLSMODE": "3"},
            "setting common.security.tlsMode: cannot read '3': it must be 0, 1 or 2",
        ),
    ],
)
def test_a_server_with_unusable_certificates_does_not_start_and_says_why(
    new_server: ServerFactory, certificates: Certificates, changed: dict[str, str], said: str
) -> None:
    found = {k: certificates.path(v) if v == "stranger.key" else v for k, v in changed.items()}
    server = new_server(env={**certificates.environment(2), **found}, start=False)
    server.spawn()
    assert server.process.wait(20) == 1
    assert said in server.log


def test_the_command_line_shows_its_certificate(
    mutual: Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "milvine", "collections", "--json", "--uri", _uri(mutual)]

    def ran() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    monkeypatch.setenv("SSL_CERT_FILE", certificates.path("ca.pem"))
    refused = ran()
    assert refused.returncode == 1
    assert (
        "; if the server wants its clients' certificates, MILVINE_CLIENT_PEM and MILVINE_CLIENT_KEY " in refused.stderr
    )
    certificate, key = certificates.pair("client")
    monkeypatch.setenv("MILVINE_CLIENT_PEM", certificate)
    monkeypatch.setenv("MILVINE_CLIENT_KEY", certificates.path("server.key"))
    assert ran().stderr.startswith(f"milvine: MILVINE_CLIENT_PEM and MILVINE_CLIENT_KEY: cannot use {certificate} and ")
    monkeypatch.setenv("MILVINE_CLIENT_KEY", key)
    assert (done := ran()).returncode == 0, done.stderr
    both = certificates.directory / "both.pem"
    both.write_text(Path(certificate).read_text() + Path(key).read_text())
    monkeypatch.setenv("MILVINE_CLIENT_PEM", str(both))
    monkeypatch.delenv("MILVINE_CLIENT_KEY")
    assert (done := ran()).returncode == 0, done.stderr
