"""Numbers written as texts in JSON: `"99.5"`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model.json_paths import JsonKind, PathColumn

_NUMBER = r"^[ \t\n\v\f\r]*(?:\+?(?P<plus>{0})|(?P<minus>-{0}))".format(
    r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
)
"""What follows the number is ignored, as C's strtod does."""
_HEXADECIMAL = r"^[ \t\n\v\f\r]*[+-]?0[xX]"


def with_numbers(column: PathColumn) -> PathColumn:
    """The same values, but texts that start with a decimal number, perhaps after blanks, are DOUBLE. No texts."""
    if column.strings is None:
        return column
    found = pc.extract_regex(column.strings, _NUMBER)
    parts = [pc.struct_field(found, name) for name in ("plus", "minus")]
    texts = pc.binary_join_element_wise(*(pc.fill_null(part, "") for part in parts), "")
    is_decimal = pc.and_not(pc.not_equal(texts, ""), pc.match_substring_regex(column.strings, _HEXADECIMAL))
    rows = np.flatnonzero(pc.fill_null(is_decimal, False).to_numpy(zero_copy_only=False))
    numbers = pc.cast(texts.take(pa.array(rows)), pa.float64()).to_numpy()
    rows, numbers = rows[np.isfinite(numbers)], numbers[np.isfinite(numbers)]
    doubles = np.zeros(len(column)) if column.doubles is None else column.doubles.copy()
    doubles[rows] = numbers
    kinds = column.kinds.copy()
    kinds[rows] = JsonKind.DOUBLE
    return PathColumn(kinds, column.integers, doubles, None)
