"""`milvine estimate`: the memory that a load would take."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from milvine.cli.command import FAILED, OK, Command
from milvine.cli.loading import add_choice_arguments, load_request
from milvine.cli.output import add_json_argument, print_json
from milvine.cli.rest import RestServer, add_server_arguments


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    add_choice_arguments(parser)
    add_server_arguments(parser)
    add_json_argument(parser)


def _run(parsed: argparse.Namespace) -> int:
    """Prints the cost of a load; fails if it does not fit."""
    found = RestServer(parsed).call("milvine/v1/estimate", load_request(parsed))
    print_json(found) if parsed.json else _print(found)
    return OK if found["fits"] else FAILED


def _print(found: Mapping[str, Any]) -> None:
    print(f"{'':<32}{'estimated':>16}{'held now':>16}  bytes")
    for part in found["parts"]:
        label = part["kind"] if part["kind"] == "rows" else f"{part['kind']} {part['name']}"
        print(f"{label:<32}{part['estimatedBytes']:>16,}{part['measuredBytes']:>16,}")
    print(f"{'total':<32}{found['estimatedBytes']:>16,}{found['measuredBytes']:>16,}")
    growing = f", and {found['growingRows']:,} rows that are not sealed yet" if found["growingRows"] else ""
    print(f"{found['collectionName']}: {found['rows']:,} sealed rows{growing}")
    free = f"{found['freeBytes']:,} of {found['limitBytes']:,} are free"
    verdict = "it fits" if found["fits"] else "it does not fit"
    print(f"a load needs {found['neededBytes']:,} bytes, {free}: {verdict}")


COMMAND = Command(
    "estimate",
    "show what loading a collection of a running server would cost",
    (
        "milvine estimate books",
        "milvine estimate books --fields id,vector --skip-dynamic",
        "milvine estimate books --uri https://db.example:19530 --token reader:secret",
    ),
    _add_arguments,
    _run,
)
