"""A server with query nodes in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from conftest import Node, Server, free_port

_SECONDS = 30.0


class ClusterOfNodes:
    """A head with a few nodes, which read the head's directory, or its object store."""

    def __init__(
        self,
        directory: Path,
        count: int,
        env: dict[str, str] | None = None,
        labels: Sequence[str] = (),
        head_env: dict[str, str] | None = None,
    ) -> None:
        """`labels`: one for each node, or none. `head_env`: of the head alone."""
        port = free_port()
        env = env or {}
        head_env = {"MILVINE_CLUSTER_PORT": str(port), **env, **(head_env or {})}
        self.head = Server(directory / "head", env=head_env, metrics_port=free_port())
        arguments: list[tuple[str, ...]] = [(f"--label={label}",) for label in labels] or [()] * count
        self.nodes = [Node(port, directory / f"node-{i}", *some, env=env) for i, some in enumerate(arguments)]

    def start(self) -> ClusterOfNodes:
        self.head.start()
        for node in self.nodes:
            node.start()
        self.wait_for_nodes(len(self.nodes))
        return self

    def wait_for_nodes(self, count: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while len(self.listed()) != count:
            assert time.monotonic() < deadline, (count, self.listed(), [node.log for node in self.nodes])
            time.sleep(0.05)

    def restart(self, node: Node) -> None:
        """Kills a node and starts it; returns when the head knows it in place of its predecessor."""
        node.kill()
        node.start()
        deadline = time.monotonic() + _SECONDS
        while {one["address"] for one in self.listed()} != {one.address for one in self.nodes}:
            assert time.monotonic() < deadline, (self.listed(), node.log)
            time.sleep(0.05)

    def listed(self) -> list[dict[str, Any]]:
        """The nodes as the head tells them."""
        answer = requests.post(f"{self.head.uri}/milvine/v1/memory", json={}, timeout=_SECONDS).json()
        found: list[dict[str, Any]] = answer["data"].get("nodes", [])
        return found

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
        self.head.close()
