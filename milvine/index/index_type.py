"""What an index type of a vector field is: its parameters, the vectors it takes, building, opening, memory and effort.

Each type is a module of `types/` with one object, `TYPE`, and a line in `registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from milvine.index.base import Effort, VectorIndex
from milvine.index.exact import Exact, exact_of
from milvine.index.params import Param, depth
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType

MIN_INDEXED_ROWS = 1024
"""Smaller segments are scanned; an index over them would be slower and less exact (Milvus does the same)."""
DEFAULT_EF = 64
DEFAULT_NPROBE = 8


class IndexType(ABC):
    """`build` and `save` run in a process of their own."""

    name: ClassVar[str]
    data_types: ClassVar[frozenset[DataType]]
    metrics: ClassVar[frozenset[MetricType]]
    params: ClassVar[Mapping[str, Param]] = {}
    """The parameters of a build; others are ignored."""
    metric_params: ClassVar[Mapping[MetricType, Mapping[str, Param]]] = {}
    """More parameters, of builds with this metric."""
    auto: ClassVar[Mapping[DataType, Mapping[str, Any]]] = {}
    """The kinds of vectors for which AUTOINDEX means this type, and its build parameters then. `ef` and `nprobe` among
    them are the effort of searches that give none."""
    auto_codes: ClassVar[Mapping[DataType, Mapping[str, Any]]] = {}
    """As `auto`, where memory matters more than speed."""
    auto_metrics: ClassVar[frozenset[MetricType] | None] = None
    """Of these kinds, only vectors with these metrics; None: with all that the type takes."""
    is_resident: ClassVar[bool] = True
    """Whether the pages of a file in memory are read in when it is opened. Otherwise the file is mapped wherever it is
    placed, and `memory_bytes` is what `open` copies."""
    candidates_factor: ClassVar[int | None] = None
    """A search measures this many times `depth` rows if no parameter gives a number, since codes cannot order near
    rows. None: once, or twice if the vectors themselves are narrow."""

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:  # noqa: B027 - most have no rule
        """Raises ParameterInvalid if the parameters do not fit the field."""

    def needs_build(self, row_count: int) -> bool:
        """Whether that many vectors are worth an index; otherwise they are scanned."""
        return row_count >= MIN_INDEXED_ROWS

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        """The effort of a search for k rows. Raises UnexpectedError, as Milvus returns knowhere's refusals, if a
        parameter of the type is out of range; unknown parameters are ignored."""
        candidates = self.usual_candidates(k, data_type)
        return Effort(candidates, DEFAULT_NPROBE, candidates)

    def exact(self, build_params: Mapping[str, Any], params: Mapping[str, Any], field: FieldSchema) -> Exact:
        """How a search compares vectors where no index does, and candidates. Raises UnexpectedError as `effort`."""
        return exact_of(field)

    def usual_candidates(self, k: int, data_type: DataType) -> int:
        factor = self.candidates_factor or (1 if data_type is DataType.FLOAT_VECTOR else 2)
        return max(DEFAULT_EF, depth(k) * factor)

    @abstractmethod
    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        """An index over the values of a column of `data_type`, for floats (n, dim). It can only be saved."""

    @abstractmethod
    def save(self, built: Any, path: Path) -> None:
        """Writes the index. The caller adds the footer and syncs."""

    @abstractmethod
    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        """`payload` must be verified first. Raises DataIntegrityError, naming the file."""

    @abstractmethod
    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        """The most bytes that an index will hold in memory, read from its file. It may have fewer rows than the
        segment; `dim` is 0 for vectors without one."""


class ScannedType(IndexType):
    """A type without an index: all rows are scanned."""

    def needs_build(self, row_count: int) -> bool:
        return False

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        raise self._not_built()

    def save(self, built: Any, path: Path) -> None:
        raise self._not_built()

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        raise self._not_built()

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return 0

    def _not_built(self) -> ValueError:
        return ValueError(f"{self.name} is not built")
