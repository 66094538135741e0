"""Throttling of failed logins."""

from __future__ import annotations

import time

import pytest

from milvine.service.logins import Logins


def _fail(throttle: Logins, times: int, user: str = "root", address: str = "10.0.0.1") -> None:
    for _ in range(times):
        throttle.failed(user, address)


def test_failures_cost_a_bounded_wait_from_the_fifth_on() -> None:
    throttle = Logins()
    _fail(throttle, 4)
    assert throttle.seconds_to_wait("root", "10.0.0.1") == 0
    _fail(throttle, 1)
    first = throttle.seconds_to_wait("root", "10.0.0.1")
    assert 0 < first <= 1
    _fail(throttle, 40)
    assert first < throttle.seconds_to_wait("root", "10.0.0.1") <= 30


def test_a_throttled_user_can_log_in_from_another_address() -> None:
    throttle = Logins()
    _fail(throttle, 40)
    assert throttle.seconds_to_wait("root", "10.0.0.2") == 0
    assert throttle.seconds_to_wait("ann", "10.0.0.1") == 0


def test_an_address_that_tries_many_names_is_throttled() -> None:
    throttle = Logins()
    for number in range(60):
        _fail(throttle, 1, user=f"user{number}")
    assert throttle.seconds_to_wait("ann", "10.0.0.1") > 0
    assert throttle.seconds_to_wait("ann", "10.0.0.2") == 0


def test_a_success_ends_the_wait() -> None:
    throttle = Logins()
    _fail(throttle, 6)
    throttle.succeeded("root", "10.0.0.1")
    assert throttle.seconds_to_wait("root", "10.0.0.1") == 0


def test_failures_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = Logins()
    _fail(throttle, 40)
    later = time.monotonic() + 601
    monkeypatch.setattr("milvine.service.logins.time.monotonic", lambda: later)
    assert throttle.seconds_to_wait("root", "10.0.0.1") == 0
    _fail(throttle, 1)
    assert throttle.seconds_to_wait("root", "10.0.0.1") == 0


def test_remembered_failures_are_bounded() -> None:
    throttle = Logins()
    for number in range(6_000):
        throttle.failed(f"user{number}", f"10.0.{number >> 8}.{number & 255}")
    assert len(throttle._failures) == 10_000
