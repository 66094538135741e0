"""`make demo-cluster-ray`: the demo of a cluster whose nodes Ray starts, on two machines that are namespaces here.

Everything runs in a cage without networks, since Ray listens on all addresses; whatever is left ends with it. It needs
root, and Ray.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import main
from demo_cluster import NODES, ClusterDemo
from node_processes import ClusterOfNodes
from object_servers import ObjectServer
from ray_machines import CAGED, HEAD, RayCluster, RayHead, caged


class RayDemo(ClusterDemo):
    nodes_are = "nodes that Ray has started on two machines"
    seconds = 90.0
    machines: RayCluster | None = None

    def object_server(self, directory: Path, kind: str) -> ObjectServer:
        self.ray = RayHead(directory)
        return ObjectServer(directory, kind, HEAD)

    def make(self, directory: Path, environment: dict[str, str]) -> ClusterOfNodes:
        self.machines = RayCluster(directory, self.ray, ['{"milvine": 1, "milvine_tasks": 1}'] * NODES, environment)
        return self.machines

    @property
    def parts_to_harm(self) -> Sequence[Any]:
        return [] if self.machines is None else self.machines.machines


if __name__ == "__main__":
    if CAGED in os.environ:
        sys.exit(main(RayDemo))
    if os.geteuid() != 0 or importlib.util.find_spec("ray") is None:
        sys.exit("demo-cluster-ray needs root, for namespaces, and Ray: pip install 'milvine[cluster]'")
    sys.exit(subprocess.run(caged(sys.executable, *sys.argv), env={**os.environ, CAGED: "1"}, check=False).returncode)
