"""The tokenizer `grpc`, which asks another server."""

from __future__ import annotations

from typing import NoReturn

from milvine.analysis.params import Params, invalid_argument


def grpc(params: Params | None) -> NoReturn:
    """Raises AnalyzerInvalid: no other server is asked."""
    if params is None:
        raise invalid_argument("grpc tokenizer must be customized")
    raise invalid_argument("the tokenizer grpc is not supported by this version of Milvine")
