"""Segment files in Google Cloud Storage, by its protocol in front of an S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ServerFactory
from google_storage import GoogleStorage
from object_servers import BUCKET, ObjectServer
from stored_rows import check_keeping

from milvine.errors import IoFailed
from milvine.storage.objects import ObjectMissing, Objects, Place

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStorage]:
    """With one bucket; the credentials are in the environment."""
    directory = tmp_path_factory.mktemp("google")
    behind = ObjectServer(directory, "moto")  # it verifies no signatures, which Google's paths would break
    storage = GoogleStorage(behind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_SERVICE_ACCOUNT", storage.service_account(directory))
        yield storage
    storage.close()
    behind.stop()
    assert storage.refused == []


def test_objects_are_created_once_copied_read_in_parts_and_removed(google: GoogleStorage, tmp_path: Path) -> None:
    objects = Objects(Place(f"gs://{BUCKET}/calls", google.endpoint))
    assert objects.content("x") is None
    assert (objects.create("x", b"1"), objects.create("x", b"2"), objects.content("x")) == (True, False, b"1")
    assert google.created_once == 2
    objects.replace("x", b"3")
    assert objects.content("x") == b"3"
    large = tmp_path / "large"
    large.write_bytes(os.urandom(40 << 20))
    objects.upload("segments/1/large", large)
    objects.copy("segments/1/large", "segments/1/copy")
    assert objects.sizes() == {"segments/1/large": 40 << 20, "segments/1/copy": 40 << 20}
    assert objects.sizes(after="segments/1/copy") == {"segments/1/large": 40 << 20}
    assert objects.download("segments/1/copy", tmp_path / "back", lambda: None) == 40 << 20
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert objects.ending("segments/1/copy", 40 << 20, 5) == large.read_bytes()[-5:]
    with objects.writing("segments/1/written") as written:
        written.write(b"12345")
    assert objects.content("segments/1/written") == b"12345"
    with pytest.raises(ObjectMissing):
        objects.copy("segments/1/none", "segments/1/copy")
    objects.remove(["segments/1/none", *objects.sizes(), "segments/2/none"])
    assert objects.sizes() == {}
    with pytest.raises(IoFailed, match="NoSuchBucket: The specified bucket does not exist"):
        Objects(Place("gs://absent/calls", google.endpoint)).content("x")


@pytest.mark.parametrize("log", ["local", "object"])
def test_a_server_keeps_its_segments_in_google(google: GoogleStorage, new_server: ServerFactory, log: str) -> None:
    env = {
        "MILVINE_STORE_URI": f"gs://{BUCKET}/server-{log}",
        "MILVINE_STORE_ENDPOINT": google.endpoint,
        "MILVINE_STORE_REMOVAL_SECONDS": "1",
        "MILVINE_LOG_STORE": log,
    }
    check_keeping(new_server(env=env), Objects(Place(env["MILVINE_STORE_URI"], google.endpoint)))
