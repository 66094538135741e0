"""`milvine query` and `milvine search`: rows by a filter, and the nearest rows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from milvine.cli.command import OK, Command, Failed, names
from milvine.cli.output import add_json_argument, print_json, print_table
from milvine.cli.rest import RestServer, add_server_arguments

_DEFAULT_ROWS = 10


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fields", type=names, default=["*"], help="fields to show, separated by commas; default: all")
    parser.add_argument("--limit", type=int, default=_DEFAULT_ROWS, help="most rows; default: %(default)s")
    parser.add_argument("--snapshot", default="", metavar="NAME", help="read a snapshot; default: the loaded rows")
    parser.add_argument("--partitions", type=names, default=[], help="partitions, separated by commas; default: all")
    add_server_arguments(parser)
    add_json_argument(parser)


def _add_query_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    parser.add_argument("filter", metavar="FILTER", nargs="?", default="", help="default: any row")
    _add_shared_arguments(parser)


def _add_search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--vector", metavar="JSON", help="a vector as JSON")
    wanted.add_argument("--file", type=Path, help="a file with a vector, or a list of vectors, as JSON")
    wanted.add_argument("--text", help="a text, for a field that a function fills")
    wanted.add_argument("--id", help="the key of a row whose vector is taken")
    parser.add_argument("--field", default="", help="the vector field; default: the only one")
    parser.add_argument("--filter", default="", help="only rows that pass it")
    _add_shared_arguments(parser)


def _body(parsed: argparse.Namespace) -> dict[str, Any]:
    return {
        "collectionName": parsed.collection,
        "dbName": parsed.database,
        "filter": parsed.filter,
        "limit": parsed.limit,
        "outputFields": parsed.fields,
        "partitionNames": parsed.partitions,
        "snapshotName": parsed.snapshot,
    }


def _show(parsed: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    if parsed.json:
        print_json(rows)
    elif rows:
        print_table(rows, _ordered(rows, parsed.fields))
    else:
        print("no rows")
    return OK


def _ordered(rows: list[dict[str, Any]], fields: list[str]) -> list[str]:
    """What was not asked for, such as the key, comes first, and the distance before all."""
    names = [*dict.fromkeys(name for row in rows for name in row)]
    first = [name for name in names if name not in fields] if fields != ["*"] else names
    last = [name for name in fields if name in names]
    return sorted([*first, *last], key=lambda name: name != "distance")


def _query(parsed: argparse.Namespace) -> int:
    return _show(parsed, RestServer(parsed).call("v2/vectordb/entities/query", _body(parsed)))


def _search(parsed: argparse.Namespace) -> int:
    body = _body(parsed) | _wanted(parsed)
    if parsed.field:
        body["annsField"] = parsed.field
    return _show(parsed, RestServer(parsed).call("v2/vectordb/entities/search", body))


def _wanted(parsed: argparse.Namespace) -> dict[str, Any]:
    """The queries of a search. Raises Failed."""
    if parsed.text is not None:
        return {"data": [parsed.text]}
    if parsed.id is not None:
        return {"ids": [int(parsed.id) if parsed.id.lstrip("-").isdecimal() else parsed.id]}
    source = "--vector" if parsed.file is None else str(parsed.file)
    try:
        found = json.loads(parsed.vector if parsed.file is None else parsed.file.read_text())
    except OSError as error:
        raise Failed(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise Failed(f"{source} is not JSON: {error}") from None
    if not found or not isinstance(found, list | dict):
        raise Failed(f"{source} must be a vector, such as [0.1, 0.2]")
    is_several = isinstance(found, list) and isinstance(found[0], list | dict)
    return {"data": found if is_several else [found]}


QUERY = Command(
    "query",
    "show rows that pass a filter",
    (
        "milvine query books",
        "milvine query books 'price < 10 and color == \"red\"' --fields id,price --limit 20",
        "milvine query books 'id in [1, 2]' --json",
        "milvine query books --snapshot monday",
    ),
    _add_query_arguments,
    _query,
)
SEARCH = Command(
    "search",
    "show the rows nearest to a vector, a text or a row",
    (
        "milvine search books --vector '[0.1, 0.2, 0.3, 0.4]' --fields title",
        "milvine search books --id 42 --filter 'price < 10'",
        "milvine search books --text 'deep sea' --field sparse",
    ),
    _add_search_arguments,
    _search,
)
