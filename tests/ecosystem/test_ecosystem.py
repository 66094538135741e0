"""Programs of frameworks over Milvus, unchanged and in environments of their own, against a running server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Server

PROGRAMS = Path(__file__).parent / "programs"
pytestmark = [pytest.mark.ecosystem, pytest.mark.timeout(1200)]

REQUIREMENTS = {
    "dify_calls": ["pymilvus==2.5.18", "setuptools<81"],
    "langchain_hybrid": ["langchain-milvus==0.4.0"],
    "llamaindex_hybrid": ["llama-index-vector-stores-milvus==1.2.0", "pymilvus==2.6.17"],
    "mem0_memories": ["mem0ai==2.2.1", "pymilvus==2.6.17"],
}
"""Of each program, what its environment holds."""


def test_each_program_is_listed() -> None:
    assert sorted(REQUIREMENTS) == sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.mark.parametrize("program", sorted(REQUIREMENTS))
def test_the_program_ends_well(server: Server, tmp_path: Path, program: str) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    interpreter = str(environment / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-compile"]
    installed = subprocess.run([*install, *REQUIREMENTS[program]], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    command = [interpreter, str(PROGRAMS / f"{program}.py"), server.uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(": ok\n")
