"""The short way of a search into the service: it is recognised by its bytes if it repeats one but for its vectors.

What decoding makes of a request depends on its bytes alone. So the decoded request of an earlier search serves again
if all bytes are the same except those of the vectors and of a guarantee timestamp, which is not read. Nothing else is
kept: names, privileges, plans and views are looked up for each search, so nothing here ends when they change.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from milvine.grpc_api import decode
from milvine.grpc_api.proto import common_pb2, milvus_pb2
from milvine.model.records import record
from milvine.model.requests import SearchRequest
from milvine.sized_cache import SizedCache

_CHECKS = bool(os.environ.get("MILVINE_CHECK_REPEATED"))
"""Set by tests: each search is learnt at once, and decoded both ways."""
_LIMIT_BYTES = 16 << 20
_MOST_BODY_BYTES, _MOST_KEY_BYTES = 1 << 20, 64 << 10
"""Beside the search for so many vectors its decoding costs nothing."""
_KNOWN_BYTES = 4096
"""About the bytes of a decoded request and its message beside those of its key, which are counted four times."""
_MOST_LENGTHS, _MOST_CUTS = 4096, 8
_MOST_SEEN = 4096
_DIFFERS = {"queries", "shape"}
_FRAME_BYTES = 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_WIRE_TYPES = {_VARINT, _BYTES, *_FIXED}
_GROUP = milvus_pb2.SearchRequest.DESCRIPTOR.fields_by_name["placeholder_group"].number
_TIMESTAMP = milvus_pb2.SearchRequest.DESCRIPTOR.fields_by_name["guarantee_timestamp"].number
_HOLDER = common_pb2.PlaceholderGroup.DESCRIPTOR.fields_by_name["placeholders"].number
_VALUE = common_pb2.PlaceholderValue.DESCRIPTOR.fields_by_name["values"].number


class _Cut(NamedTuple):
    """What differs in the bodies of one length: `number` values of `size` bytes, the first at `start` and each of the
    others `stride` further, until `end`; and a timestamp from `ts_start` to `ts_end`, equal if there is none."""

    start: int
    end: int
    number: int
    size: int
    stride: int
    ts_start: int
    ts_end: int

    def key(self, body: bytes) -> bytes:
        return body[: self.start] + body[self.end : self.ts_start] + body[self.ts_end :]

    def fits(self, body: bytes) -> bool:
        """Whether what is cut out is what it is in the body that was learnt; the key shows the rest."""
        last = self.ts_end - 1
        if self.ts_start < self.ts_end and (body[last] > 0x7F or min(body[self.ts_start : last]) < 0x80):
            return False
        if self.number == 1:
            return True
        gap = self.stride - self.size
        head = body[self.start - gap : self.start]
        starts = range(self.start + self.stride, self.end, self.stride)
        return all(body[start - gap : start] == head for start in starts)

    def values(self, body: bytes) -> list[bytes]:
        if self.number == 1:
            return [body[self.start : self.end]]
        return [body[start : start + self.size] for start in range(self.start, self.end, self.stride)]


@record
class Repeated:
    """A search that is known but for its vectors, which `message` lacks."""

    message: Any
    cut: _Cut
    request: SearchRequest

    def decoded(self, body: bytes) -> SearchRequest:
        """What `decode.search` makes of a body that was found to be this search. Raises ParameterInvalid as it does."""
        values = self.cut.values(body)
        if _CHECKS:
            self.check(body, values)
        return self.request.again(decode.placed_queries(self.request.query_type, values))

    def check(self, body: bytes, values: list[bytes]) -> None:
        """Raises AssertionError unless the long way gives the same."""
        message = milvus_pb2.SearchRequest.FromString(body[_FRAME_BYTES:])
        holder = common_pb2.PlaceholderGroup.FromString(message.placeholder_group).placeholders[0]
        found = decode.search(message)
        for field in dataclasses.fields(SearchRequest):
            is_same = field.name in _DIFFERS or getattr(found, field.name) == getattr(self.request, field.name)
            assert is_same, f"{field.name} of {message}"
        assert (holder.type, list(holder.values)) == (self.request.query_type, values), f"vectors of {message}"
        message.ClearField("placeholder_group")
        message.guarantee_timestamp = self.message.guarantee_timestamp
        assert message == self.message, f"{message} is not {self.message}"


class RepeatedSearches:
    """The searches that this process has answered twice."""

    def __init__(self) -> None:
        self._searches: SizedCache[bytes, Repeated] = SizedCache("repeated_searches", _LIMIT_BYTES)
        self._cuts: dict[int, tuple[_Cut, ...]] = {}
        """By the length of the body, frame included."""
        self._seen: dict[int, None] = {}
        """Hashes of keys that were seen once: one that never comes again is not worth its decoding."""

    @property
    def bytes_used(self) -> int:
        return self._searches.bytes_used

    def find(self, body: bytes) -> Repeated | None:
        """The search that this one repeats. `body`: with its frame."""
        for cut in self._cuts.get(len(body), ()):
            known = self._searches.get(cut.key(body))
            if known is not None and known.cut == cut and cut.fits(body):
                return known
        return None

    def learn(self, body: bytes, message: Any) -> None:
        """Remembers an answered search if another one may repeat it."""
        if len(body) > _MOST_BODY_BYTES:
            return
        cut = None if body[0] or decode.names_its_time(message) else _cut_of(body)
        if cut is None or len(body) - (cut.end - cut.start) > _MOST_KEY_BYTES:
            return
        key = cut.key(body)
        if hash(key) not in self._seen and not _CHECKS:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[hash(key)] = None
            return
        request = decode.search(message)
        if request.shape is None or request.read_ts:
            return
        rest = type(message)()
        rest.CopyFrom(message)
        rest.ClearField("placeholder_group")
        self._searches.put(key, Repeated(rest, cut, request.again(None)), _KNOWN_BYTES + 4 * len(key))
        known = self._cuts.get(len(body), ())
        if cut not in known:
            if len(self._cuts) >= _MOST_LENGTHS:
                self._cuts.clear()
            self._cuts[len(body)] = (cut, *known[: _MOST_CUTS - 1])
        if _CHECKS:
            learnt = self.find(body)
            assert learnt is not None, f"not found: {message}"
            learnt.decoded(body)


def _cut_of(body: bytes) -> _Cut | None:
    """None if there is no usual list of equally long values."""
    group = ts = None
    for number, wire_type, start, end in _fields(body, _FRAME_BYTES, len(body)):
        if wire_type not in _WIRE_TYPES:
            return None
        if number == _GROUP:
            if group is not None or wire_type != _BYTES:
                return None
            group = start, end
        elif number == _TIMESTAMP:
            if ts is not None or wire_type != _VARINT or group is None:
                return None
            ts = start, end
    holders = [] if group is None else list(_fields(body, *group))
    if len(holders) != 1 or holders[0][:2] != (_HOLDER, _BYTES):
        return None
    placed = list(_fields(body, *holders[0][2:]))
    values = [(start, end) for number, wire_type, start, end in placed if (number, wire_type) == (_VALUE, _BYTES)]
    if not values or [(start, end) for _, _, start, end in placed[-len(values) :]] != values:
        return None
    (first, first_end), (_, last_end) = values[0], values[-1]
    size, stride = first_end - first, values[1][0] - first if len(values) > 1 else 0
    if any((start, end - start) != (first + i * stride, size) for i, (start, end) in enumerate(values)):
        return None
    ts_start, ts_end = (len(body), len(body)) if ts is None or ts[1] - ts[0] == 1 else ts
    return _Cut(first, last_end, len(values), size, stride, ts_start, ts_end)


def _fields(body: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of the content of each field of a message that protobuf has parsed."""
    while start < stop:
        tag, start = _varint(body, start)
        wire_type = tag & 7
        if wire_type == _BYTES:
            size, start = _varint(body, start)
            end = start + size
        elif wire_type == _VARINT:
            _, end = _varint(body, start)
        else:
            end = start + _FIXED.get(wire_type, stop)  # a group, which nobody sends, ends this
        yield tag >> 3, wire_type, start, end
        start = end


def _varint(body: bytes, start: int) -> tuple[int, int]:
    """The number at `start`, and where it ends."""
    number = shift = 0
    while body[start] > 0x7F:
        number |= (body[start] & 0x7F) << shift
        shift += 7
        start += 1
    return number | body[start] << shift, start + 1
