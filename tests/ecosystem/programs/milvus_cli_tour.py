"""milvus-cli's commands, with the answers that a user types, against the server whose address is the argument.

Left out: `insert row`, which sends texts for numbers, and `bulk_insert`, whose files must be where the server reads.
"""

import csv
import json
import os
import shlex
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HOME"] = tempfile.mkdtemp()  # milvus-cli keeps a history there

from click.testing import CliRunner
from milvus_cli.scripts.milvus_client_cli import cli

URI = sys.argv[1]
UNIQUE = uuid.uuid4().hex[:8]
NAME, DATABASE, USER, ROLE, GROUP = (f"cli_{kind}_{UNIQUE}" for kind in ("rows", "db", "user", "role", "group"))
RUNNER = CliRunner()


def run(command: str, *answers: object, expect: str = "") -> str:
    """What the command prints, which must hold the expected text and tell no error."""
    done = RUNNER.invoke(cli, shlex.split(command), input="".join(f"{answer}\n" for answer in answers))
    said = f"{command}: {done.output} {done.exception!r}"
    assert done.exit_code == 0, said
    assert "error" not in done.output.lower(), said
    assert "exception" not in done.output.lower(), said
    assert expect in done.output, said
    return done.output


@contextmanager
def file(name: str, text: str) -> Iterator[Path]:
    path = Path(os.environ["HOME"]) / name
    path.write_text(text)
    yield path
    path.unlink()


def collection() -> None:
    fields = """[
        {"name": "id", "type": "INT64", "is_primary": true},
        {"name": "price", "type": "DOUBLE"},
        {"name": "kind", "type": "VARCHAR", "max_length": 20},
        {"name": "vector", "type": "FLOAT_VECTOR", "dim": 2},
        {"name": "words", "type": "SPARSE_FLOAT_VECTOR"}]"""
    with file(
        "schema.json", f'{{"collection_name": "{NAME}", "fields": {fields}, "description": "of the tour"}}'
    ) as path:
        run(f"create collection --schema-file {path}")
    run("list collections", expect=NAME)
    run(f"show collection -c {NAME}", expect="of the tour")
    run("create index", NAME, "vector", "vector", "HNSW", "L2", 8, 64, expect="Create index successfully")
    run("create index", NAME, "words", "words", "SPARSE_INVERTED_INDEX", "IP", 0.2, expect="Create index successfully")
    run("create index", NAME, "price", "price", "STL_SORT", "", expect="Create index successfully")
    run(f"list indexes -c {NAME}", expect="HNSW")
    run(f"show index -c {NAME} -in vector", expect="HNSW")
    run(f"load collection -c {NAME}")
    run(f"show loading_progress -c {NAME}", expect="100")
    run(f"show load_state -c {NAME}", expect="Loaded")


def data() -> None:
    rows = [[i, i / 2, f"k{i % 2}", [i, 1.0], {"0": 1.0, f"{i + 1}": 2.0}] for i in range(20)]
    with file("rows.csv", "id,price,kind,vector,words\n") as path:
        with path.open("a", newline="") as written:
            csv.writer(written).writerows([json.dumps(cell) for cell in row] for row in rows)
        run(f"insert file -c {NAME} {path}", expect="20")
    run("upsert row", NAME, "_default", 100, 2.5, "k9", "[100.0, 1.0]", '{"0": 1.0}')
    with file("more.csv", "id,price,kind,vector,words\n") as path:
        with path.open("a", newline="") as written:
            csv.writer(written).writerow([json.dumps(cell) for cell in [101, 4.5, "k8", [101.0, 1.0], {"0": 1.0}]])
        run(f"upsert file -c {NAME} {path}")
    run(f"flush -c {NAME}")
    run(f"show flush_state -c {NAME}")
    run("flush_all")
    run(f"wait_for_index -c {NAME} -in vector")
    run(f"show index_progress -c {NAME} -in vector")
    run(f"show collection_stats -c {NAME}", expect="row_count")
    run("set output json", expect="json")
    run("query", NAME, "id > 15 and kind == 'k1'", "", "id,price", "", 0, 5, expect='"price": 8.5')
    run("set output table")
    run("get", NAME, "[100]", "id,price", expect="2.5")
    run("search", NAME, "vector", "[7.0, 1.0]", 64, "", -1, 1, "price < 100", "", "id,kind", 0, expect="'kind': 'k1'")
    one, other = ("vector", "[7.0, 1.0]", 5, "", "L2", "{}"), ("words", '{"8": 1.0}', 5, "", "IP", "{}")
    run("hybrid_search", NAME, *one, "y", *other, "n", "RRF", 60, 3, "id", expect="7")
    run("query_iterator", NAME, "id >= 0", "id", 8, 20, "y", "y", "y", expect="Total results retrieved: 20")
    run(
        "search_iterator",
        NAME,
        "vector",
        "[0.0, 1.0]",
        5,
        10,
        "",
        "id",
        "y",
        "y",
        "y",
        expect="Total results retrieved: 10",
    )
    run(f"delete ids -c {NAME}", "[1, 2]", "y")
    run(f"delete entities -c {NAME}", "id in [3]", "y")
    run("query", NAME, "id in [1, 2, 3]", "", "", "", 0, 5, expect="No results found")


