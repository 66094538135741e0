"""Hashes of passwords, and the limit of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvine.catalog.sqlite_file import CATALOG_FILE, open_catalog
from milvine.catalog.users import create_user
from milvine.errors import QuotaExceeded, UserAlreadyExists
from milvine.model.users import User
from milvine.service import passwords
from milvine.service.passwords import Passwords, hash_password


def test_only_the_right_password_fits_its_hash() -> None:
    stored = hash_password("secret1")
    assert not Passwords().verify("secret2", stored)
    assert Passwords().verify("secret1", stored)
    assert "secret1" not in stored


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("secret1") != hash_password("secret1")


def test_a_verified_password_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, verifier = hash_password("secret1"), Passwords()
    assert verifier.verify("secret1", stored)
    monkeypatch.setattr(passwords, "_matches", lambda password, stored: pytest.fail("it was hashed again"))
    assert verifier.verify("secret1", stored)


def test_a_wrong_password_and_an_unknown_user_cost_one_hash_each(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, verifier = hash_password("secret1"), Passwords()
    assert verifier.verify("secret1", stored)
    costs: list[list[str]] = []

    def matches(password: str, stored: str) -> bool:
        costs.append(stored.split(":")[:4])
        return False

    monkeypatch.setattr(passwords, "_matches", matches)
    assert not verifier.verify("secret2", stored)
    assert not verifier.verify("secret2", None)
    assert len(costs) == 2
    assert costs[0] == costs[1]


def test_a_replaced_hash_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, verifier = hash_password("secret1"), Passwords()
    assert verifier.verify("secret1", stored)
    verifier.forget(stored)
    monkeypatch.setattr(passwords, "_matches", lambda password, stored: False)
    assert not verifier.verify("secret1", stored)


def test_users_beyond_the_limit_and_duplicates_are_refused(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / CATALOG_FILE)
    for name in ("root", "ann"):
        create_user(catalog, User(name, "hash", 1), max_users=2)
    with pytest.raises(QuotaExceeded, match="the number of users has reached the limit: quota exceeded"):
        create_user(catalog, User("bob", "hash", 1), max_users=2)
    with pytest.raises(UserAlreadyExists):
        create_user(catalog, User("ann", "other", 2), max_users=9)
    catalog.close()
    reopened = open_catalog(tmp_path / CATALOG_FILE)
    assert dict(reopened.snapshot.users) == {"root": User("root", "hash", 1), "ann": User("ann", "hash", 1)}
    reopened.close()
