"""`milvine jobs`: imports of files and restores of snapshots, in one database."""

from __future__ import annotations

import argparse
from typing import Any

from milvine.cli.command import OK, Command
from milvine.cli.output import add_json_argument, print_json, print_table
from milvine.cli.rest import RestServer, add_server_arguments

_ROUTE = "v2/vectordb/jobs"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION", nargs="?", default="", help="default: of all collections")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--commit", metavar="ID", help="make the rows of an import visible, which waits for that")
    ends.add_argument("--abort", metavar="ID", help="end an import that is not committed; no row of it appears")
    add_server_arguments(parser)
    add_json_argument(parser)


def _row(kind: str, job: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": job["jobId"],
        "kind": kind,
        "collection": job["collectionName"],
        "state": job["state"].removeprefix("RestoreSnapshot"),
        "percent": job["progress"],
        "reason": job.get("reason", ""),
    }


def _jobs(parsed: argparse.Namespace) -> int:
    server = RestServer(parsed)
    if job_id := parsed.commit or parsed.abort:
        done = "commit" if parsed.commit else "abort"
        server.call(f"{_ROUTE}/import/{done}", {"jobId": job_id, "dbName": parsed.database})
        if not parsed.json:
            print(f"import job {job_id}: {'committed' if parsed.commit else 'aborted'}")
            return OK
    body = {"dbName": parsed.database, "collectionName": parsed.collection}
    found = [
        _row(kind, job)
        for kind in ("import", "snapshot")
        for job in server.call(f"{_ROUTE}/{kind}/list", body)["records"]
    ]
    if parsed.json:
        print_json(found)
    elif found:
        print_table(found)
    else:
        print(f"{parsed.collection or f'the database {parsed.database}'} has no jobs of the last hours")
    return OK


COMMAND = Command(
    "jobs",
    "show imports and restores of snapshots, commit or abort an import",
    (
        "milvine jobs",
        "milvine jobs books --json",
        "milvine jobs --abort 470796311026728960",
    ),
    _add_arguments,
    _jobs,
)
