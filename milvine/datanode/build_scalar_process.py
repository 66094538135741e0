"""Builds one scalar index from a segment's column; runs in a child process, if there are many rows."""

from __future__ import annotations

from milvine.analysis import dictionaries
from milvine.datanode.build_order import BuildOrder
from milvine.index import scalar
from milvine.index.scalar_registry import BUILT_TYPES
from milvine.index.scalar_type import DATA_TYPE
from milvine.model.types import DataType
from milvine.storage.resource_files import ResourceFiles
from milvine.storage.segment_files import open_column, save_scalar_index


def build_scalar(order: BuildOrder) -> None:
    params = order.index.build_params
    column, _ = open_column(order.column, DataType(params[DATA_TYPE]), resident=True)
    indexes = BUILT_TYPES[order.index.build_type].build(column, params)
    save_scalar_index(order.output, *scalar.encode(indexes))


def build_scalar_in_child(order: BuildOrder) -> None:
    dictionaries.install(ResourceFiles(order.paths.root, order.resources.get))
    build_scalar(order)
