"""Makes a directory of LanceDB: argv[1]."""

import sys

import lancedb
import numpy as np
import pyarrow as pa

rows = 300
numbers = np.random.default_rng(0).random(rows * 8, np.float32)
db = lancedb.connect(sys.argv[1])
db.create_table(
    "items",
    pa.table(
        {
            "id": pa.array(range(rows)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(numbers), 8),
            "half": pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(np.float16)), 8),
            "name": [f"n{i}" for i in range(rows)],
            "price": pa.array(np.arange(rows) / 7),
            "tags": [["x", str(i)] for i in range(rows)],
            "info": [{"a": i, "b": None} for i in range(rows)],
            "day": pa.array([1_700_000_000 + i for i in range(rows)], pa.timestamp("s")),
            "maybe": pa.array([None if i % 4 else i for i in range(rows)], pa.int32()),
            "blob": [b"x"] * rows,
        }
    ),
)
db.create_table("twice", [{"id": 1, "vector": [1.0, 2.0]}, {"id": 1, "vector": [3.0, 4.0]}])
