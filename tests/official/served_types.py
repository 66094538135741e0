"""A plugin for pytest: leaves GEOMETRY and TIMESTAMPTZ out of the types that setups of Milvus's tests make fields of.

Rows keep their values, which then belong to dynamic fields.
"""

from __future__ import annotations

from common import common_type  # type: ignore[import-not-found]  # of the tests that are run
from pymilvus import DataType

_UNSERVED = {DataType.GEOMETRY, DataType.TIMESTAMPTZ}
common_type.all_scalar_data_types = [one for one in common_type.all_scalar_data_types if one not in _UNSERVED]
