"""Parameters of function chains, read with Milvus's texts."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.model.records import record


@record
class Params:
    """`scope`: what Milvus's texts begin with. A value of None was sent without a value."""

    scope: str
    values: Mapping[str, object]

    def _refused(self, text: str) -> ParameterInvalid:
        return ParameterInvalid(f"{self.scope}: {text}")

    def _value(self, key: str, is_required: bool) -> object:
        if key not in self.values:
            if is_required:
                raise self._refused(f'missing required parameter "{key}"')
            return None
        value = self.values[key]
        if value is None:
            raise self._refused(f'parameter "{key}" is unset')
        return value

    def text(self, key: str, *, is_required: bool = False) -> str:
        value = self._value(key, is_required)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._refused(f'parameter "{key}" must be a string')
        return value

    def whole(self, key: str, *, default: int | None = None) -> int:
        """`default` None: required."""
        value = self._value(key, default is None)
        if value is None:
            assert default is not None
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(f'parameter "{key}" must be an integer')
        if isinstance(value, float) and not value.is_integer():
            raise self._refused(f'parameter "{key}" must be an integer, got {value:f}')
        return int(value)

    def number(self, key: str, *, default: float | None = None) -> float:
        """`default` None: required."""
        value = self._value(key, default is None)
        if value is None:
            assert default is not None
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(f'parameter "{key}" must be a number')
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._value(key, False)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._refused(f'parameter "{key}" must be a bool')
        return value

    def texts(self, key: str, *, is_required: bool = False) -> tuple[str, ...]:
        value = self._value(key, is_required)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._refused(f'parameter "{key}" must be a string array')
        for place, item in enumerate(value):
            if not isinstance(item, str):
                raise self._refused(f'parameter "{key}"[{place}] must be a string')
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        value = self._value(key, False)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._refused(f'parameter "{key}" must be a number array')
        for place, item in enumerate(value):
            if isinstance(item, bool) or not isinstance(item, int | float):
                raise self._refused(f'parameter "{key}"[{place}] must be a number')
        return tuple(map(float, value))

    def as_texts(self, without: str) -> dict[str, str]:
        """All parameters but one, as text."""
        return {key: self._as_text(key) for key in self.values if key != without}

    def _as_text(self, key: str) -> str:
        value = self._value(key, True)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() else repr(value)
        if isinstance(value, int | str):
            return str(value)
        raise self._refused(f'parameter "{key}" must be scalar string/number/bool')
