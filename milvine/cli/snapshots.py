"""`milvine snapshot`: snapshots of collections, made, shown, pinned, restored and dropped."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from milvine.cli.command import OK, Command, Failed
from milvine.cli.output import add_json_argument, print_json, print_table
from milvine.cli.progress import Progress
from milvine.cli.rest import RestServer, add_server_arguments

_ROUTE = "milvine/v1/snapshot"
_FLUSH_SECONDS = 600.0
_LOOK_SECONDS = 0.2
Found = dict[str, Any]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, run: Callable[[argparse.Namespace], int], *arguments: str) -> Any:
        added = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for argument in arguments:
            added.add_argument(argument.lower(), metavar=argument)
        add_server_arguments(added)
        add_json_argument(added)
        added.set_defaults(run=_snapshot, act=run, parser=added, words=2)
        return added

    both = ("COLLECTION", "SNAPSHOT")
    added = action("create", "keep a collection as its last flush left it", _create, *both)
    added.add_argument("--flush", action="store_true", help="flush first, so that all rows are part of it")
    added.add_argument("--description", default="", help="default: none")
    added.add_argument(
        "--protect", type=int, default=0, metavar="SECONDS", help="merge none of its segments for so long; default: 0"
    )
    action("list", "show the snapshots of a collection", _list, "COLLECTION")
    action("describe", "show a snapshot with its partitions and pins", _describe, *both)
    action("drop", "drop a snapshot, whose files go if nothing else needs them", _drop, *both)
    action("restore", "make a new collection of a snapshot, and wait for it", _restore, *both, "TARGET").add_argument(
        "--target-database", default="", metavar="NAME", help="default: that of the collection"
    )
    action("pin", "keep a snapshot from being dropped", _pin, *both).add_argument(
        "--seconds", type=int, default=0, help="30 days at most; default: for ever"
    )
    action("unpin", "take a pin away", _unpin, "PIN")


def _named(parsed: argparse.Namespace) -> Found:
    return {"dbName": parsed.database, "collectionName": parsed.collection, "snapshotName": parsed.snapshot}


def _show(parsed: argparse.Namespace, found: Found, sentence: str) -> int:
    if parsed.json:
        print_json(found)
    else:
        print(sentence)
    return OK


def _create(parsed: argparse.Namespace) -> int:
    server, body = RestServer(parsed), _named(parsed)
    if parsed.flush:
        flushed = {"dbName": parsed.database, "collectionName": parsed.collection}
        server.call("v2/vectordb/collections/flush", flushed, _FLUSH_SECONDS)
    wanted = {"description": parsed.description, "protectionSeconds": parsed.protect}
    server.call(f"{_ROUTE}/create", {**body, **wanted})
    found = server.call(f"{_ROUTE}/describe", body)
    return _show(parsed, found, f"snapshot {parsed.snapshot} of {parsed.collection}: {found['rowCount']} rows")


def _list(parsed: argparse.Namespace) -> int:
    server, collection = RestServer(parsed), {"dbName": parsed.database, "collectionName": parsed.collection}
    names = server.call(f"{_ROUTE}/list", collection)
    found = [server.call(f"{_ROUTE}/describe", {**collection, "snapshotName": name}) for name in names]
    if parsed.json:
        print_json(found)
    elif found:
        print_table([_row(one) for one in found])
    else:
        print(f"{parsed.collection} has no snapshots")
    return OK


def _row(found: Found) -> Found:
    return {
        "snapshot": found["snapshotName"],
        "created": found["created"],
        "rows": found["rowCount"],
        "partitions": len(found["partitionNames"]),
        "pins": len(found["pins"]),
        "description": found["description"],
    }


def _describe(parsed: argparse.Namespace) -> int:
    found = RestServer(parsed).call(f"{_ROUTE}/describe", _named(parsed))
    if parsed.json:
        print_json(found)
        return OK
    protected = {"protected until": found["protectedUntil"]} if found["protectedUntil"] else {}
    print_table([_row(found) | protected | {"files": found["location"]}])
    print()
    print_table([{"partition": name} for name in found["partitionNames"]])
    if found["pins"]:
        print()
        print_table([{"pin": one["pinId"], "expires": one["expires"] or "never"} for one in found["pins"]])
    return OK


def _drop(parsed: argparse.Namespace) -> int:
    RestServer(parsed).call(f"{_ROUTE}/drop", _named(parsed))
    return _show(parsed, {"snapshotName": parsed.snapshot}, f"snapshot {parsed.snapshot} is gone")


def _restore(parsed: argparse.Namespace) -> int:
    server = RestServer(parsed)
    target = {"targetCollectionName": parsed.target, "targetDbName": parsed.target_database}
    job_id = server.call(f"{_ROUTE}/restore", {**_named(parsed), **target})["jobId"]
    with Progress("restored", "percent") as progress:
        while True:
            job = server.call("v2/vectordb/jobs/snapshot/describe", {"jobId": job_id})
            progress(job["progress"], 100)
            if job["state"] == "RestoreSnapshotFailed":
                raise Failed(f"restore job {job_id} failed: {job['reason']}")
            if job["state"] == "RestoreSnapshotCompleted":
                break
            time.sleep(_LOOK_SECONDS)
    return _show(parsed, job, f"restore job {job_id}: {parsed.target} is there, not loaded")


def _pin(parsed: argparse.Namespace) -> int:
    found = RestServer(parsed).call(f"{_ROUTE}/pin", {**_named(parsed), "ttlSeconds": parsed.seconds})
    return _show(parsed, found, f"pin {found['pinId']} keeps snapshot {parsed.snapshot}")


def _unpin(parsed: argparse.Namespace) -> int:
    RestServer(parsed).call(f"{_ROUTE}/unpin", {"pinId": parsed.pin})
    return _show(parsed, {"pinId": parsed.pin}, f"pin {parsed.pin} is gone")


def _snapshot(parsed: argparse.Namespace) -> int:
    done: int = parsed.act(parsed)
    return done


COMMAND = Command(
    "snapshot",
    "make, list, describe, pin, restore and drop snapshots of a collection",
    (
        "milvine snapshot create books monday --flush",
        "milvine snapshot list books",
        "milvine snapshot restore books monday books_monday",
        "milvine snapshot pin books monday --seconds 86400",
    ),
    _add_arguments,
    _snapshot,
)
