"""`milvine migrate`: collections of other databases, moved into a server or a data directory."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milvine.cli.command import FAILED, OK, Command, Failed, names
from milvine.cli.output import add_json_argument, print_json, print_table
from milvine.migration.shape import MigrationError, Shape, Source
from milvine.migration.sources.options import SourceOptions
from milvine.migration.sources.registry import KINDS, open_source

if TYPE_CHECKING:
    from milvine.migration.copying import Copied

_BATCH_ROWS = 2_000
_REPORT_SECONDS = 0.2


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = "; ".join(f"{kind.name}: {kind.what}" for kind in KINDS)
    parser.add_argument("source", metavar="SOURCE", help="an address, a file or a directory")
    parser.add_argument("target", metavar="TARGET", help="the address of a server, or a data directory")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=[kind.name for kind in KINDS],
        default="",
        help=f"what SOURCE is ({kinds}); default: what it looks like",
    )
    parser.add_argument("--collections", type=names, default=[], help="separated by commas; default: all")
    parser.add_argument("--source-token", default=None, help="default: the variable MILVINE_SOURCE_TOKEN, else none")
    parser.add_argument("--source-database", default="default", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--token", default=None, help="of the target; default: the variable MILVINE_TOKEN, else none")
    parser.add_argument("--database", default="default", metavar="NAME", help="of the target; default: %(default)s")
    parser.add_argument("--batch-rows", type=int, default=_BATCH_ROWS, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="of the progress; default: in ~/.local/state/milvine"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be made, and copy nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask before copying")
    add_json_argument(parser)


class _Reporter:
    """One line on a terminal for each collection, rewritten; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown_at = 0.0

    def __call__(self, shape: Shape, rows: int) -> None:
        now = time.monotonic()
        is_last = rows == shape.rows
        if sys.stderr.isatty() and (now - self._shown_at >= _REPORT_SECONDS or is_last):
            self._shown_at = now
            total = "" if shape.rows is None else f" of {shape.rows:,}"
            end = "\n" if is_last else ""
            print(f"\r{shape.name}: {rows:,}{total} rows", end=end, file=sys.stderr, flush=True)


def _run(parsed: argparse.Namespace) -> int:
    if parsed.batch_rows < 1:
        raise Failed("--batch-rows must be 1 or more")
    # Refusals become one sentence; the client would log each with its traceback.
    logging.disable(logging.CRITICAL)
    try:
        return _migrate(parsed)
    except MigrationError as error:
        raise Failed(str(error)) from None


def _migrate(parsed: argparse.Namespace) -> int:
    token = os.environ.get("MILVINE_SOURCE_TOKEN", "") if parsed.source_token is None else parsed.source_token
    kind, source = open_source(parsed.source, parsed.kind, SourceOptions(token, parsed.source_database))
    try:
        shapes = _shapes(source, parsed)
        if not shapes:
            raise Failed(f"{parsed.source} has no collections")
        if not parsed.json:
            print(f"{parsed.source} is {kind.what}")
            _print_shapes(shapes)
        elif parsed.dry_run:
            print_json([_described(shape) for shape in shapes])
        if parsed.dry_run:
            return OK
        if not parsed.yes:
            _ask(len(shapes), parsed.target)
        copied = _copy(source, shapes, parsed)
    finally:
        source.close()
    _print_copied(copied, parsed.json)
    return FAILED if any(one.differences for one in copied) else OK


def _shapes(source: Source, parsed: argparse.Namespace) -> list[Shape]:
    found = source.collections()
    missing = [name for name in parsed.collections if name not in found]
    if missing:
        raise Failed(f"{parsed.source} has no collection {', '.join(missing)}; it has {', '.join(found) or 'none'}")
    return [source.shape(name) for name in parsed.collections or found]


