"""Programs of frameworks over Milvus, unchanged and in environments of their own, against a running server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server
from environments import installer

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(1200)]

REQUIREMENTS = {
    "dify_calls": ["pymilvus==2.5.18", "setuptools<81"],
    "langchain_hybrid": ["langchain-milvus==0.4.0"],
    "llamaindex_hybrid": ["llama-index-vector-stores-milvus==1.2.0", "pymilvus==2.6.17"],
    "mem0_memories": ["mem0ai==2.2.1", "pymilvus==2.6.17"],
    "open_webui_calls": ["mem0ai==2.2.1", "pymilvus==2.6.17"],
    "vectordbbench_calls": ["mem0ai==2.2.1", "pymilvus==2.6.17"],
}
"""Of each program, what its environment holds. Equal lists share an environment."""


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The Python of each program's environment, which is installed at its first use."""

    install = installer(lambda: tmp_path_factory.mktemp("ecosystem"))
    return lambda program: install(REQUIREMENTS[program])


def test_each_program_is_listed() -> None:
    assert sorted(REQUIREMENTS) == sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.mark.parametrize("program", sorted(REQUIREMENTS))
def test_the_program_ends_well(server: Server, interpreters: Callable[[str], str], program: str) -> None:
    command = [interpreters(program), str(PROGRAMS / f"{program}.py"), server.uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(": ok\n")
