"""The files of a running server, held as they are at one moment while a command beside it reads them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milvine.cli.command import Failed
from milvine.cli.rest import RestServer
from milvine.model.records import record

_BEGIN_SECONDS = 600.0


@record
class HeldFiles:
    """`data_dir`: as seen from here. `image`: a directory with the catalog and the file resources of that moment."""

    data_dir: Path
    image: Path


def add_data_dir_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="a running server's directory, as seen from here; default: its own name",
    )


@contextmanager
def held_files(server: RestServer, data_dir: Path | None) -> Iterator[HeldFiles]:
    """Seals all rows and holds their files in the block. `data_dir` None: under the server's own name.

    Raises Failed if the directory is not there."""
    held = server.call("milvine/v1/backup/begin", {}, _BEGIN_SECONDS)
    try:
        seen = data_dir or Path(held["dataDir"])
        image = seen / Path(held["image"]).relative_to(held["dataDir"])
        if not image.is_dir():
            raise Failed(
                f"{image} is not there: run this where the server's data directory is, or name it by --data-dir"
            )
        yield HeldFiles(seen, image)
    finally:
        server.call("milvine/v1/backup/end", {"backupId": held["backupId"]})
