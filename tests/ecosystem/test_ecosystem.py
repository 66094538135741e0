"""Programs of frameworks over Milvus, unchanged and in environments of their own, against a running server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server
from environments import installer, node_installer

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(1200)]

_REQUIRED = ("CI", "MILVINE_REQUIRE_TOOLCHAINS")
_SHARED = ["mem0ai==2.2.1", "milvus-cli==1.2.1", "pymilvus==2.6.17"]
REQUIREMENTS = {
    "attu_calls.mjs": ["@zilliz/milvus2-sdk-node@2.5.9"],
    "dify_calls.py": ["pymilvus==2.5.18", "setuptools<81"],
    "haystack_retrievers.py": ["milvus-haystack==0.1.0", "haystack-ai==3.4.1", "pymilvus==3.0.2"],
    "langchain_hybrid.py": ["langchain-milvus==0.4.0"],
    "langchain_js.mjs": ["@langchain/community@1.1.29", "@langchain/core@1.4.0", "@zilliz/milvus2-sdk-node@3.0.6"],
    "llamaindex_hybrid.py": ["llama-index-vector-stores-milvus==1.2.0", "pymilvus==2.6.17"],
    "mem0_memories.py": _SHARED,
    "milvus_cli_tour.py": _SHARED,
    "open_webui_calls.py": _SHARED,
    "vectordbbench_calls.py": _SHARED,
}
"""Of each program, what its environment holds. Equal lists share an environment."""


def _skip_without_node() -> None:
    if shutil.which("npm") is None and not any(os.environ.get(name, "") not in ("", "0") for name in _REQUIRED):
        pytest.skip("NodeJS is missing")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The command of a program. Its environment is installed at its first use."""
    python = installer(lambda: tmp_path_factory.mktemp("ecosystem"))
    node = node_installer(lambda: tmp_path_factory.mktemp("ecosystem"))

    def command(program: str) -> list[str]:
        path, requirements = str(PROGRAMS / program), REQUIREMENTS[program]
        if program.endswith(".py"):
            return [python(requirements), path]
        _skip_without_node()
        return ["node", str(shutil.copy(path, str(node(requirements))))]  # NodeJS looks for packages beside the program

    return command


def test_each_program_is_listed() -> None:
    assert sorted(REQUIREMENTS) == sorted(path.name for path in PROGRAMS.iterdir() if path.is_file())


@pytest.mark.parametrize("program", sorted(REQUIREMENTS))
def test_the_program_ends_well(server: Server, commands: Callable[[str], list[str]], program: str) -> None:
    command = [*commands(program), server.uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(": ok\n")
