"""Moments (TIMESTAMPTZ): microseconds of UTC since 1970, written as texts in a time zone as Milvus (Go) reads and
writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC as UTC_ZONE
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model.records import record

UTC = "UTC"
PARTS = ("year", "month", "day", "hour", "minute", "second", "microsecond")
"""Of a moment in its zone, by which answers may give it in place of a text."""

Array = np.ndarray[Any, np.dtype[np.int64]]
_SECOND, _MINUTE, _HOUR, _DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
_OFFSET_HOURS = (-12, 14)
_FORM = (
    r"^(?P<day>\d{4}-\d\d-\d\d)(?:T(?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<part>\d+))?(?P<offset>Z|[+-]\d\d:\d\d)?"
    r"|[ ](?P<time2>\d\d:\d\d:\d\d)(?:[.,](?P<part2>\d+))?(?P<offset2>Z|[+-]\d\d(?::\d\d)?)?)$"
)
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_YEARS = (2, 9998)
"""Of which Python tells the offsets in every zone."""
_MOST_MONTHS = 12 * 100_000


class BadMoment(ValueError):
    """`row`: of the first text that is no moment."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


@record
class Interval:
    """A difference of calendar months, and of microseconds."""

    months: int
    micros: int


def parse_moments(texts: pa.StringArray, zone: str) -> Array:
    """int64 (n,). Texts without an offset are in `zone`, a known one. Raises BadMoment."""
    if len(texts) == 0:
        return np.zeros(0, np.int64)
    parts = pc.extract_regex(texts, _FORM)
    if parts.null_count:
        row = int(np.argmax(np.asarray(parts.is_null())))
        raise _no_form(texts, row)
    day, times, more = parts.field("day"), _either(parts, "time"), _either(parts, "part")
    offsets = _either(parts, "offset")
    fractions = pc.utf8_slice_codeunits(pc.utf8_rpad(more, 6, "0"), 0, 6)
    local = _local(texts, pc.binary_join_element_wise(day, times, "T"), fractions)
    shifts = _offset_micros(texts, offsets)
    named = np.asarray(pc.equal(offsets, ""))
    if not named.any():
        return local - shifts
    in_zone = local - _zone_offsets(local, zone)
    # As Go does: the offset at the moment that the first guess gives. It decides about hours that come twice or never.
    return np.where(named, local - _zone_offsets(in_zone, zone), local - shifts)


def parse_moment(text: str, zone: str) -> int:
    """Raises BadMoment."""
    return int(parse_moments(pa.array([text], pa.string()), zone)[0])


def _either(parts: pa.StructArray, name: str) -> pa.StringArray:
    """The group that matched in one of the two forms."""
    return pc.binary_join_element_wise(parts.field(name), parts.field(f"{name}2"), "")


def _no_form(texts: pa.StringArray, row: int) -> BadMoment:
    return BadMoment(f"invalid timestamp string: '{texts[row]}'. Does not match any known format", row)


def _local(texts: pa.StringArray, seconds: pa.StringArray, fractions: pa.StringArray) -> Array:
    """Microseconds as if the zone were UTC."""
    try:
        whole = seconds.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        raise _no_form(texts, _first_bad(seconds)) from None
    micros: Array = np.asarray(whole.cast(pa.int64())) * _SECOND + np.asarray(fractions.cast(pa.int64()))
    return micros


def _first_bad(seconds: pa.StringArray) -> int:
    """The row of the first text that is no date and time, of which there is one."""
    low, high = 0, len(seconds)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            seconds.slice(low, middle - low).cast(pa.timestamp("s"))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _offset_micros(texts: pa.StringArray, offsets: pa.StringArray) -> Array:
    """Of written offsets; 0 for Z and for none."""
    distinct = offsets.dictionary_encode()
    micros = []
    for text in distinct.dictionary.to_pylist():
        hours, minutes = (0, 0) if text in ("", "Z") else (int(text[1:3]), int(text[4:6] or 0))
        signed = (-1 if text.startswith("-") else 1) * (hours * 60 + minutes)
        if hours > 24 or minutes > 60:
            raise _no_form(texts, _row_of(offsets, text))
        if not _OFFSET_HOURS[0] * 60 <= signed <= _OFFSET_HOURS[1] * 60:
            low, high = _OFFSET_HOURS
            reason = f"UTC offset hour {int(signed / 60)} is out of the valid range [{low}, {high}]"
            raise BadMoment(reason, _row_of(offsets, text))
        micros.append(signed * _MINUTE)
    taken: Array = np.array(micros, np.int64)[np.asarray(distinct.indices)]
    return taken


