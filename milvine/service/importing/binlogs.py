"""Imports of Milvus's own binlogs, which are not served. Wrong options are refused in Milvus's words."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ImportFailed, ParameterMissing
from milvine.model.known_keys import unsupported
from milvine.model.timestamps import physical_ms

_BACKUP, _DELETES, _VERSION = "backup", "l0_import", "storage_version"
_REFUSED = {
    _BACKUP: "an import of a backup's binlogs (the option backup)",
    _DELETES: "an import of delete logs (the option l0_import)",
    "start_ts": "an import of rows by their timestamps (the option start_ts)",
    "startTs": "an import of rows by their timestamps (the option startTs)",
    "end_ts": "an import of rows by their timestamps (the option end_ts)",
    "endTs": "an import of rows by their timestamps (the option endTs)",
    "ezk": "an import of encrypted binlogs (the option ezk)",
}
_HARMLESS = frozenset({"false", ""})
_STARTS, _ENDS = ("start_ts", "startTs"), ("end_ts", "endTs")
_LARGEST = (1 << 64) - 1
_FIRST_MS, _LAST_MS = 1_546_300_800_000, 253_402_300_799_000  # the years 2019 to 9999


def refuse_binlogs(options: Mapping[str, str], partition_name: str, *, is_loaded: bool) -> None:
    """Raises ImportFailed or ParameterMissing if the options are about binlogs."""
    if _is_true(options, _BACKUP):
        if not partition_name:
            raise ParameterMissing("partition not specified")
        _check_version(options)
        _check_time_range(options)
    elif _is_true(options, _DELETES) and is_loaded:
        raise ImportFailed("for l0 import, collection cannot be loaded, please release it first")
    for name, value in options.items():
        if name in _REFUSED and value.lower() not in _HARMLESS:
            raise ImportFailed(unsupported(_REFUSED[name]))


def _is_true(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() == "true"


def _check_version(options: Mapping[str, str]) -> None:
    text = options.get(_VERSION, "0")
    if not text.removeprefix("-").removeprefix("+").isdecimal() or not text.isascii():
        reason = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise ImportFailed(f"parse {_VERSION} failed, value={text}, err={reason}")


def _check_time_range(options: Mapping[str, str]) -> None:
    start, end = _timestamp(options, _STARTS, 0), _timestamp(options, _ENDS, _LARGEST)
    if start > end:
        raise ImportFailed(f"start_ts shouldn't be larger than end_ts, start_ts:{start}, end_ts:{end}")


def _timestamp(options: Mapping[str, str], names: tuple[str, str], default: int) -> int:
    for wanted in names:
        for name, text in options.items():
            if name.lower() == wanted.lower():
                if not (text.isdecimal() and text.isascii()):
                    reason = f'strconv.ParseUint: parsing "{text}": invalid syntax'
                    raise ImportFailed(f"parse {wanted} failed, value={text}, err={reason}")
                if int(text) > _LARGEST:
                    reason = f'strconv.ParseUint: parsing "{text}": value out of range'
                    raise ImportFailed(f"parse {wanted} failed, value={text}, err={reason}")
                if not _FIRST_MS <= physical_ms(int(text)) <= _LAST_MS:
                    raise ImportFailed(f"{wanted} is not a valid hybrid timestamp, value={text}")
                return int(text)
    return default
