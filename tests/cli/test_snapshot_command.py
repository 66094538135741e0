"""`milvine snapshot`: tables for people, JSON for programs, and what refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cli_calls import runner
from conftest import Server

from milvine.cli import main

NAME = "snapshot_command"


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    answered = runner(capsys)

    def run(action: str, *arguments: object, code: int = 0) -> Any:
        return answered("snapshot", action, *arguments, "--uri", server.uri, code=code)

    return run


@pytest.fixture
def printed(server: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def printed(action: str, *arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(["snapshot", action, *arguments, "--uri", server.uri])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        return out.splitlines()

    return printed


def test_a_snapshot_is_made_shown_restored_and_dropped(
    server: Server, run: Callable[..., Any], printed: Callable[..., list[str]]
) -> None:
    client = server.client()
    client.create_collection(NAME, dimension=2)
    client.insert(NAME, [{"id": i, "vector": [i, 1]} for i in range(5)])
    assert printed("list", NAME) == [f"{NAME} has no snapshots"]
    assert run("create", NAME, "empty")["rowCount"] == 0, "rows that are not flushed are not part of it"
    assert printed("create", NAME, "--flush", "full", "--description", "all of it") == [
        f"snapshot full of {NAME}: 5 rows"
    ]
    found = run("list", NAME)
    assert [(one["snapshotName"], one["rowCount"], one["description"]) for one in found] == [
        ("empty", 0, ""),
        ("full", 5, "all of it"),
    ]
    header, *lines = printed("list", NAME)
    assert header.split() == ["snapshot", "created", "rows", "partitions", "pins", "description"]
    assert [line.split()[0] for line in lines] == ["empty", "full"]
    assert run("create", NAME, "full", code=1).endswith(
        f"already exists in collection {client.describe_collection(NAME)['collection_id']}: invalid parameter\n"
    )

    client.insert(NAME, [{"id": 9, "vector": [9, 1]}])
    job = run("restore", NAME, "full", f"{NAME}_back")
    assert (job["state"], job["collectionName"], job["progress"]) == ("RestoreSnapshotCompleted", f"{NAME}_back", 100)
    client.load_collection(f"{NAME}_back")
    assert len(client.query(f"{NAME}_back", filter="id >= 0")) == 5
    client.create_database("archive")
    assert run("restore", NAME, "full", "there", "--target-database", "archive")["dbName"] == "archive"
    assert "duplicate collection" in run("restore", NAME, "full", f"{NAME}_back", code=1)

    run("drop", NAME, "empty")
    run("drop", NAME, "empty")
    assert [one["snapshotName"] for one in run("list", NAME)] == ["full"]
    assert "snapshot not found" in run("describe", NAME, "empty", code=1)
    archive = server.client(db_name="archive")
    archive.drop_collection("there")
    archive.close()
    client.drop_database("archive")
    for name in (NAME, f"{NAME}_back"):
        client.drop_collection(name)
    client.close()


def test_a_pinned_snapshot_cannot_be_dropped(
    server: Server, run: Callable[..., Any], printed: Callable[..., list[str]]
) -> None:
    client = server.client()
    client.create_collection(NAME, dimension=2)
    run("create", NAME, "held", "--protect", 60)
    forever = run("pin", NAME, "held")["pinId"]
    soon = run("pin", NAME, "held", "--seconds", 600)["pinId"]
    described = run("describe", NAME, "held")
    assert {one["pinId"]: bool(one["expires"]) for one in described["pins"]} == {forever: False, soon: True}
    assert described["protectedUntil"] > described["created"]
    lines = printed("describe", NAME, "held")
    assert "_default" in lines and [line.split()[0] for line in lines[-2:]] == sorted([forever, soon])
    assert "pinned" in run("drop", NAME, "held", code=1)
    assert "actual=it" in run("unpin", "it", code=1)
    for pin in (forever, soon):
        run("unpin", pin)
    run("drop", NAME, "held")
    assert run("list", NAME) == []
    client.drop_collection(NAME)
    client.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: ACTION"),
        (["create", "books"], "the following arguments are required: SNAPSHOT"),
        (["create", "books", "monday", "--nope"], "unknown arguments: --nope"),
    ],
)
def test_a_mistake_is_told_with_the_usage(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["snapshot", *arguments])
    assert (ended.value.code, expected in capsys.readouterr().err) == (2, True)
