"""Workers outlive failing steps, failing keys wait for their retry, and the supervisor reports both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from milvine import background, metrics
from milvine.background import Supervisor, Work
from milvine.errors import ServiceInternal

WAIT_SECONDS = 30.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def later() -> float:
    return time.monotonic() + WAIT_SECONDS


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_SECONDS", 0.01)


def test_a_step_that_raises_runs_again_and_is_reported_until_it_succeeds() -> None:
    supervisor = Supervisor()
    is_broken = threading.Event()
    is_broken.set()
    steps = []

    def step() -> float:
        steps.append(1)
        if is_broken.is_set():
            raise RuntimeError("broken")
        return 0.01

    worker = supervisor.worker("one", step)
    worker.start()
    until(supervisor.failing)
    assert supervisor.failing() == ["one: RuntimeError: broken"]
    is_broken.clear()
    until(lambda: not supervisor.failing())
    assert len(steps) > 2
    assert worker.stop(later())
    assert supervisor.dead() == []


def test_a_worker_without_an_interval_runs_when_woken_and_a_wake_up_during_a_step_is_kept() -> None:
    entered, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> None:
        entered.release()
        go_on.acquire()

    worker = Supervisor().worker("two", step)
    worker.start()
    assert entered.acquire(timeout=WAIT_SECONDS)
    worker.wake()
    go_on.release()
    assert entered.acquire(timeout=WAIT_SECONDS), "a wake-up during the step was lost"
    go_on.release()
    assert not entered.acquire(timeout=0.05)
    worker.wake()
    assert entered.acquire(timeout=WAIT_SECONDS)
    go_on.release()
    assert worker.stop(later())


def test_all_workers_stop_and_one_that_does_not_is_reported() -> None:
    supervisor = Supervisor()
    go_on = threading.Event()
    workers = [supervisor.worker(name, step) for name, step in (("a", lambda: None), ("b", lambda: go_on.wait(60)))]
    supervisor.worker("never started", lambda: None)
    for worker in workers:
        worker.start()
    assert not supervisor.stop(time.monotonic() + 0.05)
    go_on.set()
    assert supervisor.stop(later())


def test_a_sleeping_step_is_woken_by_a_stop() -> None:
    supervisor = Supervisor()
    slept: list[bool] = []
    worker = supervisor.worker("sleeper", lambda: slept.append(worker.pause(600)))
    worker.start()
    assert supervisor.stop(later())
    assert slept in ([True], [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_without_being_stopped_is_dead() -> None:
    supervisor = Supervisor()

    def step() -> None:
        raise SystemExit

    supervisor.worker("dying", step).start()
    until(supervisor.dead)
    assert supervisor.dead() == ["the thread of dying has ended"]
    assert 'milvine_background_alive{work="dying"} 0.0' in metrics.exposition().decode()


def test_a_failing_key_waits_longer_each_time_and_other_keys_are_unaffected() -> None:
    work: Work[int] = Work("three")
    work.failed([1], "flush of collection a", ServiceInternal("no"), spent_seconds=60)
    assert work.waiting() == {1}
    assert work.reasons() == [] and work.lasting(1) == "", "a first failure may be an accident"
    work.failed([1], "flush of collection a", ServiceInternal("no"), spent_seconds=60)
    assert work.reasons() == ["flush of collection a: no: service internal error"]
    assert 'milvine_background_failing{work="three"} 1.0' in metrics.exposition().decode()
    work.succeeded([1, 2])
    assert not work.waiting() and not work.reasons()


def test_a_final_failure_is_reported_at_once_and_removed_with_its_key() -> None:
    work: Work[int] = Work("four")
    work.failed([1, 2], "collection b cannot be opened", ServiceInternal("damaged"), is_final=True)
    assert work.waiting() == {1, 2}
    assert work.reasons() == ["collection b cannot be opened: damaged: service internal error"]
    work.retain({3})
    assert not work.waiting()


def test_a_thousand_failures_are_summarised_in_a_few_reasons() -> None:
    work: Work[int] = Work("five")
    for key in range(1000):
        work.failed([key], f"collection {key}", ServiceInternal("damaged"), is_final=True)
    assert len(work.reasons()) == 11
    assert work.reasons()[-1] == "five: 990 more failures"


def test_failures_of_removed_keys_are_not_reported() -> None:
    there = {1, 2}
    work = Supervisor().work("gone", lambda key: key in there)
    work.failed([1], "the first", OSError("no"), is_final=True)
    work.failed([2], "the second", OSError("no"), is_final=True)
    assert work.reasons() == ["the first: no", "the second: no"]
    there.remove(1)
    assert work.reasons() == ["the second: no"]
