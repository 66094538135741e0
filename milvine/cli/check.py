"""`milvine check`: verifies the data of a stopped server, of a running one, or the objects of a store."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from milvine import config, front
from milvine.cli.command import FAILED, OK, Command, Failed
from milvine.cli.output import add_json_argument, counted, print_json
from milvine.cli.rest import RestServer, add_login_arguments
from milvine.cli.server_files import add_data_dir_argument, held_files
from milvine.directory_users import LOCK_FILE

_SERVER_SCHEMES = ("http://", "https://")


class _Checked(Protocol):
    """What has been read, and the findings while it is read."""

    files: int
    collections: int
    rows: int

    def findings(self) -> Iterator[Any]: ...


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place",
        metavar="PLACE",
        help="the data directory of a stopped server, http://HOST:PORT of a running one, or s3://BUCKET/PREFIX",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file of settings, for those of an object store; default: none",
    )
    add_data_dir_argument(parser)
    add_login_arguments(parser)
    add_json_argument(parser)


def _settings(parsed: argparse.Namespace, data_dir: Path) -> config.Settings:
    return config.load_settings({"data_dir": str(data_dir)}, os.environ, parsed.config)


@contextmanager
def _of_stopped_server(parsed: argparse.Namespace) -> Iterator[_Checked]:
    data_dir = Path(parsed.place)
    if not data_dir.is_dir():
        raise Failed(f"{data_dir} is not a directory")
    # Slow to import, and not needed at a server's start.
    from milvine.catalog.sqlite_file import CATALOG_FILE

    # Every server that has run there left a lock, and a restore leaves a catalog.
    if not any((data_dir / name).exists() for name in (LOCK_FILE, CATALOG_FILE)):
        raise Failed(f"{data_dir} is not the data directory of a server")
    try:
        front.lock(data_dir)
    except front.CannotServe as error:
        raise Failed(f"{error}; a running server is checked by its address, http://HOST:PORT") from error
    from milvine.datanode.check import Check
    from milvine.storage.claims import objects_of

    yield Check(data_dir, objects_of(data_dir, _settings(parsed, data_dir)))


@contextmanager
def _of_running_server(parsed: argparse.Namespace) -> Iterator[_Checked]:
    from milvine.datanode.check import Check
    from milvine.storage.claims import objects_of

    server = RestServer(argparse.Namespace(uri=parsed.place, token=parsed.token))
    with held_files(server, parsed.data_dir) as held:
        yield Check(held.data_dir, objects_of(held.data_dir, _settings(parsed, held.data_dir)), held.image)


@contextmanager
def _of_objects(parsed: argparse.Namespace) -> Iterator[_Checked]:
    from milvine.datanode.check import ObjectCheck
    from milvine.storage.objects import Objects, Place

    settings = _settings(parsed, Path())
    yield ObjectCheck(Objects(Place(parsed.place, settings.store_endpoint, settings.store_region)))


def _run(parsed: argparse.Namespace) -> int:
    """Prints the findings, one per line; fails if there is damage, not for leftovers that a start removes."""
    from milvine.errors import MilvineError

    place: str = parsed.place
    opened = _of_stopped_server
    if place.startswith(_SERVER_SCHEMES):
        opened = _of_running_server
    elif "://" in place:
        opened = _of_objects
    damages = 0
    found = []
    try:
        with opened(parsed) as check:
            for finding in check.findings():
                damages += finding.is_damage
                if parsed.json:
                    found.append({"text": finding.text, "isDamage": bool(finding.is_damage)})
                else:
                    print(finding.text if finding.is_damage else f"note: {finding.text}")
    except (MilvineError, ValueError) as error:
        raise Failed(str(error)) from error
    if parsed.json:
        sizes = {"files": check.files, "collections": check.collections, "rows": check.rows}
        print_json({"isWhole": not damages, "findings": found, **sizes})
        return FAILED if damages else OK
    state = "is whole" if not damages else f"has {counted(damages, 'damaged file')}"
    counts = [counted(check.files, "file")]
    if opened is not _of_objects:
        counts += [counted(check.collections, "collection"), counted(check.rows, "row")]
    print(f"{place} {state}: {', '.join(counts)}")
    return FAILED if damages else OK


COMMAND = Command(
    "check",
    "verify every byte of a server's data",
    (
        "milvine check ./milvine-data",
        "milvine check http://localhost:19530    # of a running server",
        "milvine check s3://bucket/prefix    # objects alone, by their own checksums",
    ),
    _add_arguments,
    _run,
)
