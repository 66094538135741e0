"""Texts of moments, as Go reads and writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from milvine.model import moments

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu"]


@settings(deadline=None)
@given(st.datetimes(datetime(1905, 1, 1), datetime(2400, 1, 1)), st.sampled_from(_ZONES), st.sampled_from("T "))
def test_texts_with_an_offset_come_back(local: datetime, zone: str, between: str) -> None:
    moment = local.replace(tzinfo=UTC)
    wanted = (moment - _EPOCH) // timedelta(microseconds=1)
    there = moment.astimezone(ZoneInfo(zone))
    numbers = moments.moment_parts(np.array([wanted]), zone, moments.PARTS).to_pylist()
    assert numbers == [[there.year, there.month, there.day, there.hour, there.minute, there.second, there.microsecond]]
    offset = there.utcoffset()
    assert offset is not None
    assume(not offset % timedelta(minutes=1))  # as that of Kathmandu until 1920, whose seconds no text can say
    text = there.isoformat(between)
    assert moments.parse_moment(text, "UTC") == wanted, text
    (shown,) = moments.moment_texts(np.array([wanted]), zone).to_pylist()
    assert datetime.fromisoformat(shown) == moment
    assert moments.parse_moment(shown, "UTC") == wanted


@pytest.mark.parametrize(
    ("text", "zone", "shown"),
    [
        ("2025-01-01T00:00:00.123456789Z", "UTC", "2025-01-01T00:00:00.123456Z"),
        ("1969-12-31T23:59:59.500Z", "UTC", "1969-12-31T23:59:59.5Z"),
        ("2025-01-01 00:00:00+08", "Asia/Shanghai", "2025-01-01T00:00:00+08:00"),
        ("2025-01-01 00:00:00", "Asia/Shanghai", "2025-01-01T00:00:00+08:00"),
        # An hour that comes twice, and one that never comes.
        ("2024-11-03 01:30:00", "America/New_York", "2024-11-03T01:30:00-04:00"),
        ("2024-10-27 02:30:00", "Europe/Berlin", "2024-10-27T02:30:00+01:00"),
        ("2024-03-10 02:30:00", "America/New_York", "2024-03-10T01:30:00-05:00"),
    ],
)
def test_texts_are_read_as_go_reads_them(text: str, zone: str, shown: str) -> None:
    assert moments.moment_texts(moments.parse_moments(pa.array([text]), zone), zone).to_pylist() == [shown]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2025-02-30T00:00:00Z", "Does not match any known format"),
        ("2025-01-01", "Does not match any known format"),
        ("2025-01-01T00:00:00+8", "Does not match any known format"),
        ("2025-01-01T25:00:00Z", "Does not match any known format"),
        ("2025-01-01T00:00:00+99:00", "Does not match any known format"),
        ("2025-01-01T00:00:00+15:00", "UTC offset hour 15 is out of the valid range [-12, 14]"),
        ("2025-01-01T00:00:00-13:00", "UTC offset hour -13 is out of the valid range [-12, 14]"),
    ],
)
def test_a_bad_text_is_named_with_its_row(text: str, reason: str) -> None:
    texts = pa.array(["2025-01-01T00:00:00Z", "2025-01-01 00:00:00+01", text, text])
    with pytest.raises(moments.BadMoment) as raised:
        moments.parse_moments(texts, "UTC")
    assert raised.value.row == 2
    assert reason in str(raised.value)


def test_intervals_count_on_from_days_that_a_month_lacks() -> None:
    start = np.array([moments.parse_moment("2025-01-31T10:00:00.5Z", "UTC")])
    interval = moments.parse_interval("P1Y1M1DT2H3M4S")
    later = moments.shifted(start, interval.months, interval.micros)
    assert moments.moment_texts(later, "UTC").to_pylist() == ["2026-03-04T12:03:04.5Z"]
    assert moments.moment_texts(moments.shifted(start, -2, 0), "UTC").to_pylist() == ["2024-12-01T10:00:00.5Z"]
    for text in ("P1W", "1D", "P1.5D", "P9999999999Y"):
        with pytest.raises(ValueError, match=r"duration|range"):
            moments.parse_interval(text)
