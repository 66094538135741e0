"""Looking for a directory's server, and uses of it that end."""

from __future__ import annotations

from pathlib import Path

import pytest

import milvine
from milvine import file_locks
from milvine.directory_users import LOCK_FILE, Address, LastUser, Use, server_pid
from milvine.embedded import clients


def test_who_looks_for_a_server_is_not_taken_for_one_by_others(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("4711")  # as an ended server leaves it
    with (tmp_path / LOCK_FILE).open("rb") as looking:
        assert file_locks.share(looking.fileno())
        assert server_pid(tmp_path) == 0
    with (tmp_path / LOCK_FILE).open("rb") as serving:
        assert file_locks.take(serving.fileno())
        assert server_pid(tmp_path) == 4711
    assert server_pid(tmp_path) == 0


def test_a_client_that_cannot_be_made_ends_its_use_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "use_server", lambda path, *_: (Use(path), Address(1, "http://127.0.0.1:1")))
    with pytest.raises(Exception, match="connect") as caught:
        milvine.connect(tmp_path, timeout=0.2)
    assert LastUser(tmp_path).is_gone(), f"still in use after {caught.value}"
