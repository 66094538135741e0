"""AUTOINDEX of a field that is not a vector."""

from __future__ import annotations

from milvine.index.params import AUTOINDEX
from milvine.index.scalar_type import ScalarType


class Auto(ScalarType):
    casts = ("BOOL", "DOUBLE", "VARCHAR", "JSON")
    refused_cast = "json_cast_type {} is not supported for HYBRID index"


TYPE = Auto(AUTOINDEX)
