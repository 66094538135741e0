"""Background work: threads that run a step repeatedly, and their failures by key.

A step that raises never ends its thread. A failed key (a collection, a segment) is retried with growing pauses while
work for others continues. `Supervisor` has all workers and failures, for metrics and health checks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Generic, TypeVar

from milvine import metrics
from milvine.errors import MilvineError
from milvine.model.records import record

_log = logging.getLogger(__name__)
FIRST_SECONDS = 1.0
MAX_SECONDS = 60.0
_SHOWN_FAILURES = 10
_WHOLE_STEP = object()
"""The key of exceptions of a step itself."""
Key = TypeVar("Key", bound=Hashable)


@record
class Failure:
    """`what` names the work and its subject. It failed `count` times in a row; `again_at` (time.monotonic) is infinite
    if there is no retry."""

    what: str
    text: str
    count: int
    again_at: float

    @property
    def is_lasting(self) -> bool:
        """A first failure may be an accident."""
        return self.count > 1 or self.again_at == float("inf")


class Work(Generic[Key]):
    """The failures of one kind of work. Any thread may report and read them."""

    def __init__(self, name: str, is_current: Callable[[Key], bool] | None = None) -> None:
        """`is_current`: whether a failed key still exists; failures of removed keys are ignored."""
        self.name = name
        self._is_current = is_current
        self._lock = threading.Lock()
        self._failures: dict[Any, Failure] = {}
        metrics.background_failing.labels(name).set_function(lambda: len(self._failures))

    def failed(
        self,
        keys: Iterable[Key],
        what: str,
        error: BaseException,
        spent_seconds: float = 0.0,
        *,
        is_final: bool = False,
    ) -> None:
        """Records, logs and counts a failure. `what` names work and keys together, as in "flush of collection c".

        The keys wait at least as long as the attempt took, so that retries take at most half of the time; for ever
        if `is_final`.
        """
        is_expected = isinstance(error, MilvineError | OSError)
        _log.error("%s: %s", what, error, exc_info=None if is_expected else error)
        metrics.background_failures.labels(self.name).inc()
        text = str(error) if is_expected else f"{type(error).__name__}: {error}"
        with self._lock:
            for key in keys:
                before = self._failures.get(key)
                count = 1 if before is None else before.count + 1
                pause = max(min(FIRST_SECONDS * 2 ** min(count - 1, 10), MAX_SECONDS), spent_seconds)
                again_at = float("inf") if is_final else time.monotonic() + pause
                self._failures[key] = Failure(what, text, count, again_at)

    def succeeded(self, keys: Iterable[Key]) -> None:
        """Removes the failures of `keys`, which succeeded or are gone."""
        if self._failures:
            with self._lock:
                for key in keys:
                    self._failures.pop(key, None)

    def retain(self, keys: Collection[Key]) -> None:
        """Removes the failures of all keys except these, since the others are gone."""
        if self._failures:
            with self._lock:
                self._failures = {k: f for k, f in self._failures.items() if k is _WHOLE_STEP or k in keys}

    def keys(self) -> set[Key]:
        """Failures without a later success."""
        with self._lock:
            return {key for key in self._failures if key is not _WHOLE_STEP}

    def waiting(self) -> set[Key]:
        """The keys that are not due for a retry."""
        now = time.monotonic()
        with self._lock:
            return {key for key, failure in self._failures.items() if failure.again_at > now}

    def failure(self, key: Key) -> Failure | None:
        """The last failure of `key`, if it has not succeeded since."""
        return self._failures.get(key)

    def lasting(self, key: Key) -> str:
        """Why `key` fails repeatedly, or empty."""
        failure = self._failures.get(key)
        return failure.text if failure is not None and failure.is_lasting else ""

    def reasons(self) -> list[str]:
        """One sentence for each repeated failure; the last one counts those left out."""
        with self._lock:
            kept = dict(self._failures)
        is_current = self._is_current
        lasting = {
            (f.what, f.text): f
            for key, f in kept.items()
            if f.is_lasting and (is_current is None or key is _WHOLE_STEP or is_current(key))
        }
        found = [f"{f.what}: {f.text}" for f in list(lasting.values())[:_SHOWN_FAILURES]]
        if len(lasting) > _SHOWN_FAILURES:
            found.append(f"{self.name}: {len(lasting) - _SHOWN_FAILURES} more failures")
        return found


class Worker:
    """One thread that runs `step` when woken, or after the seconds that the last step returned (None: only when
    woken). A step that raises runs again after a pause, which wake-ups do not shorten."""

    def __init__(self, work: Work[Any], step: Callable[[], float | None]) -> None:
        self._work = work
        self._step = step
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=work.name, daemon=True)
        metrics.background_alive.labels(work.name).set_function(lambda: not self.has_died)

    @property
    def name(self) -> str:
        return self._work.name

    @property
    def has_died(self) -> bool:
        """Whether the thread ended without being stopped."""
        was_started = self._thread.ident is not None
        return was_started and not self._thread.is_alive() and not self._stopping.is_set()

    @property
    def is_stopping(self) -> bool:
        """A long step checks this, to end early."""
        return self._stopping.is_set()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Called when there may be work."""
        self._wake.set()

    def pause(self, seconds: float) -> bool:
        """Sleeps inside a step; returns True, at once, if the step is to end."""
        return self._stopping.wait(seconds)

    def ask_to_stop(self) -> None:
        """Starts no further step."""
        self._stopping.set()
        self._wake.set()

    def stop(self, deadline: float) -> bool:
        """Ends after the current step; False if that still runs at `deadline` (time.monotonic)."""
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before the step, so that a wake-up during it runs another
            try:
                seconds = self._step()
            except Exception as error:  # noqa: BLE001 - the thread must outlive its step; the failure is kept
                self._work.failed([_WHOLE_STEP], self.name, error)
                failure = self._work.failure(_WHOLE_STEP)
                self.pause(FIRST_SECONDS if failure is None else failure.again_at - time.monotonic())
            else:
                self._work.succeeded([_WHOLE_STEP])
                self._wake.wait(seconds)


class Supervisor:
    """All background work of one engine."""

    def __init__(self) -> None:
        self._works: dict[str, Work[Any]] = {}
        self._workers: list[Worker] = []

    def work(self, name: str, is_current: Callable[[Any], bool] | None = None) -> Work[Any]:
        """The failures of a kind of work that runs in threads of the caller, such as a pool; see Work."""
        if name not in self._works:
            self._works[name] = Work(name, is_current)
        return self._works[name]

    def worker(self, name: str, step: Callable[[], float | None]) -> Worker:
        """A thread for the caller to start; its failures are in `work(name)`."""
        worker = Worker(self.work(name), step)
        self._workers.append(worker)
        return worker

    def dead(self) -> list[str]:
        """One sentence for each thread that ended without being stopped."""
        return [f"the thread of {w.name} has ended" for w in self._workers if w.has_died]

    def failing(self) -> list[str]:
        """Repeated failures, as sentences."""
        return [reason for work in list(self._works.values()) for reason in work.reasons()]

    def stop(self, deadline: float) -> bool:
        """Stops all workers in parallel; False if one still runs at `deadline` (time.monotonic)."""
        for worker in self._workers:
            worker.ask_to_stop()
        return all(worker.stop(deadline) for worker in self._workers)
