"""Reading the parameters of analyzers, and the refusals in Milvus's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import AnalyzerInvalid

Params = Mapping[str, Any]


def invalid_argument(detail: str) -> AnalyzerInvalid:
    return AnalyzerInvalid(f"InvalidArgument: {detail}")


def internal_error(detail: str) -> AnalyzerInvalid:
    return AnalyzerInvalid(f"InternalError: {detail}")


def absent_library(what: str, package: str, extra: str = "text") -> AnalyzerInvalid:
    """Why an analyzer is refused that needs a package which is not installed."""
    where = f"needs the Python package {package}, which the server's environment lacks"
    return AnalyzerInvalid(f"{what} {where}: pip install 'milvine[{extra}]'")


def strings_of(value: Any, label: str) -> list[str]:
    if not isinstance(value, list):
        raise internal_error(f"{label} should be array")
    if not all(isinstance(item, str) for item in value):
        raise internal_error(f"{label} list item should be string")
    return value
