"""`milvine check`: verifies the data directory of a stopped server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from milvine import config, front
from milvine.cli.command import FAILED, OK, Command, Failed
from milvine.cli.output import add_json_argument, print_json


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_dir", type=Path, metavar="DIR")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file of settings, for store.uri; default: none"
    )
    add_json_argument(parser)


def _run(parsed: argparse.Namespace) -> int:
    """Prints the findings, one per line; fails if there is damage, not for leftovers that a start removes."""
    data_dir: Path = parsed.data_dir
    if not data_dir.is_dir():
        raise Failed(f"{data_dir} is not a directory")
    try:
        front.lock(data_dir)
    except front.CannotServe as error:
        raise Failed(str(error)) from error
    # Slow to import, and not needed at a server's start.
    from milvine.datanode.check import Check
    from milvine.errors import MilvineError
    from milvine.storage.store import objects_of

    damages = 0
    found = []
    try:
        settings = config.load_settings({"data_dir": str(data_dir)}, os.environ, parsed.config)
        check = Check(data_dir, objects_of(data_dir, settings))
        for finding in check.findings():
            damages += finding.is_damage
            if parsed.json:
                found.append({"text": finding.text, "isDamage": bool(finding.is_damage)})
            else:
                print(finding.text if finding.is_damage else f"note: {finding.text}")
    except (MilvineError, ValueError) as error:
        raise Failed(str(error)) from error
    if parsed.json:
        counts = {"files": check.files, "collections": check.collections, "rows": check.rows}
        print_json({"isWhole": not damages, "findings": found, **counts})
        return FAILED if damages else OK
    state = "is whole" if not damages else f"has {damages} damaged files"
    print(f"{data_dir} {state}: {check.files} files, {check.collections} collections, {check.rows} rows")
    return FAILED if damages else OK


COMMAND = Command(
    "check",
    "verify every byte of a stopped server's data directory",
    (
        "milvine check ./milvine-data",
        "MILVINE_STORE_URI=s3://bucket/prefix milvine check ./milvine-data    # with an object store",
    ),
    _add_arguments,
    _run,
)
