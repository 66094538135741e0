"""Segment files in Azure, by its emulator."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOST, ServerFactory, dies_with_parent, free_port
from stored_rows import check_keeping

from milvine.errors import IoFailed
from milvine.storage.objects import ObjectMissing, Objects, Place

_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's own key, which its documentation names."""
_VERSION = "2021-08-06"
_START_SECONDS = 60.0
pytestmark = pytest.mark.cluster


def create_container(endpoint: str, name: str) -> None:
    date = email.utils.formatdate(usegmt=True)
    kind = "application/octet-stream"
    resource = f"/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    signed = f"PUT\n\n\n\n\n{kind}\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{_VERSION}\n{resource}"
    signature = base64.b64encode(hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": _VERSION,
        "Content-Type": kind,
        "Authorization": f"SharedKey {_ACCOUNT}:{signature}",
    }
    url = f"{endpoint}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, b"", headers, method="PUT")).close()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an emulator with one container, `segments`; the credentials are in the environment."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is missing: npm install --global azurite")
    port = free_port()
    command = [*dies_with_parent(), program, "--inMemoryPersistence", "--blobHost", HOST, "--blobPort", str(port)]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    directory = tmp_path_factory.mktemp("azure")
    with (directory / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "azurite did not start"
            time.sleep(0.05)
    endpoint = f"http://{HOST}:{port}/{_ACCOUNT}"
    create_container(endpoint, "segments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", _ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", _KEY)
        yield endpoint
    process.kill()
    process.wait()


def test_objects_are_created_once_copied_read_in_parts_and_removed(azure: str, tmp_path: Path) -> None:
    objects = Objects(Place("az://segments/calls", azure))
    assert objects.content("x") is None
    assert (objects.create("x", b"1"), objects.create("x", b"2"), objects.content("x")) == (True, False, b"1")
    objects.replace("x", b"3")
    assert objects.content("x") == b"3"
    large = tmp_path / "large"
    large.write_bytes(os.urandom(20 << 20))
    objects.upload("segments/1/large", large)
    objects.copy("segments/1/large", "segments/1/copy")
    assert objects.sizes() == {"segments/1/large": 20 << 20, "segments/1/copy": 20 << 20}
    assert objects.download("segments/1/copy", tmp_path / "back", lambda: None) == 20 << 20
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert objects.ending("segments/1/copy", 20 << 20, 5) == large.read_bytes()[-5:]
    with pytest.raises(ObjectMissing):
        objects.copy("segments/1/none", "segments/1/copy")
    objects.remove(["segments/1/none", "segments/1/large", "segments/2/none", "segments/1/copy"])
    assert objects.sizes() == {}
    with pytest.raises(IoFailed, match="ContainerNotFound: The specified container does not exist"):
        Objects(Place("az://absent/calls", azure)).content("x")


def test_a_server_keeps_its_segments_in_azure(azure: str, new_server: ServerFactory) -> None:
    env = {
        "MILVINE_STORE_URI": "az://segments/server",
        "MILVINE_STORE_ENDPOINT": azure,
        "MILVINE_STORE_REMOVAL_SECONDS": "1",
    }
    check_keeping(new_server(env=env), Objects(Place(env["MILVINE_STORE_URI"], azure)))
