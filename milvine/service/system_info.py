"""The system information for Attu and the SDKs: Milvus's topology, with all roles in this process."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from milvine import MILVUS_VERSION
from milvine.config import machine_memory_bytes
from milvine.errors import MetricNotFound, ParameterInvalid
from milvine.model import json_text
from milvine.model.resource_groups import NODE_ID
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import for_every_user

SYSTEM_INFO = "system_info"
_FORWARD, _MANAGE = "forward", "manage"
_CONNECTED: dict[str, dict[str, str]] = {
    "proxy": dict.fromkeys(("rootcoord", "datanode", "datacoord", "querynode", "querycoord"), _FORWARD),
    "rootcoord": dict.fromkeys(("datacoord", "querycoord"), _FORWARD),
    "datacoord": {"rootcoord": _FORWARD, "querycoord": _FORWARD, "datanode": _MANAGE},
    "querycoord": {"rootcoord": _FORWARD, "datacoord": _FORWARD, "querynode": _MANAGE},
    "querynode": {},
    "datanode": {},
}
"""The connections of each role to others in Milvus. Attu lists the nodes of a coordinator by them."""
_started = time.time()


def component_name(role: str) -> str:
    return f"{role}{NODE_ID}"


@for_every_user()
def metrics(engine: Engine, context: RequestContext, request: str) -> dict[str, Any]:
    """The topology for `request`, JSON text with a `metric_type` (or `req_type`).

    Raises MetricNotFound for any type except system_info.
    """
    try:
        asked = json_text.loads(request)
    except json_text.NotJson:
        asked = None
    given = asked if isinstance(asked, dict) else {}
    metric_type = given.get("req_type", given.get("metric_type"))
    if metric_type is None:
        raise ParameterInvalid("metric_type or req_type not found in request")
    if metric_type != SYSTEM_INFO:
        raise MetricNotFound(json_text.plain_text(metric_type))
    details = hardware(engine)
    return {"nodes_info": [_node(engine, role, details) for role in _CONNECTED]}


def _node(engine: Engine, role: str, details: dict[str, Any]) -> dict[str, Any]:
    """A role. It never has an error, since Attu leaves out such roles; CheckHealth reports failures."""
    connected = [
        {"connected_identifier": NODE_ID, "type": how, "target_type": other} for other, how in _CONNECTED[role].items()
    ]
    infos = {
        "has_error": False,
        "error_reason": "",
        "name": component_name(role),
        "hardware_infos": details,
        "system_info": {
            "system_version": MILVUS_VERSION,
            "deploy_mode": "STANDALONE",
            "build_version": MILVUS_VERSION,
            "build_time": "",
            "used_go_version": "",
        },
        "created_time": _time_text(_started),
        "updated_time": _time_text(time.time()),
        "type": role,
        "id": NODE_ID,
        "system_configurations": _CONFIGURATIONS.get(role, {}),
        "quota_metrics": None,
    }
    return {"identifier": NODE_ID, "connected": connected, "infos": infos}


_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "proxy": {"default_partition_name": "_default", "default_index_name": "_default_idx"},
}


def _time_text(seconds: float) -> str:
    """As Go prints a time."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))


def hardware(engine: Engine) -> dict[str, Any]:
    """Sizes in bytes; CPU usage in percent of all cores over the last minute."""
    disk = shutil.disk_usage(engine.settings.data_dir)
    cores = os.cpu_count() or 1
    return {
        "ip": f"{engine.settings.host or '127.0.0.1'}:{engine.settings.port}",
        "cpu_core_count": cores,
        "cpu_core_usage": round(min(100.0, 100 * os.getloadavg()[0] / cores), 2),
        "memory": machine_memory_bytes(),
        "memory_usage": _resident_bytes(),
        "disk": disk.total,
        "disk_usage": disk.used,
        "io_wait_percentage": 0,
    }


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