def _ask(collections: int, target: str) -> None:
    if not sys.stdin.isatty():
        raise Failed("copy by --yes, or only look by --dry-run")
    what = "1 collection" if collections == 1 else f"{collections} collections"
    if input(f"Copy {what} to {target}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Failed("nothing is copied")


def _copy(source: Source, shapes: Sequence[Shape], parsed: argparse.Namespace) -> list[Copied]:
    from milvine.migration.copying import Migration
    from milvine.migration.state import State, default_file
    from milvine.migration.target import Target

    token = os.environ.get("MILVINE_TOKEN", "") if parsed.token is None else parsed.token
    state = State(parsed.state or default_file(parsed.source, parsed.target, parsed.database))
    target = Target(parsed.target, token, parsed.database)
    try:
        migration = Migration(source, target, state, parsed.batch_rows, _Reporter())
        migration.check(shapes)
        copied = [migration.copy(shape) for shape in shapes]
    finally:
        target.close()
    if not any(one.differences for one in copied):
        state.remove()
    return copied


def _print_shapes(shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        count = "" if shape.rows is None else f", {shape.rows:,} rows"
        print(f"\n{shape.name}{count}")
        print_table(_fields_table(shape))
        for line in [*_facts(shape), *shape.notes]:
            print(f"  {line}")
    print()


def _fields_table(shape: Shape) -> list[dict[str, Any]]:
    indexes = {
        index.field_name: " ".join(filter(None, (index.index_type, index.metric_type))) for index in shape.indexes
    }
    outputs = {name: function.name for function in shape.functions for name in function.outputs}
    table = [
        {
            "field": one.name,
            "type": _type(one),
            "from": f"made by {outputs[one.name]}" if one.name in outputs else one.origin,
            "index": indexes.get(one.name, ""),
        }
        for one in shape.fields
    ]
    if shape.has_dynamic_field:
        table.append({"field": "(dynamic field)", "type": "JSON", "from": shape.dynamic_origin, "index": ""})
    return table


def _type(field: Any) -> str:
    sizes = [f"{key}={field.params[key]}" for key in ("dim", "max_length", "max_capacity") if key in field.params]
    element = [field.element_type.milvus_name] if field.element_type else []
    marks = [
        mark
        for mark, holds in (
            ("primary key", field.is_primary),
            ("partition key", field.is_partition_key),
            ("nullable", field.nullable),
        )
        if holds
    ]
    inner = ", ".join([*element, *sizes])
    return " ".join([field.data_type.milvus_name + (f"({inner})" if inner else ""), *marks])


def _facts(shape: Shape) -> list[str]:
    named = [name for name in shape.partitions if name != "_default"]
    facts = []
    if named:
        facts.append(f"partitions: {', '.join(named)}")
    if shape.aliases:
        facts.append(f"aliases: {', '.join(shape.aliases)}")
    if shape.auto_id:
        facts.append("ids are made by the server; those of the source are kept")
    return facts


def _described(shape: Shape) -> dict[str, Any]:
    return {
        "collection": shape.name,
        "rows": shape.rows,
        "fields": _fields_table(shape),
        "partitions": shape.partitions,
        "aliases": shape.aliases,
        "notes": shape.notes,
    }


def _print_copied(copied: Sequence[Copied], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "collection": one.name,
                    "rows": one.rows,
                    "comparedRows": one.compared,
                    "differences": one.differences,
                    "notes": one.notes,
                }
                for one in copied
            ]
        )
        return
    for one in copied:
        outcome = "equal" if not one.differences else f"{len(one.differences)} differences"
        print(f"{one.name}: {one.rows:,} rows; counts and {one.compared:,} sampled rows compared: {outcome}")
        for line in [*one.notes, *one.differences]:
            print(f"  {line}")


COMMAND = Command(
    "migrate",
    "move collections of Milvus, Milvus Lite, Chroma, Qdrant, LanceDB or pgvector into a server or a data directory",
    (
        "milvine migrate ./old.db ./milvine-data --dry-run",
        "milvine migrate http://old-milvus:19530 http://localhost:19530 --yes",
        "milvine migrate http://localhost:6333 ./milvine-data --from qdrant --collections docs,images",
        "milvine migrate postgresql://user@db.example/shop http://localhost:19530",
    ),
    _add_arguments,
    _run,
)
