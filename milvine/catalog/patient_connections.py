"""Connections to PostgreSQL that wait for it, but not for ever.

A machine that has gone breaks its connections (`tcp_user_timeout`). A PostgreSQL that stands still, as while its
machine is paused, keeps them: only the lack of an answer tells.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import sqlalchemy as sa

_TICK_SECONDS = 0.5
_Result = TypeVar("_Result")


def connect_patiently(engine: sa.Engine, seconds: float) -> None:
    """Connections that `engine` makes break when PostgreSQL says nothing for `seconds`, and raise OperationalError."""
    connect = _connecting(seconds)

    def do_connect(_dialect: object, _record: object, arguments: list[Any], given: dict[str, Any]) -> Any:
        return connect(*arguments, **given)

    sa.event.listen(engine, "do_connect", do_connect)


def _connecting(seconds: float) -> Callable[..., Any]:
    import psycopg

    class PatientConnection(psycopg.Connection[Any]):  # type: ignore[misc]
        def wait(self, gen: Generator[Any, Any, _Result], *_given: Any, **_more: Any) -> _Result:
            """All that a connection does passes here, but for its beginning, which `connect_timeout` bounds."""
            try:
                wanted = next(gen)
                with selectors.DefaultSelector() as selector:
                    key = selector.register(self.pgconn.socket, wanted)
                    until = time.monotonic() + seconds
                    while True:
                        if key.events != wanted:
                            key = selector.modify(key.fileobj, wanted)
                        found = selector.select(_TICK_SECONDS)
                        if not found and time.monotonic() > until:
                            self.pgconn.finish()
                            raise psycopg.OperationalError(f"no answer for {seconds:g} s")
                        if found:
                            until = time.monotonic() + seconds
                        wanted = gen.send(found[0][1] if found else 0)
            except StopIteration as end:
                result: _Result = end.value
                return result

    found: Callable[..., Any] = PatientConnection.connect
    return found