def _row_of(offsets: pa.StringArray, text: str) -> int:
    return int(np.argmax(np.asarray(pc.equal(offsets, text))))


def _zone_offsets(moments: Array, zone: str) -> Array:
    """How many microseconds a clock in the zone is ahead of UTC. Python is asked, since Arrow knows no rules for years
    after 2037."""
    if zone == UTC or not len(moments):
        return np.zeros(len(moments), np.int64)
    years = 1970 + moments.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
    tables = [_offsets_in(zone, int(year)) for year in np.unique(np.clip(years, *_YEARS))]
    starts, offsets = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    places = np.searchsorted(starts, moments, "right") - 1
    taken: Array = offsets[np.maximum(places, 0)]
    return taken


@lru_cache(maxsize=4096)
def _offsets_in(zone: str, year: int) -> tuple[Array, Array]:
    """The offsets of a year, and since when each is in force."""
    begin, info = datetime(year, 1, 1, tzinfo=UTC_ZONE), ZoneInfo(zone)

    def offset(second: int) -> int:
        ahead = (begin + timedelta(seconds=second)).astimezone(info).utcoffset()
        return 0 if ahead is None else ahead // timedelta(microseconds=1)

    known = [(0, offset(0))]
    for day in range(1, 367):
        low, high = (day - 1) * 86_400, day * 86_400
        if offset(high) == known[-1][1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == known[-1][1] else (low, middle)
        known.append((high, offset(high)))
    first = (begin - datetime(1970, 1, 1, tzinfo=UTC_ZONE)) // timedelta(seconds=1)
    starts, offsets = np.array(known, np.int64).T
    return (first + starts) * _SECOND, offsets


def moment_texts(moments: Array, zone: str) -> pa.StringArray:
    """RFC 3339 in the zone, with up to six digits of a second."""
    offsets = _zone_offsets(moments, zone)
    local = pa.array(moments + offsets, pa.int64()).cast(pa.timestamp("us"))
    # Seconds are written with six digits after the point.
    texts = pc.replace_substring_regex(pc.strftime(local, "%Y-%m-%dT%H:%M:%S"), r"\.?0+$", "")
    distinct, codes = np.unique(offsets, return_inverse=True)
    suffixes = pa.array([_suffix(int(o)) for o in distinct], pa.string()).take(pa.array(codes))
    return pc.binary_join_element_wise(texts, suffixes, "")


def _suffix(offset: int) -> str:
    minutes = abs(offset) // _MINUTE
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}" if offset else "Z"


def moment_parts(moments: Array, zone: str, names: Sequence[str]) -> pa.ListArray:
    """Lists of int64, a number for each of `names`, which are of PARTS."""
    local = moments + _zone_offsets(moments, zone)
    dates = local.astype("datetime64[us]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    in_day = local % _DAY
    numbers = {
        "year": 1970 + months // 12,
        "month": 1 + months % 12,
        "day": (dates.astype("datetime64[D]") - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(int) + 1,
        "hour": in_day // _HOUR,
        "minute": in_day // _MINUTE % 60,
        "second": in_day // _SECOND % 60,
        "microsecond": in_day % _SECOND,
    }
    table = np.column_stack([numbers[name] for name in names]).astype(np.int64)
    starts = np.arange(len(moments) + 1, dtype=np.int32) * len(names)
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(table.ravel()))


def parse_interval(text: str) -> Interval:
    """An ISO 8601 duration without weeks and fractions. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid ISO 8601 duration: {text}")
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    calendar = 12 * years + months
    micros = days * _DAY + hours * _HOUR + minutes * _MINUTE + seconds * _SECOND
    if calendar > _MOST_MONTHS or micros > _MOST_MONTHS * 31 * _DAY:
        raise ValueError(f"timestamp after interval arithmetic out of representable range: {text}")
    return Interval(calendar, micros)


def shifted(moments: Array, months: int, micros: int) -> Array:
    """Later by calendar months of UTC and by microseconds. A day that its month lacks counts on into the next one, as
    in C."""
    starts = moments.astype("datetime64[us]").astype("datetime64[M]")
    moved = (starts + months).astype("datetime64[us]") - starts.astype("datetime64[us]")
    later: Array = moments + moved.astype(np.int64) + micros
    return later
