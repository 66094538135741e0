"""`milvine collections` and `milvine stats`: what a server has."""

from __future__ import annotations

import argparse
from typing import Any

from milvine.cli.command import OK, Command
from milvine.cli.output import add_json_argument, print_json, print_table
from milvine.cli.rest import RestServer, add_server_arguments

_V2 = "v2/vectordb"


def _add_list_arguments(parser: argparse.ArgumentParser) -> None:
    add_server_arguments(parser)
    add_json_argument(parser)


def _add_stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    _add_list_arguments(parser)


def _summaries(server: RestServer, database: str, name: str = "") -> list[dict[str, Any]]:
    """Of all collections that the caller may see, in one call, or of one. `rows` is None if its log is damaged."""
    body = {"dbName": database, "collectionName": name} if name else {"dbName": database}
    found = server.call("milvine/v1/collections", body)["collections"]
    return [
        {
            "collection": one["collectionName"],
            "state": "Resting" if one["isResting"] else one["loadState"].removeprefix("LoadState"),
            "percent": one["loadProgress"],
            "rows": one["rows"],
            "memoryBytes": one["measuredBytes"],
            "reason": one["reason"],
        }
        for one in found
    ]


def _list(parsed: argparse.Namespace) -> int:
    found = _summaries(RestServer(parsed), parsed.database)
    if parsed.json:
        print_json(found)
    elif found:
        print_table(found)
    else:
        print(f"the database {parsed.database} has no collections")
    return OK


def _stats(parsed: argparse.Namespace) -> int:
    server = RestServer(parsed)
    body = {"collectionName": parsed.collection, "dbName": parsed.database}
    described = server.call(f"{_V2}/collections/describe", body)
    (summary,) = _summaries(server, parsed.database, parsed.collection)
    partitions = server.call(f"{_V2}/partitions/list", body)
    found = {
        **summary,
        "fields": described["fields"],
        "indexes": [
            server.call(f"{_V2}/indexes/describe", {**body, "indexName": name})[0]
            for name in server.call(f"{_V2}/indexes/list", body)
        ],
        "partitions": [
            {
                "partition": name,
                "rows": server.call(f"{_V2}/partitions/get_stats", {**body, "partitionName": name})["rowCount"],
            }
            for name in partitions
        ],
    }
    if parsed.json:
        print_json(found)
    else:
        _print_stats(found)
    return OK


def _print_stats(found: dict[str, Any]) -> None:
    print_table([{name: value for name, value in found.items() if not isinstance(value, list)}])
    print()
    print_table([_shown_field(field) for field in found["fields"]])
    if found["indexes"]:
        print()
        columns = ("indexName", "fieldName", "indexType", "metricType", "indexState", "totalRows", "indexedRows")
        print_table([{name: one.get(name) for name in columns} for one in found["indexes"]])
    print()
    print_table(found["partitions"])


def _shown_field(field: dict[str, Any]) -> dict[str, Any]:
    marks = {"primaryKey": "key", "partitionKey": "partition key", "autoId": "auto id", "nullable": "nullable"}
    params = {one["key"]: one["value"] for one in field.get("params") or ()}
    return {
        "field": field["name"],
        "type": field["type"],
        "params": " ".join(f"{name}={value}" for name, value in params.items()),
        "is": ", ".join(word for name, word in marks.items() if field.get(name)),
    }


LIST = Command(
    "collections",
    "list collections with state, rows and memory",
    ("milvine collections", "milvine collections --database archive --json"),
    _add_list_arguments,
    _list,
)
STATS = Command(
    "stats",
    "show fields, indexes, partitions, rows and memory of a collection",
    ("milvine stats books",),
    _add_stats_arguments,
    _stats,
)
