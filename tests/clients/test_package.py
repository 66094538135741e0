"""The wheel in fresh environments, beside the versions of pymilvus that people have."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]
MOST_BYTES = 600 << 20
"""Of an environment with the server alone, without pip: measured: 555 MB."""
PROGRAM = """
import sys, milvine, pymilvus
assert "milvine.server" not in sys.modules
with milvine.connect(sys.argv[1]) as client:
    client.create_collection("c", dimension=2)
    client.insert("c", [{"id": 1, "vector": [1.0, 0.0]}])
    print(pymilvus.__version__, [hit["id"] for hit in client.search("c", [[1.0, 0.0]], limit=1)[0]])
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(ROOT))
    (found,) = target.glob("milvine-*.whl")
    return found


def environment(directory: Path, *requirements: str, python: str = sys.executable) -> str:
    """The interpreter of a fresh environment with only these."""
    run(python, "-m", "venv", "--without-pip", str(directory))
    interpreter = str(directory / "bin" / "python")
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-compile", *requirements)
    return interpreter


def test_the_wheel_says_what_it_is_and_holds_the_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        (name,) = [one for one in files.namelist() if one.endswith(".dist-info/METADATA")]
        said = Parser().parsestr(files.read(name).decode())
        assert {"milvine/grpc_api/milvus.binpb", "milvine/py.typed"} <= set(files.namelist())
    assert said["License-Expression"] == "Apache-2.0"
    assert said.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert said.get_all("Project-URL")
    assert any(line.startswith("Programming Language :: Python :: 3.14") for line in said.get_all("Classifier") or ())
    needed = [line for line in said.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert not any(line.startswith(("pymilvus", "pandas", "grpcio")) for line in needed)


@pytest.mark.parametrize("version", ["2.5.18", "2.6.17"])
def test_an_older_pymilvus_shares_the_environment(wheel: Path, tmp_path: Path, version: str) -> None:
    interpreter = environment(tmp_path / "venv", str(wheel), f"pymilvus=={version}")
    assert run(interpreter, "-c", PROGRAM, str(tmp_path / "data")) == f"{version} [1]\n"


def _installed(version: str) -> str | None:
    """A Python of this version with a shared library, of pyenv or on the PATH (where pyenv's stand-ins may fail)."""
    of_pyenv = [str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    shared = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    for found in filter(None, [*of_pyenv, shutil.which(f"python{version}")]):
        tried = subprocess.run([found, "-c", shared], capture_output=True, text=True, check=False)
        if tried.stdout == "1\n":
            return found
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_the_wheel_runs_in_newer_versions_of_python(wheel: Path, tmp_path: Path, version: str) -> None:
    python = _installed(version)
    if python is None:
        pytest.skip(f"there is no Python {version} with a shared library")
    interpreter = environment(tmp_path / "venv", f"{wheel}[client]", python=python)
    assert run(interpreter, "-c", PROGRAM, str(tmp_path / "data")).endswith(" [1]\n")


def test_the_server_alone_has_neither_the_client_nor_pandas_and_a_bounded_size(wheel: Path, tmp_path: Path) -> None:
    interpreter = environment(tmp_path / "venv", str(wheel))
    said = run(interpreter, "-m", "milvine", "--version")
    assert said.startswith("milvine ")
    absent = "import importlib.util as u; print([u.find_spec(n) for n in ('pymilvus', 'pandas', 'grpc')])"
    assert run(interpreter, "-c", absent) == "[None, None, None]\n"
    size = sum(path.lstat().st_size for path in (tmp_path / "venv").rglob("*"))
    assert size < MOST_BYTES, f"{size >> 20} MB"
