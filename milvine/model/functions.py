"""Functions of a schema, which make the values of fields from those of other fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum

from milvine.model.records import record

FIRST_FUNCTION_ID = 100


class FunctionType(IntEnum):
    """The numbers of `schema.FunctionType`."""

    UNKNOWN = 0
    BM25 = 1
    TEXT_EMBEDDING = 2
    RERANK = 3
    MIN_HASH = 4
    MOL_FINGERPRINT = 5

    @property
    def runs_here(self) -> bool:
        """Whether the engine makes the outputs, again for each version of a row. Other outputs come from a model, once
        for each text."""
        return self is not FunctionType.TEXT_EMBEDDING

    @property
    def milvus_name(self) -> str:
        """The name in requests and messages."""
        return _NAMES[self]


_NAMES = {
    FunctionType.UNKNOWN: "Unknown",
    FunctionType.BM25: "BM25",
    FunctionType.TEXT_EMBEDDING: "TextEmbedding",
    FunctionType.RERANK: "Rerank",
    FunctionType.MIN_HASH: "MinHash",
    FunctionType.MOL_FINGERPRINT: "MolFingerprint",
}


@record
class FunctionSchema:
    """One function. `inputs` and `outputs` are names of fields; `params` are kept as sent."""

    function_id: int
    name: str
    function_type: FunctionType
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    description: str = ""
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
