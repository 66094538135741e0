"""The progress of an opening: counted by many threads, and ended by one call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from milvine.querynode.opening_progress import OpeningProgress


def test_bytes_of_all_threads_are_counted() -> None:
    progress = OpeningProgress()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(progress.add, [3] * 1000))
    assert progress.bytes_read == 3000


def test_a_cancellation_stops_what_runs_once_and_what_begins_later() -> None:
    progress, stopped = OpeningProgress(), list[str]()
    with progress.stopped_by(lambda: stopped.append("ended")):
        pass
    with progress.stopped_by(lambda: stopped.append("running")):
        assert not progress.is_cancelled
        progress.cancel()
    with progress.stopped_by(lambda: stopped.append("late")):
        pass
    assert stopped == ["running", "late"]
    assert progress.is_cancelled
