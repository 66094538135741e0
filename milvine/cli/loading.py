"""`milvine load` and `milvine release`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from milvine.cli.command import OK, Command, Failed, names
from milvine.cli.output import add_json_argument, print_json
from milvine.cli.rest import RestServer, add_server_arguments

_POLL_SECONDS = 0.1


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """What of a collection is loaded."""
    parser.add_argument("--fields", type=names, default=[], help="fields to load, separated by commas; default: all")
    parser.add_argument("--partitions", type=names, default=[], help="partitions, separated by commas; default: all")
    parser.add_argument("--skip-dynamic", action="store_true", help="without the dynamic field")


def load_request(parsed: argparse.Namespace) -> dict[str, Any]:
    """The body of a load, or of its estimate."""
    return {
        "collectionName": parsed.collection,
        "dbName": parsed.database,
        "loadFields": parsed.fields,
        "partitionNames": parsed.partitions,
        "skipLoadDynamicField": parsed.skip_dynamic,
    }


def _add_release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    add_server_arguments(parser)
    add_json_argument(parser)


def _add_load_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    add_choice_arguments(parser)
    parser.add_argument("--no-wait", action="store_true", help="return while the collection is being loaded")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait; default: %(default)g")
    add_server_arguments(parser)
    add_json_argument(parser)


def _load(parsed: argparse.Namespace) -> int:
    server, body = RestServer(parsed), {"collectionName": parsed.collection, "dbName": parsed.database}
    if parsed.partitions:
        body["partitionNames"] = parsed.partitions
    deadline = time.monotonic() + parsed.timeout
    server.call("milvine/v1/load", load_request(parsed))
    while True:
        state = server.call("v2/vectordb/collections/get_load_state", body)
        if state["loadState"] != "LoadStateLoading" or state["loadProgress"] < 0 or parsed.no_wait:
            break
        if time.monotonic() > deadline:
            raise Failed(f"{parsed.collection} is at {state['loadProgress']} % after {parsed.timeout:g} s")
        time.sleep(_POLL_SECONDS)
    if state["loadState"] == "LoadStateNotLoad" or state["loadProgress"] < 0:
        (found,) = server.call("milvine/v1/collections", body)["collections"]
        reason = found["reason"] or state["message"] or "it was released meanwhile"
        raise Failed(f"{parsed.collection} is not loaded: {reason}")
    _show(parsed, state)
    return OK


def _release(parsed: argparse.Namespace) -> int:
    server, body = RestServer(parsed), {"collectionName": parsed.collection, "dbName": parsed.database}
    server.call("v2/vectordb/collections/release", body)
    _show(parsed, server.call("v2/vectordb/collections/get_load_state", body))
    return OK


def _show(parsed: argparse.Namespace, state: dict[str, Any]) -> None:
    if parsed.json:
        print_json({"collection": parsed.collection, "state": state["loadState"], "percent": state["loadProgress"]})
    else:
        print(f"{parsed.collection}: {state['loadState'].removeprefix('LoadState')}, {state['loadProgress']} %")


LOAD = Command(
    "load",
    "load a collection and wait until it is loaded",
    ("milvine load books", "milvine load books --fields id,vector --skip-dynamic"),
    _add_load_arguments,
    _load,
)
RELEASE = Command("release", "release a collection", ("milvine release books",), _add_release_arguments, _release)
