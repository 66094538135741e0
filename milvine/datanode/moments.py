"""The moment of a backup, which its manifest keeps, and moments that callers name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from milvine.catalog.backup_runs import read_runs
from milvine.catalog.history import read_history
from milvine.catalog.sqlite_file import CATALOG_FILE, reading
from milvine.errors import ParameterInvalid
from milvine.model.records import record
from milvine.model.timestamps import from_physical_ms, physical_ms

_FILE = "moment.json"
_LEAST_TS = 1 << 50
"""Smaller numbers are no timestamps of Milvus but, for instance, seconds."""


@record
class Moment:
    """Timestamps. A backup has every write up to `begun_ts`, and all that happened up to `ended_ts` is in it or in a
    later history. `complete_from`: the logs and the history in it are complete from then on, None if none are kept.
    `checkpoints`: by collection, the first log file without rows in the backup. `runs` of the server: last the one that
    made the backup; none if an earlier Milvine made it."""

    begun_ts: int
    ended_ts: int
    complete_from: int | None
    checkpoints: Mapping[int, int]
    runs: tuple[str, ...] = ()

    def continues(self, earlier: Moment) -> bool:
        """Whether the same server, in the same or in an earlier run, made the earlier backup, as far as is known."""
        return not (self.runs and earlier.runs) or earlier.runs[-1] in self.runs


def write_moment(image: Path, begun_ts: int, ended_ts: int, checkpoints: Mapping[int, int]) -> None:
    """Into a directory with the catalog of a backup, which has the history and the runs."""
    moment = Moment(begun_ts, ended_ts, complete_from=None, checkpoints=checkpoints)
    (image / _FILE).write_bytes(orjson.dumps(encode_moment(moment)))


def read_moment(image: Path) -> Moment | None:
    """None if an earlier Milvine made the image."""
    path = image / _FILE
    if not path.exists():
        return None
    with reading(image / CATALOG_FILE) as connection:
        complete_from, runs = read_history(connection).complete_from, read_runs(connection)
    return replace(decode_moment(orjson.loads(path.read_bytes())), complete_from=complete_from, runs=runs)


def encode_moment(moment: Moment) -> dict[str, Any]:
    return {
        "begun": moment.begun_ts,
        "ended": moment.ended_ts,
        "completeFrom": moment.complete_from,
        "checkpoints": {str(i): number for i, number in moment.checkpoints.items()},
        "runs": [*moment.runs],
    }


def decode_moment(members: Mapping[str, Any]) -> Moment:
    checkpoints = {int(i): number for i, number in members["checkpoints"].items()}
    runs = tuple(members.get("runs", ()))
    return Moment(members["begun"], members["ended"], members["completeFrom"], checkpoints, runs)


def parse_moment(text: str) -> int:
    """The last timestamp of a moment: a timestamp of Milvus, or a time of ISO 8601, local unless it names its zone.
    Raises ParameterInvalid."""
    if text.isdigit():
        if int(text) < _LEAST_TS:
            raise ParameterInvalid(f"{text} is not a timestamp of Milvus; write a time as 2026-11-29T14:02:00")
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ParameterInvalid(
            f"{text} is not a time such as 2026-11-29T14:02:00 or 2026-11-29T13:02:00Z, nor a timestamp of Milvus"
        ) from None
    return from_physical_ms(int(found.timestamp() * 1000) + 1) - 1


def shown(ts: int) -> str:
    return datetime.fromtimestamp(physical_ms(ts) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
