"""Errors cross process boundaries: each class keeps its code, its text and its flags."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from milvine import errors
from milvine.errors import MilvineError
from milvine.querynode.remote import messages

_CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, MilvineError)), key=lambda c: c.__name__
)
_SAMPLES: dict[str, Any] = {
    "Failure": errors.Failure.DROP_ROLE,
    "PermissionDenied": errors.PermissionDenied("Load", "ann", "shop"),
    "RejectedByLimiter": errors.RateExceeded(1.5),
    "float": 2.5,
    "int": 7,
    "object": "a thing",
    "str": "a text",
    "str | None": "a text",
}


def _made(kind: type[MilvineError]) -> MilvineError:
    """An error of the class, with a value for every parameter."""
    positional, named = [], {}
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        sample = _SAMPLES[str(parameter.annotation)]
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            named[parameter.name] = sample
        else:
            positional.append(sample)
    return kind(*positional, **named)


def _seen(error: MilvineError) -> tuple[Any, ...]:
    """All that the adapters read."""
    return type(error), error.code, error.legacy_code, error.message, error.retriable, error.is_input_error


def _copied(error: MilvineError) -> MilvineError:
    copy: MilvineError = pickle.loads(pickle.dumps(error))
    return copy


def _received(error: MilvineError) -> MilvineError:
    with pytest.raises(MilvineError) as caught:
        messages.decode_result(messages.encode_error(error))
    return caught.value


@pytest.mark.parametrize("kind", _CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[MilvineError]) -> None:
    error = _made(kind)
    assert _seen(_copied(error)) == _seen(error)
    prefixed = error.prefixed("node 7")
    assert _seen(_copied(prefixed)) == _seen(prefixed)


@pytest.mark.parametrize("kind", _CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_of_a_query_node_arrives_as_it_was(kind: type[MilvineError]) -> None:
    error = _made(kind)
    assert _seen(_received(error)) == _seen(error)
    prefixed = error.prefixed("node 7")
    assert _seen(_received(prefixed)) == _seen(prefixed)


def test_the_code_of_one_error_survives_pickling() -> None:
    refused = errors.AccessChangeRefused(errors.Failure.DROP_ROLE, "it is in use")
    assert _copied(refused).legacy_code == errors.Failure.DROP_ROLE
    limited = errors.RestV1Rejected(errors.RateExceeded(1.5))
    assert _copied(limited).code == errors.RateExceeded.code


def test_an_error_with_a_prefix_keeps_its_code() -> None:
    refused = errors.AccessChangeRefused(errors.Failure.DROP_ROLE, "it is in use")
    assert refused.prefixed("role ann").legacy_code == errors.Failure.DROP_ROLE
