"""The settings of this process under Milvus's keys, for operators; what is secret is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence

from milvine.config import SETTINGS, Settings
from milvine.rate_settings import RATE_SETTINGS

_SECRET = ("password", "secret", "token", "credential", "apikey")
"""Parts of the keys whose values are not shown, in small letters."""
_HIDDEN = "*****"


def is_secret(key: str) -> bool:
    return any(part in key.lower() for part in _SECRET)


def configurations(settings: Settings) -> dict[str, str]:
    """All values that are in force, as text, by key; secrets as asterisks. Sizes are in bytes. A rate that does not
    hold is -1."""
    found = {
        setting.key: _HIDDEN if is_secret(setting.key) else _text(getattr(settings, setting.name))
        for setting in SETTINGS
    }
    for rate in RATE_SETTINGS:
        per_second = settings.rates.get(rate.kind, {}).get(rate.level.value)
        found[rate.key] = "-1" if per_second is None else f"{per_second / rate.unit:g}"
    return found


def named_configurations(settings: Settings, keys: Sequence[str]) -> list[dict[str, str]]:
    """For each key its value, or an error in Milvus's words. Keys have any letter case."""
    known = {key.lower(): value for key, value in configurations(settings).items()}
    known |= {s.alias.lower(): known[s.key.lower()] for s in SETTINGS if s.alias}
    return [_named(key, known.get(key.lower())) for key in keys]


def _named(key: str, value: str | None) -> dict[str, str]:
    if is_secret(key):
        return {"key": key, "error": "access to sensitive config key is denied"}
    if value is None:
        return {"key": key, "error": f"{key}: key not found"}
    return {"key": key, "value": value}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)
