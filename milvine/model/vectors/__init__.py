"""The kinds of vectors: what each is in a column, in a file, in a message and in JSON, and its rules.

How the vectors of a kind are compared is in `index.exact`.
"""

from milvine.model.vectors.base import VectorKind
from milvine.model.vectors.registry import KINDS, kind_of

__all__ = ["KINDS", "VectorKind", "kind_of"]