def upkeep() -> None:
    compaction = run(f"compact -c {NAME}")
    number = next(word for word in compaction.replace(":", " ").split() if word.isdigit())
    run(f"show compaction_state -id {number}")
    run(f"show compaction_plans -c {NAME} -id {number}")
    run(f"show replicas -c {NAME}")
    run(f"show query_segment_info -c {NAME}")
    run(f"create alias -c {NAME} -a {NAME}_alias")
    run(f"list aliases -c {NAME}", expect=f"{NAME}_alias")
    run(f"show alias -a {NAME}_alias", expect=NAME)
    run(f"delete alias -a {NAME}_alias", "y")
    run(f"create partition -c {NAME} -p more")
    run(f"list partitions -c {NAME}", expect="more")
    run(f"show partition -c {NAME} -p more")
    run(f"show partition_stats -c {NAME} -p more", expect="row_count")
    run(f"load partition -c {NAME} -p more")
    run(f"release partition -c {NAME} -p more")
    run(f"delete partition -c {NAME} -p more", "y")
    run(f"alter collection_properties -c {NAME}", "collection.ttl.seconds", 3600, "n")
    run(f"delete collection_properties -c {NAME} -k collection.ttl.seconds")
    run(f"release collection -c {NAME}")
    run(f"alter collection_field -c {NAME} -f kind", "max_length", 40, "n")
    run(f"delete index -c {NAME} -in price", "y")
    run(f"truncate -c {NAME} --yes")
    run(f"rename collection -old {NAME} -new {NAME}_moved", "y")
    run(f"delete collection -c {NAME}_moved --yes")


def databases() -> None:
    run(f"create database -db {DATABASE}")
    run("list databases", expect=DATABASE)
    run(f"alter database -db {DATABASE}", "database.max.collections", 7, "n")
    run(f"show database -db {DATABASE}", expect="7")
    run(f"use database -db {DATABASE}")
    run("list collections")
    run("use database -db default")
    run(f"delete database -db {DATABASE} --yes")


def access() -> None:
    run(f"create user -u {USER} -p secret1")
    run(f"update password -u {USER}", "secret1", "secret2", "secret2")
    run("list users", expect=USER)
    run(f"create role -r {ROLE}")
    run("list roles", expect=ROLE)
    run(f"grant role -r {ROLE} -u {USER}")
    run(f"show user -u {USER}", expect=ROLE)
    run("grant privilege", ROLE, "Collection", "*", "Search", "default")
    run(f"show role -r {ROLE}", expect="Search")
    run(f"list grants -r {ROLE} -o * -t Collection", expect="Search")
    run(f"create privilege_group -n {GROUP}")
    run(f"grant privilege_group -n {GROUP} -p Query,Search")
    run("list privilege_groups", expect="Privileges: Query, Search")
    run(f"revoke privilege_group -n {GROUP} -p Query,Search")
    run(f"delete privilege_group -n {GROUP} --yes")
    run("revoke privilege", ROLE, "Collection", "*", "Search", "default")
    run(f"revoke role -r {ROLE} -u {USER}")
    run(f"delete role -r {ROLE}", "y")
    run(f"delete user -u {USER}", "y")
    run("list resource_groups", expect="__default_resource_group")
    run("show resource_group -n __default_resource_group")


run(f"connect -uri {URI} -t root:Milvus", expect="Connect Milvus successfully")
run("server_version", expect="Milvus server version")
run("list connections")
run("list connection_history", expect=URI)
for part in (collection, data, upkeep, databases, access):
    part()
run("disconnect")
print("milvus_cli_tour: ok")
