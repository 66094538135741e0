"""One read over nodes that answer, fail, refuse, lag or are silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from milvine.errors import ParameterInvalid
from milvine.querynode.node import NodeBehind, SegmentNotHeld
from milvine.querynode.remote.fan_out import FanOut, NoAnswer, Routes
from milvine.querynode.remote.messages import encode_error, encode_result
from milvine.querynode.remote.rpc import Unreachable

HEDGE_SECONDS, LONG_SECONDS = 0.05, 0.5
HERE = 1


class Call:
    """A call whose answer comes after `seconds`, or never."""

    def __init__(self, answer: bytes | Unreachable, seconds: float | None) -> None:
        self._answer = answer
        self._seconds = seconds
        self.is_cancelled = False

    def on_end(self, then: Callable[[], None]) -> None:
        if self._seconds == 0:
            then()
        elif self._seconds is not None:
            threading.Timer(self._seconds, then).start()

    def cancel(self) -> None:
        self.is_cancelled = True

    def result(self) -> bytes:
        if isinstance(self._answer, Unreachable):
            raise self._answer
        return self._answer


class Nodes:
    """Each node holds every segment and answers by its call; an exception is raised when the call begins."""

    def __init__(self, **calls: Call | Unreachable) -> None:
        self.calls = {int(name.removeprefix("node")): call for name, call in calls.items()}
        self.asked: list[int] = []
        self.failures: list[int] = []
        self.answers: list[int] = []
        self.heard: set[int] = set()

    def routes(self, segment_ids: Sequence[int], tried: frozenset[int]) -> Routes | None:
        left = [i for i in self.calls if i not in tried]
        return {left[0]: tuple(segment_ids)} if left else None

    def begin(self, node_id: int, segment_ids: tuple[int, ...], tried: frozenset[int]) -> Any:
        assert node_id in tried
        self.asked.append(node_id)
        call = self.calls[node_id]
        if isinstance(call, Unreachable):
            raise call
        return None if node_id == HERE else call

    def read_here(self, segment_ids: tuple[int, ...]) -> Any:
        return f"here {segment_ids}"

    def hedge_seconds(self, node_id: int, since: float) -> float:
        return LONG_SECONDS if node_id in self.heard else HEDGE_SECONDS

    def answered(self, node_id: int, seconds: float) -> None:
        self.answers.append(node_id)

    def failed(self, node_id: int) -> None:
        self.failures.append(node_id)


def answering(text: str, seconds: float | None = 0) -> Call:
    return Call(encode_result(text), seconds)


def raising(error: Exception) -> Call:
    return Call(encode_error(error), 0)


def run(nodes: Nodes, seconds: float = 5.0) -> Any:
    return FanOut(nodes, time.monotonic() + seconds).run([7, 8])


def test_an_answer_ends_the_read_and_nobody_else_is_asked() -> None:
    nodes = Nodes(node2=answering("a"), node3=answering("b"))
    assert run(nodes) == ["a"]
    assert (nodes.asked, nodes.answers, nodes.failures) == ([2], [2], [])


@pytest.mark.parametrize("call", [Unreachable("refused"), Call(Unreachable("broken"), 0)])
def test_a_broken_connection_is_read_elsewhere(call: Any) -> None:
    nodes = Nodes(node2=call, node3=answering("b"))
    assert run(nodes) == ["b"]
    assert nodes.asked == [2, 3]


@pytest.mark.parametrize("error", [SegmentNotHeld("7"), NodeBehind("deletes are missing")])
def test_a_node_that_cannot_read_is_replaced_by_another(error: Exception) -> None:
    nodes = Nodes(node2=raising(error), node3=answering("b"))
    assert run(nodes) == ["b"]
    assert nodes.failures == []


def test_a_silent_node_is_asked_beside_another_after_the_hedge_time() -> None:
    silent = answering("a", None)
    nodes = Nodes(node2=silent, node3=answering("b"))
    started = time.monotonic()
    assert run(nodes) == ["b"]
    assert time.monotonic() - started >= HEDGE_SECONDS
    assert (nodes.failures, silent.is_cancelled) == ([2], True)


def test_a_node_that_was_heard_meanwhile_gets_more_time() -> None:
    nodes = Nodes(node2=answering("a", 3 * HEDGE_SECONDS), node3=answering("b"))
    nodes.heard = {2}
    assert run(nodes) == ["a"]
    nodes = Nodes(node2=answering("a", None), node3=answering("b"))
    nodes.heard = {2}
    started = time.monotonic()
    assert run(nodes) == ["b"]
    assert time.monotonic() - started >= LONG_SECONDS


def test_the_slow_node_may_still_be_the_first_to_answer() -> None:
    nodes = Nodes(node2=answering("a", 2 * HEDGE_SECONDS), node3=answering("b", None))
    assert run(nodes) == ["a"]
    assert nodes.asked == [2, 3]


def test_a_slow_node_without_another_holder_is_waited_for() -> None:
    assert run(Nodes(node2=answering("a", 3 * HEDGE_SECONDS))) == ["a"]


def test_what_no_node_answers_the_head_reads_if_it_holds_it() -> None:
    assert run(Nodes(node2=Unreachable("gone"), node1=answering("unused"))) == ["here (7, 8)"]


def test_holders_that_lag_or_are_away_may_be_asked_again() -> None:
    with pytest.raises(NoAnswer):
        run(Nodes(node2=raising(NodeBehind("deletes are missing")), node3=Unreachable("gone")))


def test_a_holder_that_refuses_is_no_holder() -> None:
    with pytest.raises(SegmentNotHeld) as caught:
        run(Nodes(node2=raising(SegmentNotHeld("7")), node3=Unreachable("gone")))
    assert not isinstance(caught.value, NoAnswer)


def test_no_answer_until_the_deadline_ends_the_read() -> None:
    silent = answering("a", None)
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        run(Nodes(node2=silent), seconds=0.1)
    assert 0.1 <= time.monotonic() - started < 2.0
    assert silent.is_cancelled


def test_an_error_of_the_read_itself_is_raised_and_asked_of_nobody_else() -> None:
    nodes = Nodes(node2=raising(ParameterInvalid("bad")), node3=answering("b"))
    with pytest.raises(ParameterInvalid, match="bad"):
        run(nodes)
    assert nodes.asked == [2]
