"""The settings of providers, and keys of model services: of a function's parameters, the settings, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.model.records import record

_OLD_PREFIX = "MILVUSAI_"
Tables = Mapping[str, Mapping[str, str]]


@record
class Access:
    """`credentials` by name, in small letters: their `apikey` and so on. `providers`: `enable`, `credential`, `url` of
    each. `seconds`: how long a call may take if the function does not say it."""

    credentials: Tables
    providers: Tables
    seconds: float

    def is_enabled(self, provider: str) -> bool:
        return self.of(provider).get("enable", "").lower() != "false"

    def of(self, provider: str) -> Mapping[str, str]:
        return self.providers.get(provider, {})

    def key(self, params: Mapping[str, str], provider: str, variable: str) -> str:
        """The key of a service, "" if there is none. `variable`: of the environment, or ""."""
        name = params.get("credential", "")
        found = self._credential(name) if "credential" in params else ""
        configured = self.of(provider).get("credential", "")
        if not found and configured:
            found = self._credential(configured)
        if not found and variable:
            found = os.environ.get(variable, "")
            found = found or os.environ.get(_OLD_PREFIX + variable.removeprefix("MILVUS_"), "")
        return found

    def _credential(self, name: str) -> str:
        found = self.credentials.get(name.lower(), {}).get("apikey")
        if found is None:
            raise ParameterInvalid(f"{name} is not a apikey crediential, can not find key: {name.lower()}.apikey")
        return found

    def timeout(self, params: Mapping[str, str]) -> float:
        """Seconds. As in Milvus, a bad `timeout_ms` counts as none."""
        text = params.get("timeout_ms", "")
        milliseconds = int(text) if text.isascii() and text.isdigit() else 0
        return milliseconds / 1000 if milliseconds > 0 else self.seconds
