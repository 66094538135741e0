"""The SDKs, each from its own registry at a pinned version, built once in `build/clients`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BUILD = SOURCES.parents[1] / "build" / "clients"
BUILD_SECONDS = 1500
_STAMP = "built-from"


@dataclass(frozen=True)
class Client:
    """`tools` must be on the PATH. `build` makes what the commands need; `page` and `tour` are those commands."""

    name: str
    version: str
    tools: tuple[str, ...]
    build: Callable[[], None]
    page: tuple[str, ...]
    tour: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    def missing_tools(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]


def _run(*command: str, cwd: Path | None = None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"[-4000:])


@contextmanager
def _unless_built(directory: Path, *sources: Path) -> Iterator[bool]:
    """Whether to build; a finished build is recorded with the digest of its sources."""
    content = b"".join(path.read_bytes() for path in sources)
    digest = hashlib.sha256(content).hexdigest()
    stamp = directory / _STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        yield False
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    yield True
    stamp.write_text(digest)


def _python_clients() -> list[Client]:
    source = SOURCES / "python"

    def client(requirement: str) -> Client:
        version = requirement.partition("==")[2]
        venv = BUILD / f"pymilvus-{version}"
        interpreter = str(venv / "bin" / "python")

        def build() -> None:
            with _unless_built(venv, source / "versions.txt") as needed:
                if needed:
                    _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
                    pip = (sys.executable, "-m", "pip", "--python", interpreter)
                    _run(*pip, "install", "--quiet", "--disable-pip-version-check", "--no-compile", requirement)

        page, tour = (interpreter, str(source / "page.py")), (interpreter, str(source / "tour.py"))
        return Client("pymilvus", version, (), build, page, tour)

    return [client(line) for line in (source / "versions.txt").read_text().split()]


def _java_client() -> Client:
    target = BUILD / "java"
    sources = sorted((SOURCES / "java").rglob("*.java"))
    project = SOURCES / "java" / "pom.xml"
    version = re.search(r"<milvus.version>(.+)</milvus.version>", project.read_text())
    assert version is not None

    def build() -> None:
        with _unless_built(target, project, *sources) as needed:
            if needed:
                shutil.copytree(SOURCES / "java", target, dirs_exist_ok=True)
                arguments = ("-q", "-B", "-DincludeScope=runtime", "-DoutputDirectory=libraries")
                _run("mvn", *arguments, "compile", "dependency:copy-dependencies", cwd=target)

    java = ("java", "-XX:TieredStopAtLevel=1", "-cp", f"{target}/target/classes:{target}/libraries/*")
    return Client("milvus-sdk-java", version[1], ("java", "mvn"), build, (*java, "Page"), (*java, "Tour"))


def _node_clients() -> list[Client]:
    target = BUILD / "node"
    source = SOURCES / "node"
    version = json.loads((source / "package.json").read_text())["dependencies"]["@zilliz/milvus2-sdk-node"]

    def build() -> None:
        with _unless_built(target, source / "package.json") as needed:
            if needed:
                shutil.copy(source / "package.json", target)
                _run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", cwd=target)
        for program in source.glob("*.mjs"):
            shutil.copy(program, target)

    def client(name: str, page: str, *tour: str) -> Client:
        tours = tuple(("node", str(target / program)) for program in tour)
        return Client(name, version, ("node", "npm"), build, ("node", str(target / page)), tours[0] if tours else ())

    return [
        client("milvus2-sdk-node", "page.mjs", "tour.mjs"),
        client("milvus2-sdk-node HttpClient", "page_http.mjs"),
    ]


def _go_client() -> Client:
    target = BUILD / "go"
    version = re.search(r"milvus/client/v2 v(\S+)", (SOURCES / "go" / "go.mod").read_text())
    assert version is not None

    def build() -> None:
        target.mkdir(parents=True, exist_ok=True)
        go = ("env", "CGO_ENABLED=0", "go", "build", "-ldflags=-s -w")
        _run(*go, "-o", f"{target}/", "./page", "./tour", cwd=SOURCES / "go")

    return Client("milvus/client/v2 (Go)", version[1], ("go",), build, (str(target / "page"),), (str(target / "tour"),))


def _curl_client() -> Client:
    found = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False) if _has("curl") else None
    version = found.stdout.split()[1] if found is not None else "?"
    scripts = [("bash", str(SOURCES / "curl" / name)) for name in ("page.sh", "tour.sh")]
    return Client("curl (REST)", version, ("curl", "bash"), lambda: None, *scripts)


def _has(tool: str) -> bool:
    return shutil.which(tool) is not None


def toolchains_are_required() -> bool:
    """In CI a missing toolchain is a failure; on a user's machine it is a reason to skip."""
    return any(os.environ.get(name, "") not in ("", "0") for name in ("CI", "MILVINE_REQUIRE_TOOLCHAINS"))


CLIENTS: tuple[Client, ...] = (*_python_clients(), _java_client(), *_node_clients(), _go_client(), _curl_client())


def timed(build: Callable[[], None]) -> float:
    """Builds, and returns the seconds it took."""
    started = time.perf_counter()
    build()
    return time.perf_counter() - started
