"""`milvine backup` and `milvine restore`: copies of a whole running server, and their return."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from milvine import config, file_locks
from milvine.cli.command import FAILED, OK, Command, Failed, add_store_arguments
from milvine.cli.output import add_json_argument, counted, print_json
from milvine.cli.progress import Progress
from milvine.cli.rest import RestServer, add_server_arguments
from milvine.cli.server_files import add_data_dir_argument, held_files


def _add_place_arguments(parser: argparse.ArgumentParser) -> None:
    add_store_arguments(parser)
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the secret of an encrypted place; default: the variable MILVINE_BACKUP_KEY, else no encryption",
    )


def _add_backup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="a directory, or a URI such as s3://bucket/prefix")
    _add_place_arguments(parser)
    parser.add_argument(
        "--keep", type=int, default=0, metavar="N", help="remove all but the N newest; default: keep all"
    )
    parser.add_argument(
        "--other-server",
        action="store_true",
        help="go on with a place whose newest backup is of another server, such as the one that this was restored from",
    )
    add_data_dir_argument(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the server's YAML file, for its store.uri; default: none"
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help="read again what the place has already, and store again what is damaged; default: in directories",
    )
    add_server_arguments(parser)
    add_json_argument(parser)


def _add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="a directory, or a URI such as s3://bucket/prefix")
    parser.add_argument("data_dir", type=Path, metavar="DIR", nargs="?", help="the new data directory, empty or absent")
    _add_place_arguments(parser)
    parser.add_argument(
        "--backup",
        metavar="ID",
        help="default: the newest; with --to: one at or after the moment, if several servers have it",
    )
    parser.add_argument(
        "--to",
        metavar="TIME",
        help="a moment between two backups, such as 2026-11-29T14:02:00, if the server keeps its logs (wal.keepHours)",
    )
    parser.add_argument("--list", action="store_true", help="show the backups of the place, and restore none")
    parser.add_argument("--verify", action="store_true", help="read every file of the backup, and restore none")
    add_json_argument(parser)


def _opened(parsed: argparse.Namespace) -> Any:
    """The place, encrypted if there is a secret."""
    from milvine.storage.backup_places import open_backup_place
    from milvine.storage.encrypted_places import encrypted_place

    secret = os.environ.get("MILVINE_BACKUP_KEY", "").encode()
    if parsed.key_file is not None:
        try:
            secret = parsed.key_file.read_bytes().strip()
        except OSError as error:
            raise Failed(f"cannot read {parsed.key_file}: {error.strerror}") from error
        if not secret:
            raise Failed(f"{parsed.key_file} is empty")
    return encrypted_place(open_backup_place(parsed.place, parsed.endpoint, parsed.region), secret)


def _doing(work: Callable[[], Any]) -> Any:
    from milvine.errors import MilvineError

    try:
        return work()
    except MilvineError as error:
        raise Failed(str(error)) from error


def _backup(parsed: argparse.Namespace) -> int:
    # Slow to import, and not needed by other commands.
    from milvine.datanode import backup, stored_backups
    from milvine.storage.claims import objects_of

    if parsed.keep < 0:
        raise Failed("--keep must be 0 or more")
    place = _doing(lambda: _opened(parsed))
    is_directory = parsed.place.partition("://")[0] in (parsed.place, "file")
    verifies = is_directory if parsed.verify is None else parsed.verify
    with held_files(RestServer(parsed), parsed.data_dir) as held:
        data_dir = held.data_dir
        if place.is_in(data_dir):
            raise Failed(
                f"{parsed.place} is in the server's data directory, whose next start would remove it; name another one"
            )

        def copy() -> tuple[Any, list[str]]:
            settings = config.load_settings({"data_dir": str(data_dir)}, os.environ, parsed.config)
            with _alone(parsed.place) if is_directory else nullcontext():
                other = None if parsed.other_server else stored_backups.of_other_server(place, held.image)
                if other is not None:
                    raise Failed(
                        f"the newest backup of {parsed.place}, {other.backup_id}, is of another server "
                        f"({other.source}); name another place, or say --other-server to go on with this one"
                    )
                with Progress("copied", "bytes") as progress:
                    source = backup.HeldSource(data_dir, held.image, objects_of(data_dir, settings))
                    copied = backup.copy_to(place, source, progress, verifies_stored=verifies)
                return copied, stored_backups.remove_old(place, parsed.keep) if parsed.keep else []

        copied, removed = _doing(copy)
    found = copied.backup
    if parsed.json:
        new = {"newFiles": copied.new_files, "newBytes": copied.new_bytes, "removed": removed}
        new["repaired"] = list(copied.repaired)
        print_json({**_described(found), **new})
    else:
        print(
            f"backup {found.backup_id}: {_counts(found)}, "
            f"{found.size} bytes; {counted(copied.new_files, 'file')} and {copied.new_bytes} bytes are new"
        )
        for path in copied.repaired:
            print(f"was damaged in the place, and is stored again: {path}")
        for backup_id in removed:
            print(f"removed backup {backup_id}")
    return OK


@contextmanager
def _alone(place: str) -> Iterator[None]:
    """Keeps other backups from a directory meanwhile."""
    directory = Path(place.removeprefix("file://"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"cannot write {directory}: {error.strerror}") from error
    with file_locks.alone_in(directory) as is_alone:
        if not is_alone:
            raise Failed(f"another backup is writing to {place}")
        yield


def _described(found: Any) -> dict[str, Any]:
    return {
        "backupId": found.backup_id,
        "milvine": found.version,
        "collections": found.collections,
        "rows": found.rows,
        "files": len(found.files),
        "bytes": found.size,
        "source": found.source,
    }


def _restore(parsed: argparse.Namespace) -> int:
    from milvine.datanode import backup, stored_backups
    from milvine.datanode.check import Check

    if parsed.to and (parsed.list or parsed.verify):
        raise Failed("--to restores a moment: name the new data directory, without --list and --verify")
    place = _doing(lambda: _opened(parsed))
    ids: list[str] = _doing(lambda: stored_backups.backup_ids(place))
    if not ids:
        raise Failed(f"{parsed.place} has no backup")
    if parsed.list:
        return _list(_doing(lambda: [stored_backups.read_backup(place, one) for one in ids]), parsed.json)
    if parsed.verify:
        return _verify(place, _wanted(ids, parsed), parsed.json)
    if parsed.data_dir is None:
        raise Failed("name the new data directory: milvine restore PLACE DIR")
    target = parsed.data_dir.absolute()

    def bring() -> Any:
        if parsed.to:
            return _bring_moment(place, [stored_backups.read_backup(place, one) for one in ids], parsed, target)
        found = stored_backups.read_backup(place, _wanted(ids, parsed))
        with Progress("restored", "bytes") as progress:
            backup.bring_back(place, backup.everything_in(place, found), target, progress)
        return found

    found = _doing(bring)
    check = Check(target)
    damages = [finding.text for finding in check.findings() if finding.is_damage]
    if parsed.json:
        print_json({**_described(found), "isWhole": not damages, "findings": damages})
    else:
        print(*damages, sep="\n", end="\n" if damages else "")
        state = "is whole" if not damages else f"has {counted(len(damages), 'damaged file')}"
        moment = f" and its logs up to {parsed.to}" if parsed.to else ""
        counts = f"{counted(check.collections, 'collection')}, {counted(check.rows, 'row')}"
        print(f"{parsed.data_dir} {state}: backup {found.backup_id}{moment}, {counts}")
    return FAILED if damages else OK


def _bring_moment(place: Any, backups: list[Any], parsed: argparse.Namespace, target: Path) -> Any:
    """Restores to a moment; returns the backup before it. A named backup says of which server."""
    from milvine.datanode import backup
    from milvine.datanode.moments import parse_moment
    from milvine.datanode.point_in_time import PointInTime, around, before

    until = parse_moment(parsed.to)
    if parsed.backup:
        last = _wanted([one.backup_id for one in backups], parsed)
        backups = before(backups, next(one for one in backups if one.backup_id == last))
    earlier, later = around(backups, until)
    with tempfile.TemporaryDirectory(prefix="milvine-restore-") as scratch, Progress("restored", "bytes") as progress:
        plan = PointInTime(place, earlier, later, until, Path(scratch))
        backup.bring_back(place, plan.wanted, target, progress)
    return earlier


def _wanted(ids: list[str], parsed: argparse.Namespace) -> str:
    wanted: str = parsed.backup or ids[-1]
    if wanted not in ids:
        raise Failed(f"{parsed.place} has no backup {wanted}; it has {', '.join(ids)}")
    return wanted


def _verify(place: Any, wanted: str, as_json: bool) -> int:
    from milvine.datanode import stored_backups

    def read() -> tuple[Any, list[str]]:
        found = stored_backups.read_backup(place, wanted)
        with Progress("verified", "bytes") as progress:
            return found, stored_backups.damaged_files(place, found, progress)

    found, damaged = _doing(read)
    if as_json:
        print_json({**_described(found), "isWhole": not damaged, "findings": damaged})
    else:
        for name in damaged:
            print(f"{name} is damaged or missing")
        state = "is whole" if not damaged else f"has {counted(len(damaged), 'damaged file')}"
        print(f"backup {wanted} {state}")
    return FAILED if damaged else OK


def _list(backups: list[Any], as_json: bool) -> int:
    if as_json:
        print_json([_described(found) for found in backups])
    else:
        for found in backups:
            source = f", of {found.source}" if found.source else ""
            print(f"{found.backup_id}  {_counts(found)}, {found.size} bytes, by Milvine {found.version}{source}")
    return OK


def _counts(found: Any) -> str:
    counts = (found.collections, "collection"), (found.rows, "row"), (len(found.files), "file")
    return ", ".join(counted(number, noun) for number, noun in counts)


BACKUP = Command(
    "backup",
    "copy a whole running server to a directory or an object store",
    (
        "milvine backup /mnt/backups",
        "milvine backup s3://bucket/milvine --region eu-central-1 --keep 7 --key-file secret.txt",
    ),
    _add_backup_arguments,
    _backup,
)
RESTORE = Command(
    "restore",
    "make a data directory of a backup",
    (
        "milvine restore /mnt/backups ./milvine-data",
        "milvine restore /mnt/backups --list",
        "milvine restore /mnt/backups ./milvine-data --to 2026-11-29T14:02:00",
        "milvine restore /mnt/backups --verify --key-file secret.txt",
        "milvine restore s3://bucket/milvine ./milvine-data --backup 20261129-020000",
    ),
    _add_restore_arguments,
    _restore,
)
