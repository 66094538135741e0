"""The files in deploy/ use settings, options, metrics and ports that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from milvine import __version__, metrics
from milvine.cli import _parser
from milvine.config import load_settings
from milvine.querynode.remote.ray_cluster import RESOURCE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def _last(name: str) -> str:
    return [text for instruction, text in _instructions() if instruction == name][-1]


def test_the_image_runs_a_command_that_exists_as_another_user() -> None:
    parsed = _parser().parse_args(json.loads(_last("CMD")))
    assert json.loads(_last("ENTRYPOINT")) == ["milvine"]
    assert (parsed.command, parsed.data_dir, parsed.host) == ("serve", _last("VOLUME"), "0.0.0.0")
    assert _last("USER") == "milvine"
    order = [instruction for instruction, _ in _instructions()]
    assert order.count("FROM") == 2
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_the_image_exposes_and_asks_the_ports_of_the_settings() -> None:
    settings = load_settings({}, {}, None)
    assert _last("EXPOSE").split() == [str(settings.port), str(settings.metrics_port)]
    assert f"http://127.0.0.1:{settings.metrics_port}/healthz" in _last("HEALTHCHECK")


def test_the_image_copies_what_the_package_is_made_of() -> None:
    sources = [
        name for kind, text in _instructions() if kind == "COPY" and "--from" not in text for name in text.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in sources)
    assert {"milvine", "pyproject.toml", "LICENSE", "NOTICE", "README.md"} == set(sources)


@pytest.fixture
def service() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["milvine"]


def test_the_settings_of_image_and_compose_file_exist(service: Any) -> None:
    given = {name: "secret-1" if "PASSWORD" in name else value for name, value in service["environment"].items()}
    of_image = dict(re.findall(r"(MILVINE_\w+)=(\S+)", _last("ENV")))
    settings = load_settings({}, given | of_image, None)
    assert settings.authorization_enabled
    assert settings.default_root_password == "secret-1"
    assert settings.log_format == "json"
    read = load_settings({}, {}, None)
    assert settings != read
    assert len(given | of_image) == sum(
        getattr(settings, name) != getattr(read, name) for name in settings.__dataclass_fields__
    ), "a variable that sets nothing"


def test_the_compose_file_listens_on_this_machine_only(service: Any) -> None:
    assert service["ports"] == ["127.0.0.1:19530:19530", "127.0.0.1:9091:9091"]
    assert service["volumes"] == [f"data:{_last('VOLUME')}"]


@pytest.fixture
def manifests() -> dict[str, Any]:
    found = yaml.safe_load_all((DEPLOY / "kubernetes" / "milvine.yaml").read_text())
    return {one["kind"]: one for one in found}


def test_the_pod_is_the_image_of_one_server_that_owns_its_directory(manifests: dict[str, Any]) -> None:
    stateful = manifests["StatefulSet"]["spec"]
    pod = stateful["template"]["spec"]
    (container,) = pod["containers"]
    assert stateful["replicas"] == 1
    assert container["image"] == f"milvine:{__version__}"
    assert str(pod["securityContext"]["runAsUser"]) in (DEPLOY / "Dockerfile").read_text()
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounted[_last("VOLUME")] == stateful["volumeClaimTemplates"][0]["metadata"]["name"]
    given = {one["name"]: one.get("value", "secret-1") for one in container["env"]}
    settings = load_settings({}, given, None)
    assert (settings.authorization_enabled, settings.default_root_password) == (True, "secret-1")


def test_service_and_probes_ask_the_ports_of_the_settings(manifests: dict[str, Any]) -> None:
    settings = load_settings({}, {}, None)
    stateful, service = manifests["StatefulSet"]["spec"], manifests["Service"]["spec"]
    (container,) = stateful["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"milvus": settings.port, "metrics": settings.metrics_port}
    assert {one["targetPort"]: one["port"] for one in service["ports"]} == ports
    assert service["selector"] == stateful["selector"]["matchLabels"] == stateful["template"]["metadata"]["labels"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert {container[probe]["tcpSocket"]["port"] for probe in ("startupProbe", "livenessProbe")} <= ports.keys()


def test_the_manifest_of_a_cluster_sets_what_exists_and_starts_commands_that_exist() -> None:
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "ray-cluster.yaml").read_text()))
    shared = next(one["data"] for one in found if one["kind"] == "ConfigMap")
    cluster = next(one["spec"] for one in found if one["kind"] == "RayCluster")
    (workers,) = cluster["workerGroupSpecs"]
    assert json.loads(json.loads(workers["rayStartParams"]["resources"])) == {RESOURCE: 1}
    for group in (cluster["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == f"milvine:{__version__}"
        given = shared | {one["name"]: one.get("value", "secret-1") for one in container["env"]}
        settings = load_settings(
            {}, {name: value for name, value in given.items() if name.startswith("MILVINE_")}, None
        )
        assert all(
            path.startswith("/tls/") for path in (settings.internal_ca_pem_path, settings.internal_server_key_path)
        )
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tls", settings.data_dir}
        assert given["RAY_AUTH_MODE"] == "token"
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    serve = shlex.split(re.findall(r"exec milvine (.+)", head["args"][0])[0])
    assert _parser().parse_args(serve).cluster_ray_address.endswith(":6379")


def test_the_unit_starts_a_command_that_exists() -> None:
    unit = (DEPLOY / "milvine.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    program, *arguments = shlex.split(start)
    assert program.endswith("/bin/milvine")
    parsed = _parser().parse_args(arguments)
    assert f"WorkingDirectory={parsed.data_dir}\n" in unit
    assert f"StateDirectory={Path(parsed.data_dir).name}\n" in unit


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bmilvine_\w+", target["expr"])
    }
    families = {family.name for family in metrics.registry.collect()}
    known = {name + ending for name in families for ending in ("", "_total", "_bucket")}
    assert len(asked) > 10
    assert asked <= known
