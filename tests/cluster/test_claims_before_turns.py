"""Whether a head that waits could claim its object store when its turn comes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from conftest import HOST
from object_servers import BUCKET, KEYS, ObjectServer

from milvine.errors import UnexpectedError
from milvine.storage import claims
from milvine.storage.claims import CATALOG, Claim, check_before_turn
from milvine.storage.objects import Objects, Place


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(claims, "_PATIENCE_SECONDS", 2.0)


@pytest.fixture
def place(objects: ObjectServer, request: pytest.FixtureRequest) -> Place:
    return Place(f"s3://{BUCKET}/{request.node.name}", objects.endpoint, "us-east-1")


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def test_directories_of_one_catalog_may_wait_and_others_not(place: Place, tmp_path: Path) -> None:
    first, empty = directory(tmp_path / "first"), directory(tmp_path / "empty")
    check_before_turn(empty, place, "books", is_filled=False)
    with pytest.raises(UnexpectedError, match="no copy of the segment files of this catalog"):
        check_before_turn(empty, place, "books", is_filled=True)
    Claim(first, Objects(place), "books", 7).make()
    check_before_turn(empty, place, "books", is_filled=True)
    check_before_turn(first, place, "books", is_filled=True)
    for catalog in ("films", ""):
        with pytest.raises(UnexpectedError, match="belongs to another data directory"):
            check_before_turn(empty, place, catalog, is_filled=False)
    assert list(empty.iterdir()) == []


def test_a_directory_whose_files_are_elsewhere_does_not_wait(place: Place, tmp_path: Path) -> None:
    Claim(tmp_path, Objects(place)).make()
    check_before_turn(tmp_path, place, "", is_filled=True)
    with pytest.raises(UnexpectedError, match="no copy of the segment files"):
        check_before_turn(tmp_path, Place(f"{place.uri}-2", place.endpoint, place.region), "", is_filled=False)


def test_a_head_that_is_just_claiming_the_store_is_waited_for(place: Place, tmp_path: Path) -> None:
    first, empty = directory(tmp_path / "first"), directory(tmp_path / "empty")
    Claim(first, Objects(place), "books", 7).make()
    content = Objects(place).content(CATALOG)
    Objects(place).remove([CATALOG])
    with pytest.raises(UnexpectedError, match="belongs to another"):
        check_before_turn(empty, place, "books", is_filled=True)
    assert content is not None
    later = threading.Timer(0.7, Objects(place).replace, (CATALOG, content))
    later.start()
    check_before_turn(empty, place, "books", is_filled=True)
    later.join()


def test_a_store_that_refuses_ends_the_wait_and_one_that_is_away_does_not(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnexpectedError, match=r"cannot read from s3://nobodys/x: NoSuchBucket"):
        check_before_turn(tmp_path, Place("s3://nobodys/x", place.endpoint, place.region), "", is_filled=False)
    began = time.monotonic()
    check_before_turn(tmp_path, Place(place.uri, f"http://{HOST}:1", place.region), "books", is_filled=True)
    assert time.monotonic() - began < 60
