"""The type of texts in tables. PostgreSQL keeps no NUL, as SQLite and Milvus's etcd do: it is written otherwise."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_NUL, _ESCAPE = "\0", "\x1b"
_WRITTEN_NUL, _WRITTEN_ESCAPE = "\x1b0", "\x1b1"


class Text(sa.types.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE, _WRITTEN_ESCAPE).replace(_NUL, _WRITTEN_NUL)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_WRITTEN_NUL, _NUL).replace(_WRITTEN_ESCAPE, _ESCAPE)
