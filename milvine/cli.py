"""The command `milvine`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milvine import __version__, config, front


def _check(data_dir: Path) -> int:
    """Prints the findings, one per line; 1 if there is damage, 0 if there are only leftovers that a start removes."""
    if not data_dir.is_dir():
        print(f"milvine: {data_dir} is not a directory", file=sys.stderr)
        return 1
    try:
        front.lock(data_dir)
    except front.CannotServe as error:
        print(f"milvine: {error}", file=sys.stderr)
        return 1
    from milvine.datanode.check import Check  # slow to import, and not needed at a server's start

    check = Check(data_dir)
    damages = 0
    for finding in check.findings():
        damages += finding.is_damage
        print(finding.text if finding.is_damage else f"note: {finding.text}")
    state = "is whole" if not damages else f"has {damages} damaged files"
    print(f"{data_dir} {state}: {check.files} files, {check.collections} collections, {check.rows} rows")
    return 1 if damages else 0


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _estimate(parsed: argparse.Namespace) -> int:
    """Prints the cost of a load, from a running server; 1 if it does not fit or is unknown."""
    body = {
        "collectionName": parsed.collection,
        "dbName": parsed.database,
        "loadFields": parsed.fields,
        "partitionNames": parsed.partitions,
        "skipLoadDynamicField": parsed.skip_dynamic,
    }
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {parsed.token}"} if parsed.token else {}
    )
    url = f"{parsed.uri.rstrip('/')}/milvine/v1/estimate"
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.loads(response.read())
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        print(f"milvine: no answer from {url}: {reason}", file=sys.stderr)
        return 1
    if answer["code"]:
        print(f"milvine: {answer['message']}", file=sys.stderr)
        return 1
    _print_estimate(answer["data"])
    return 0 if answer["data"]["fits"] else 1


def _print_estimate(found: Mapping[str, Any]) -> None:
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


def main(arguments: list[str] | None = None) -> None:
    """Parses and runs; exits with 1 and one sentence if a server cannot start."""
    parser = argparse.ArgumentParser(prog="milvine", description="The Milvus vector database in one process.")
    parser.add_argument("--version", action="version", version=f"milvine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run a server in the foreground")
    helps = {setting.name: setting.help for setting in config.SETTINGS}
    serve.add_argument("--data-dir", help=helps["data_dir"])
    serve.add_argument("--host", help=helps["host"])
    serve.add_argument("--port", type=int, help=helps["port"])
    serve.add_argument("--metrics-port", type=int, help=helps["metrics_port"])
    serve.add_argument("--config", type=Path, help="YAML file of settings")
    check = commands.add_parser("check", help="verify every byte of a stopped server's data directory")
    check.add_argument("data_dir", type=Path, metavar="DIR")
    estimate = commands.add_parser("estimate", help="what loading a collection of a running server would cost")
    estimate.add_argument("collection", metavar="COLLECTION")
    estimate.add_argument("--fields", type=_names, default=[], help="fields to load, separated by commas; default: all")
    estimate.add_argument("--partitions", type=_names, default=[], help="partitions, separated by commas; default: all")
    estimate.add_argument("--skip-dynamic", action="store_true", help="without the dynamic field")
    estimate.add_argument("--database", default="default")
    estimate.add_argument("--uri", default="http://localhost:19530", help="the server; default: %(default)s")
    estimate.add_argument("--token", default="", help="user:password")
    parsed = parser.parse_args(arguments)
    if parsed.command == "check":
        sys.exit(_check(parsed.data_dir))
    if parsed.command == "estimate":
        sys.exit(_estimate(parsed))
    flags = {name: getattr(parsed, name) for name in ("data_dir", "host", "port", "metrics_port")}
    try:
        settings = config.load_settings(flags, os.environ, parsed.config)
        front.run(settings)
    except (ValueError, OSError, front.CannotServe) as error:
        print(f"milvine: {error}", file=sys.stderr)
        sys.exit(1)
