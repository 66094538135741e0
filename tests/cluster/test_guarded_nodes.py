"""Query nodes over an object store, with certificates: what they read, and whom they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from certificates import Certificates
from conftest import HOST
from node_processes import ClusterOfNodes
from object_servers import ObjectServer
from stored_rows import ROWS, answers, fill

from milvine.errors import UnexpectedError
from milvine.querynode.node import SegmentNotHeld
from milvine.querynode.remote.messages import codec, decode_result
from milvine.querynode.remote.process import check_is_guarded
from milvine.querynode.remote.rpc import Certificates as Pair
from milvine.querynode.remote.rpc import RpcChannel, Unreachable
from milvine.storage.files import walk_files

NAME = "guarded"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    for authority, name in (("ca", "internal"), ("other", "stranger")):
        made.authority(authority)
        made.signed(name, authority)
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[ClusterOfNodes]:
    objects = ObjectServer(tmp_path_factory.mktemp("objects"))
    pem, key = certificates.pair("internal")
    env = {
        **objects.environment(NAME),
        "MILVINE_STORE_REMOVAL_SECONDS": "600",
        "MILVINE_INTERNALTLS_CAPEMPATH": certificates.path("ca.pem"),
        "MILVINE_INTERNALTLS_SERVERPEMPATH": pem,
        "MILVINE_INTERNALTLS_SERVERKEYPATH": key,
    }
    started = ClusterOfNodes(tmp_path_factory.mktemp("cluster"), 1, env)
    try:
        yield started.start()
    finally:
        started.close()
        objects.stop()


def channel_of(cluster: ClusterOfNodes, certificates: Certificates, authority: str, name: str) -> RpcChannel:
    pem, key = certificates.pair(name)
    address = cluster.listed()[0]["address"]
    return RpcChannel(address, Pair(certificates.path(f"{authority}.pem"), pem, key, ""))


def called(channel: RpcChannel, epoch: int) -> Any:
    try:
        return decode_result(channel.call("discard", codec.encode((epoch, 1, 1, 1)), 5.0))
    finally:
        channel.close()


def test_a_node_fetches_segments_from_the_store_into_its_own_directory(cluster: ClusterOfNodes) -> None:
    client = cluster.head.client()
    fill(client, NAME)
    nearest, count = answers(client, NAME)
    assert count[0]["count(*)"] == ROWS - 10
    assert len(nearest[0]) == 5
    node = cluster.listed()[0]
    assert node["measuredBytes"] > 0
    assert [set(one.node_ids) for one in client.list_loaded_segments(NAME)] == [{node["nodeId"]}]
    copies = {path.suffix for path in walk_files(cluster.nodes[0].directory / "segments")}
    assert {".seg", ".col", ".index"} <= copies
    client.close()


def test_only_certificates_of_the_authority_are_taken(cluster: ClusterOfNodes, certificates: Certificates) -> None:
    with pytest.raises(Unreachable):
        called(channel_of(cluster, certificates, "ca", "stranger"), 2**62)
    with pytest.raises(Unreachable):
        called(channel_of(cluster, certificates, "other", "internal"), 2**62)
    with pytest.raises(Unreachable):
        called(RpcChannel(cluster.listed()[0]["address"], None), 2**62)


def test_an_older_head_and_an_ended_session_are_refused(cluster: ClusterOfNodes, certificates: Certificates) -> None:
    with pytest.raises(UnexpectedError, match="the head of epoch 1 was replaced"):
        called(channel_of(cluster, certificates, "ca", "internal"), 1)
    with pytest.raises(SegmentNotHeld, match="has ended"):
        called(channel_of(cluster, certificates, "ca", "internal"), 2**62)


def test_without_certificates_only_loopback_is_used() -> None:
    check_is_guarded(HOST, None)
    with pytest.raises(UnexpectedError, match="internaltls"):
        check_is_guarded("0.0.0.0", None)
