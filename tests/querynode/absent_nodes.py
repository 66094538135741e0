"""Query nodes that nobody runs, for tests of what the head knows of its nodes."""

from __future__ import annotations

from typing import Any

from milvine.querynode.remote.remote_node import RemoteNode, Report
from milvine.querynode.remote.rpc import RpcChannel


def absent_node(node_id: int) -> RemoteNode:
    numbers: dict[str, Any] = {"limit_bytes": 1, "held_bytes": 0, "mapped_bytes": 0, "epoch": 1, "session": 2}
    report = Report(key=f"k{node_id}", address="127.0.0.1:1", hostname="h", segments={}, labels={}, **numbers)
    return RemoteNode(node_id, report, RpcChannel(report.address, None), 1, node_id)
