"""The threads of the front that rest, without a server."""

from __future__ import annotations

import threading
import time
import weakref
from queue import Empty, SimpleQueue

from milvine.front_threads import FrontThreads
from milvine.grpc_api.wire import taken
from milvine.intake import Intake


class Front:
    """Threads that answer requests of one queue, as the front's do."""

    def __init__(self, count: int) -> None:
        self.inside: list[None] = []
        self.threads = FrontThreads(count, self.inside)
        self.requests: SimpleQueue[tuple[threading.Event, threading.Event]] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            began, may_end = self.requests.get()
            self.inside.append(None)
            self.threads.request_began()
            began.set()
            may_end.wait()
            self.inside.pop()
            self.threads.rest()

    def send(self) -> tuple[threading.Event, threading.Event]:
        request = threading.Event(), threading.Event()
        self.requests.put(request)
        return request


def test_threads_rest_while_enough_others_wait() -> None:
    front = Front(40)
    for _ in range(200):
        began, may_end = front.send()
        may_end.set()
        assert began.wait(10)
    deadline = time.monotonic() + 10
    while front.threads.waiting > 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 2 <= front.threads.waiting <= 6


def test_resting_threads_wake_for_as_many_requests_as_there_are_threads() -> None:
    front = Front(40)
    for _ in range(20):
        for _ in range(50):
            front.send()[1].set()
        held = [front.send() for _ in range(40)]
        assert all(began.wait(10) for began, _ in held)
        for _, may_end in held:
            may_end.set()


def test_a_crowd_that_comes_and_goes_is_answered() -> None:
    front = Front(30)
    failures: SimpleQueue[str] = SimpleQueue()

    def client() -> None:
        for _ in range(300):
            began, may_end = front.send()
            may_end.set()
            if not began.wait(20):
                failures.put("not answered")
                return

    clients = [threading.Thread(target=client) for _ in range(24)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    try:
        raise AssertionError(failures.get(block=False))
    except Empty:
        pass


class Subject:
    """A decoded request, perhaps of 256 MB."""


def test_a_thread_that_rests_keeps_nothing_of_its_request() -> None:
    intake = Intake(4, 1 << 20)

    def answer() -> None:
        with intake.visit() as visit:
            visit.subject = subjects.pop()
            rest = taken(visit.threads)
        del visit
        list(rest)

    subjects = [Subject()]
    subject = weakref.ref(subjects[0])
    waiting = intake.threads.waiting
    threading.Thread(target=answer, daemon=True).start()
    deadline = time.monotonic() + 10
    while (subjects or intake.inside or intake.threads.waiting == waiting) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert intake.threads.waiting == waiting - 1, "the thread rests"
    assert subject() is None
