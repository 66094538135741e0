"""Mistakes of a person get one sentence that says what to write instead."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from conftest import Server, ServerFactory, free_port

from milvine import config_file
from milvine.cli import COMMANDS
from milvine.cli.command import Command
from milvine.config import SETTINGS, Setting, load_settings

_WITHOUT = """
import importlib.machinery

found = importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] == "{package}" else found(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


def milvine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "milvine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What the command prints instead of working."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("milvine: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("milvine: ").removesuffix("\n")


def refused(tmp_path: Path, *arguments: str) -> str:
    """Why `serve` does not start."""
    return sentence(milvine("serve", f"--data-dir={tmp_path / 'data'}", "--port=0", "--metrics-port=0", *arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port=99999"], "setting proxy.port: cannot read '99999': a port is a number from 0 to 65535"),
        (["--port=many"], "setting proxy.port: cannot read 'many': it must be a whole number"),
        (["--metrics-port=-1"], "setting common.metricsPort: cannot read '-1': a port is a number from 0 to 65535"),
        (["--cluster=127.0.0.1:6379"], "setting cluster.ray.address needs cluster.port: nodes register there"),
        (
            ["--host=no.such.host.invalid"],
            "cannot listen on the host no.such.host.invalid: neither an address nor a name that is known",
        ),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert refused(tmp_path, *arguments) == expected


@pytest.mark.parametrize(
    ("package", "settings", "expected"),
    [
        (
            "opentelemetry",
            {"TRACE_EXPORTER": "otlp"},
            "trace.exporter: otlp needs opentelemetry: pip install 'milvine[trace]'",
        ),
        ("psycopg", {"CATALOG_URI": "postgresql://u@127.0.0.1/x"}, "needs psycopg: pip install 'milvine[cluster]'"),
        ("obstore", {"STORE_URI": "s3://bucket/prefix"}, "needs obstore: pip install 'milvine[store]'"),
        (
            "ray",
            {"CLUSTER_RAY_ADDRESS": "127.0.0.1:6379", "CLUSTER_PORT": "19999"},
            "needs Ray: pip install 'milvine[cluster]'",
        ),
    ],
)
def test_a_missing_package_is_told_with_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, settings: dict[str, str], expected: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT.format(package=package))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, value in settings.items():
        monkeypatch.setenv(f"MILVINE_{name}", value)
    done = milvine("serve", f"--data-dir={tmp_path / 'data'}", "--port=0", "--metrics-port=0")
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("milvine: ")
    assert last.endswith(expected)


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, "--host=192.0.2.1").startswith("cannot listen on 192.0.2.1 port 0: ")


def test_a_file_as_the_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert refused(tmp_path) == f"the data directory {tmp_path / 'data'} is a file"


def test_a_directory_without_data_is_not_called_damaged(tmp_path: Path) -> None:
    assert sentence(milvine("check", str(tmp_path))) == f"{tmp_path} is not the data directory of a server"
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_told_with_the_command_that_starts_one() -> None:
    said = sentence(milvine("collections", f"--uri=http://127.0.0.1:{free_port()}"))
    assert said.endswith("Connection refused; `milvine serve` starts a server")


def test_a_host_that_is_not_known_is_named() -> None:
    said = sentence(milvine("collections", "--uri=http://no.such.host.invalid:19530"))
    assert said.endswith("; is no.such.host.invalid the right name?")
    assert "Errno" not in said


def test_https_to_a_server_without_tls_is_told_with_the_right_address(server: Server) -> None:
    said = sentence(milvine("collections", f"--uri=https://{server.address}"))
    assert said.endswith(f"; a server without TLS answers at http://{server.address}")


def test_a_port_of_another_kind_of_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = "http://{}:{}".format(*other.getsockname())

        def answer() -> None:
            caller = other.accept()[0]
            with caller:
                caller.recv(4096)
                caller.sendall(b"+OK this is no HTTP\r\n")

        threading.Thread(target=answer).start()
        assert sentence(milvine("collections", f"--uri={uri}")).startswith(f"no answer from {uri}/")


def test_an_unknown_option_is_told_with_those_of_its_command() -> None:
    done = milvine("load", "shop", "--fieldz", "a")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: milvine load ")
    assert done.stderr.endswith("milvine load: error: unknown arguments: --fieldz a\n")


def test_servers_that_start_at_once_do_not_die_for_the_metrics_port(new_server: ServerFactory) -> None:
    port = free_port()
    servers = [new_server(metrics_port=port, start=False) for _ in range(2)]
    for server in servers:
        server.spawn()
    without = [server for server in servers if "no metrics port" in server.wait_ready().log]
    assert len(without) == 1
    assert "metrics_port=off" in without[0].log
    assert requests.get(f"{servers[0].metrics_uri}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy: {port: 1\nx: 2", "the configuration file {} is not valid YAML: "),
        ("- proxy", "the configuration file {} must hold keys and values, not a list"),
        ("log: {level: loud}", "setting log.level: cannot read 'loud': it must be debug, info, warning or error"),
        ("memory: {limt: 1GB}", "the setting memory.limt in {} is unknown; did you mean memory.limit?"),
        ("data_dir: x", "the setting data_dir in {} is unknown; did you mean localStorage.path?"),
        ("memory: 1GB", "memory in {} must hold settings, such as memory.jsonCache.limit, not a value"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert refused(tmp_path, f"--config={file}").startswith(expected.format(file))


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    gone, binary = tmp_path / "gone.yaml", tmp_path / "binary.yaml"
    assert refused(tmp_path, f"--config={gone}").startswith(f"cannot read the configuration file {gone}: ")
    binary.write_bytes(b"\xff\xfe\x00")
    assert refused(tmp_path, f"--config={binary}") == f"the configuration file {binary} is not UTF-8 text: byte 0"


def test_a_misspelt_variable_is_named(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_MEMORY_LIMT": "1GB"}, start=False)
    server.spawn()
    assert server.process.wait(30) == 1
    expected = "milvine: the environment variable MILVINE_MEMORY_LIMT is unknown; did you mean MILVINE_MEMORY_LIMIT?\n"
    assert server.log == expected


def test_variables_of_kubernetes_and_of_other_programs_are_ignored() -> None:
    ours = {"MILVINE_PORT": "tcp://10.0.0.1:19530", "MILVINE_SERVICE_HOST": "10.0.0.1", "MILVINE_TOKEN": "a:b"}
    assert load_settings({}, ours, None).port == 19530


def test_keys_without_effect_are_named_in_a_warning(tmp_path: Path) -> None:
    file, in_the_way = tmp_path / "milvus.yaml", tmp_path / "file"
    in_the_way.touch()
    keys = "\n".join(f"  unheard{number}: 1" for number in range(23))
    file.write_text(f"etcd:\n{keys}\nmemory:\n  limit: 1GB\nrootCoord:\n  maxDatabaseNum: 3\n")
    done = milvine("serve", f"--config={file}", f"--data-dir={in_the_way}")
    named = ", ".join(f"etcd.unheard{number}" for number in range(20))
    assert f"settings in {file} without effect here: {named} and 3 more\n" in done.stdout + done.stderr


MILVUS_KEYS = [
    "proxy.http.port",
    "dataCoord.segment.maxSize",
    "dataCoord.segment.maxIdleTime",
    "internaltls.serverPemPath",
    "quotaAndLimits.limits.maxGroupSize",
    "quotaAndLimits.limitWriting.diskProtection.diskQuotaPerPartition",
    "quotaAndLimits.limitWriting.diskProtection.loadedDiskQuota",
]
"""Those that resemble ours most."""


def test_keys_of_milvus_that_mean_nothing_here_are_ignored() -> None:
    known = {setting.key: setting.key for setting in SETTINGS}
    assert [config_file.nearest(key, known) for key in MILVUS_KEYS] == [None] * len(MILVUS_KEYS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_swapped_and_a_missing_letter_find_each_setting(setting: Setting) -> None:
    key = setting.key
    known = {one.key: one.key for one in SETTINGS}
    for wrong in (key[:-2] + key[-1] + key[-2], key[:-3] + key[-2:]):
        if wrong not in known:
            assert config_file.nearest(wrong, known) == key


def test_levels_have_milvus_names_too() -> None:
    assert load_settings({"log_level": "WARN"}, {}, None).log_level == "warning"


def test_a_host_name_is_listened_on_at_its_addresses(new_server: ServerFactory) -> None:
    server = new_server("--host=localhost")
    assert server.client().list_collections() == []
    server.stop()


def test_an_address_without_its_scheme_is_named() -> None:
    expected = "--uri must begin with http:// or https://; did you mean http://localhost:19530?"
    assert sentence(milvine("estimate", "books", "--uri=localhost:19530")) == expected
    assert "is not an address" in sentence(milvine("estimate", "books", "--uri=http://localhost:99999"))


def test_a_wrong_token_is_named(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"})
    said = sentence(milvine("estimate", "books", f"--uri={server.uri}", "--token=root:wrong"))
    assert said.endswith("give the right user and password by --token USER:PASSWORD or MILVINE_TOKEN")


def test_a_server_of_another_kind_is_named(server: Server) -> None:
    said = sentence(milvine("estimate", "books", f"--uri={server.uri}/elsewhere"))
    assert said.endswith("answers 404 Not Found; is it a Milvine server?")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_each_command_has_examples_that_can_be_read(command: Command) -> None:
    printed = milvine(command.name, "--help")
    assert printed.returncode == 0
    for example in command.examples:
        assert f"  {example}" in printed.stdout


def test_a_command_line_that_cannot_be_read_ends_with_2() -> None:
    assert milvine("serv").returncode == 2
    assert milvine("serve", "--prot=1").returncode == 2
