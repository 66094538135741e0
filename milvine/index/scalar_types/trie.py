"""Trie and its other names: texts."""

from __future__ import annotations

from milvine.errors import ParameterInvalid
from milvine.index.scalar_type import ScalarType
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType


class Trie(ScalarType):
    def check_field(self, field: FieldSchema) -> None:
        if field.data_type is not DataType.VARCHAR:
            raise ParameterInvalid("TRIE are only supported on varchar field")


class UnmappedTrie(Trie):
    can_map = False


TYPES = (Trie("Trie"), UnmappedTrie("TRIE"), UnmappedTrie("marisa-trie"))
