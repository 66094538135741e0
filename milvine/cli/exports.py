"""`milvine export`: the rows of a collection, or of a snapshot, in a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from milvine.cli.command import OK, Command, Failed, add_store_arguments, names
from milvine.cli.output import add_json_argument, counted, print_json
from milvine.cli.progress import Progress
from milvine.cli.rest import RestServer, add_server_arguments

_BEGIN_SECONDS = 600.0
_PAGE_SECONDS = 120.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION")
    parser.add_argument(
        "target", metavar="TARGET", help="a path, or a URI such as s3://bucket/x; ends with .parquet, .jsonl or .lance"
    )
    parser.add_argument("--snapshot", default="", metavar="NAME", help="export a snapshot; default: the rows of now")
    parser.add_argument("--filter", default="", help="only rows that pass it")
    parser.add_argument("--partitions", type=names, default=[], help="partitions, separated by commas; default: all")
    parser.add_argument(
        "--fields", type=names, default=[], help="fields, separated by commas; default: all but outputs of functions"
    )
    parser.add_argument("--without", type=names, default=[], help="fields to leave out, such as an automatic key")
    add_store_arguments(parser)
    add_server_arguments(parser)
    add_json_argument(parser)


class _Pages:
    """The pages of one export."""

    def __init__(
        self, server: RestServer, parsed: argparse.Namespace, held: dict[str, Any], progress: Progress
    ) -> None:
        self._server = server
        self._progress = progress
        self._total = held["rowCount"]
        self.row_count = 0
        self._body = {
            "exportId": held["exportId"],
            "collectionId": held["collectionId"],
            "filter": parsed.filter,
            "partitionNames": parsed.partitions,
            "outputFields": _wanted(parsed, held["fields"]),
        }
        self._first, self._place = self._page({"segment": 0, "row": 0})
        self.schema = self._first.schema

    def _page(self, place: dict[str, int]) -> tuple[Any, dict[str, int]]:
        import pyarrow as pa

        content = self._server.content("milvine/v1/export/read", {**self._body, **place}, _PAGE_SECONDS)
        batch = pa.ipc.open_stream(content).read_next_batch()
        following = {name.decode(): int(value) for name, value in batch.schema.metadata.items()}
        self._progress(following.pop("passed"), self._total)
        self.row_count += batch.num_rows
        return batch.replace_schema_metadata(None), following

    def __iter__(self) -> Iterator[Any]:
        batch, place = self._first, self._place
        while True:
            if batch.num_rows:
                yield batch
            if place["segment"] < 0:
                return
            batch, place = self._page(place)


def _wanted(parsed: argparse.Namespace, fields: list[str]) -> list[str]:
    wanted = parsed.fields or fields
    for name in parsed.without:
        if name not in wanted:
            raise Failed(f"--without {name}: the export has no such field; it has {', '.join(wanted)}")
    left = [name for name in wanted if name not in parsed.without]
    if not left:
        raise Failed("no field is left to export")
    return left


def _export(parsed: argparse.Namespace) -> int:
    # Slow to import, and not needed by other commands.
    from milvine.errors import MilvineError
    from milvine.storage.export_files import check_target, write_file

    store = parsed.endpoint, parsed.region
    server = RestServer(parsed)
    try:
        check_target(parsed.target, *store)
        names_of = {"dbName": parsed.database, "collectionName": parsed.collection, "snapshotName": parsed.snapshot}
        held = server.call("milvine/v1/export/begin", names_of, _BEGIN_SECONDS)
        try:
            with Progress("exported") as progress:
                pages = _Pages(server, parsed, held, progress)
                write_file(parsed.target, pages.schema, pages, *store)
        finally:
            ended = {"exportId": held["exportId"], "collectionId": held["collectionId"]}
            server.call("milvine/v1/export/end", ended)
    except MilvineError as error:
        raise Failed(str(error)) from error
    if parsed.json:
        print_json({"target": parsed.target, "rows": pages.row_count, "fields": pages.schema.names})
    else:
        rows, fields = counted(pages.row_count, "row"), counted(len(pages.schema.names), "field")
        print(f"{parsed.target}: {rows} of {fields}")
    return OK


COMMAND = Command(
    "export",
    "write the rows of a collection or a snapshot to a file",
    (
        "milvine export books books.parquet",
        "milvine export books s3://bucket/books.jsonl --filter 'price < 10' --fields id,title",
        "milvine export books monday.lance --snapshot monday",
    ),
    _add_arguments,
    _export,
)
