"""Children of the server end when their result is no longer wanted, however that is told."""

from __future__ import annotations

import os
import time

import pytest

from milvine.child import NotWanted, run_program
from milvine.errors import ImportFailed, ServiceInternal

SLEEPER = (["sleep", "60"], dict(os.environ))
SECONDS = 30.0


def test_a_child_ends_when_a_look_raises() -> None:
    """As that of an import whose time is over."""
    looks = iter([True])

    def is_wanted() -> bool:
        if next(looks, False):
            return True
        raise ImportFailed("import timeout expired")

    began = time.monotonic()
    with pytest.raises(ImportFailed, match="expired"):
        run_program("sleep", SLEEPER, None, is_wanted)
    assert time.monotonic() - began < SECONDS


def test_a_child_ends_when_it_is_not_wanted() -> None:
    looks = iter([True])
    began = time.monotonic()
    with pytest.raises(NotWanted):
        run_program("sleep", SLEEPER, None, lambda: next(looks, False))
    assert time.monotonic() - began < SECONDS


def test_a_child_that_fails_says_why() -> None:
    program = ["sh", "-c", "echo first >&2; echo the reason >&2; exit 3"], dict(os.environ)
    with pytest.raises(ServiceInternal, match="the task t ended with 3: the reason"):
        run_program("t", program, None, lambda: True)
