"""Limits on bodies and turns, without a server."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from milvine.config import load_settings
from milvine.errors import RequestRateLimited
from milvine.intake import MAX_BODY_BYTES, MAX_WAITING, BodyLost, BodyTooLarge, Intake, client_address

MIB = 1 << 20


def test_a_body_without_an_announced_size_is_counted_as_it_comes() -> None:
    intake = Intake(1, 8 * MIB)
    with intake.visit() as first, intake.visit() as second:
        assert len(first.rest(io.BytesIO(bytes(6 * MIB)), b"", None)) == 6 * MIB
        with pytest.raises(RequestRateLimited):
            second.rest(io.BytesIO(bytes(6 * MIB)), b"", None)
    with intake.visit() as third:
        assert len(third.rest(io.BytesIO(bytes(6 * MIB)), b"", None)) == 6 * MIB


def test_a_body_without_an_announced_size_ends_at_the_largest_size() -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    with Intake(1, 2 * MAX_BODY_BYTES).visit() as visit, pytest.raises(BodyTooLarge):
        visit.rest(Endless(), b"", None)


def test_decompressed_bytes_are_counted() -> None:
    with Intake(1, 8 * MIB).visit() as visit:
        visit.hold(6 * MIB)
        with pytest.raises(RequestRateLimited):
            visit.hold(9 * MIB)


def test_small_bodies_are_not_counted() -> None:
    intake = Intake(1, MIB)
    with intake.visit() as large, intake.visit() as small:
        large.hold(MIB)
        assert small.rest(io.BytesIO(b"{}"), b"", 2) == b"{}"


def test_a_client_that_disconnects_frees_its_bytes() -> None:
    class Gone:
        def read(self, size: int) -> bytes:
            raise RuntimeError("Failed to receive request body")

    intake = Intake(1, 8 * MIB)
    for _ in range(3):
        with pytest.raises(BodyLost), intake.visit() as visit:
            visit.rest(Gone(), b"", 6 * MIB)


def test_requests_beyond_the_limit_of_waiting_ones_are_refused() -> None:
    intake = Intake(1, MIB)
    visits = [intake.visit() for _ in range(MAX_WAITING + 2)]
    for visit in visits[:-1]:
        visit.__enter__()
        visit.check_room()
    with visits[-1], pytest.raises(RequestRateLimited):
        visits[-1].check_room()


def test_the_limit_is_never_below_one_request_of_the_largest_size(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": str(tmp_path)}, {"MILVINE_REQUESTS_LIMIT": "1MB"}, None)
    assert settings.request_limit_bytes > MAX_BODY_BYTES


def test_the_client_address_is_the_one_that_the_front_adds() -> None:
    assert client_address({"HTTP_X_FORWARDED_FOR": "6.6.6.6, 10.0.0.1"}) == "10.0.0.1"
    assert client_address({}) == ""
