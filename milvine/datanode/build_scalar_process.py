"""Builds one scalar index from a segment's column; runs in a child process, if there are many rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milvine.analysis import dictionaries
from milvine.index import scalar
from milvine.index.scalar_registry import BUILT_TYPES
from milvine.index.scalar_type import DATA_TYPE
from milvine.model.types import DataType
from milvine.storage.resource_files import ResourceFiles
from milvine.storage.segment_files import open_column, save_scalar_index


def build_scalar(order: dict[str, Any]) -> None:
    """`order`: column, output (paths), build_type, build_params."""
    params = order["build_params"]
    column, _ = open_column(Path(order["column"]), DataType(params[DATA_TYPE]), resident=True)
    indexes = BUILT_TYPES[order["build_type"]].build(column, params)
    save_scalar_index(Path(order["output"]), *scalar.encode(indexes))


def build_scalar_in_child(order: dict[str, Any]) -> None:
    """`order`, further: data_dir, file_resources (those that the analyzer names, by name)."""
    dictionaries.install(ResourceFiles(Path(order["data_dir"]), order["file_resources"].get))
    build_scalar(order)
