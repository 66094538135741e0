"""What the providers of models have in common: parameters of functions, keys, URLs, lists in answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from milvine.errors import ParameterInvalid, excerpt
from milvine.model.properties import parse_bool
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient, unreadable

_MAX_BATCH = 1024
"""More texts are never sent at once: with those of a VARCHAR field a body then has 64 MB at most."""
_MAX_DIGITS = 18
_BATCH_PARAM = "max_client_batch_size"
_HUGGING_FACE_INFERENCE = "hf-inference"
HUGGING_FACE_URL = "https://router.huggingface.co"


def as_whole_number(text: str) -> int | None:
    """None if the text is no number of 64 bits."""
    digits = text.removeprefix("-").removeprefix("+")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None


def whole_number(key: str, text: str) -> int:
    number = as_whole_number(text)
    if number is None:
        raise ParameterInvalid(f"[{key} param's value: {excerpt(text)}] is not a valid number")
    return number


def truth(key: str, text: str) -> bool:
    flag = parse_bool(text)
    if flag is None:
        raise ParameterInvalid(f"[{key} param's value: {text}] is invalid, only supports: [true/false]")
    return flag


def side(key: str, text: str) -> str:
    if text not in ("Left", "Right"):
        raise ParameterInvalid(f"[{key} param's value: {text}] is not invalid, only supports [Left/Right]")
    return text


def batch_size(params: Mapping[str, str], default: int) -> int:
    """How many texts a call sends at most."""
    if _BATCH_PARAM not in params:
        return default
    text = params[_BATCH_PARAM]
    size = whole_number(_BATCH_PARAM, text)
    if size <= 0:
        raise ParameterInvalid(f"[{_BATCH_PARAM} param's value: {text}] must be greater than 0")
    return min(size, _MAX_BATCH)


def options_of(params: Mapping[str, str], readers: Mapping[str, Callable[[str, str], Any]]) -> dict[str, Any]:
    """The parameters that are sent, in the order of their readers."""
    return {name: read(name, params[name]) for name, read in readers.items() if name in params}


def in_batches(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def key_of(access: Access, params: Mapping[str, str], name: str, variable: str) -> str:
    """The key of a service, "" if it needs none. `variable`: of the environment, "" if none is needed."""
    key = access.key(params, name, variable)
    if variable and not key:
        place = f"configure the {variable} environment variable in the Milvus service"
        raise ParameterInvalid(f"missing credentials config or {place}")
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def endpoint_url(client: ModelClient, params: Mapping[str, str], path: str) -> str:
    """The URL of a service that the caller names. Raises ParameterInvalid unless it may be called."""
    url = client.endpoint(params.get("endpoint", ""))
    return urlunsplit((url.scheme, url.netloc, path, url.query, ""))


def hugging_face_url(base: str, params: Mapping[str, str], *, kind: str, task: str) -> str:
    """`kind`: of model, as Milvus's texts name it."""
    chosen = params.get("hf_provider", _HUGGING_FACE_INFERENCE)
    if not chosen:
        raise ParameterInvalid(f"huggingface {kind} hf_provider cannot be empty")
    if chosen != _HUGGING_FACE_INFERENCE:
        raise ParameterInvalid(f"Hugging Face hf_provider only supports {_HUGGING_FACE_INFERENCE}")
    model = params["model_name"]
    if any(part in ("", ".", "..") for part in model.split("/")):
        raise ParameterInvalid("Hugging Face model name contains invalid path segment")
    url = urlsplit(base)
    path = f"{url.path.rstrip('/')}/{_HUGGING_FACE_INFERENCE}/models/{model}/pipeline/{task}"
    return urlunsplit((url.scheme, url.netloc, path, url.query, ""))


def list_in(answer: Any, steps: Sequence[str]) -> list[Any]:
    """The list of results at the end of a path of keys."""
    for step in steps:
        answer = answer.get(step) if isinstance(answer, dict) else None
    if not isinstance(answer, list):
        raise unreadable("the answer has no list of results")
    return answer
