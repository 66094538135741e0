"""`milvine import`: an import job of the server, followed until its end."""

from __future__ import annotations

import argparse
import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milvine.cli.command import FAILED, OK, Command, Failed, add_store_arguments
from milvine.cli.output import add_json_argument, print_json
from milvine.cli.progress import Progress
from milvine.cli.rest import RestServer, add_server_arguments

if TYPE_CHECKING:
    from milvine.storage.backup_places import BackupPlace

_LOOK_SECONDS = 0.2
_LANCE, _NUMPY = ".lance", ".npy"
_ROWS_AT_A_TIME = 4096
_COPIES = "milvine-import/"
"""Below the place of --through. The names of copies begin with the time of their import."""
_COPY_SECONDS = 24 * 3600
_AUTO_COMMIT, _COMMIT_WITHIN = "auto_commit", "commit_within"
_COMMIT_TIME = "60s"
"""The command asks five times a second; a server that cannot be reached for as long ends the job."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="COLLECTION", help="one that exists, with fitting fields")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="paths or URIs below the server's import.path; with --through, paths of this machine and URIs of Lance",
    )
    parser.add_argument("--partition", default="", help="default: the collection's own, or by the partition key")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the job, such as sep=;"
    )
    parser.add_argument(
        "--through",
        default="",
        metavar="PLACE",
        help="a directory or URI of the server's import.path, to which files are copied first, and removed after; "
        "files of Lance become Parquet there",
    )
    add_store_arguments(parser)
    add_server_arguments(parser)
    add_json_argument(parser)


def _options(given: Sequence[str]) -> dict[str, str]:
    found = dict(one.partition("=")[::2] for one in given)
    for one in given:
        if "=" not in one:
            raise Failed(f"--option {one} must be KEY=VALUE")
    return found


@contextlib.contextmanager
def _staged(parsed: argparse.Namespace) -> Iterator[list[tuple[str, str]]]:
    """Where the server reads each file, and what it was called."""
    from milvine.storage.backup_places import copy_into, open_backup_place
    from milvine.storage.directories import make_directory
    from milvine.storage.export_files import lance_batches, write_file

    if not parsed.through:
        if wrong := next((one for one in parsed.files if one.rstrip("/").endswith(_LANCE)), None):
            raise Failed(
                f"{wrong}: the server reads no files of Lance; name a directory of its import.path by --through"
            )
        yield [(one if "://" in one else _absolute(one), one) for one in parsed.files]
        return
    store = parsed.endpoint, parsed.region
    place = open_backup_place(parsed.through, *store)
    directory = parsed.through.rstrip("/") if "://" in parsed.through else str(Path(parsed.through).resolve())
    _remove(place, directory, _left_over(place, directory))
    copies = []
    try:
        for one in parsed.files:
            path = Path(one.rstrip("/"))
            is_lance = path.suffix == _LANCE
            # Files of numpy keep their names, which say the fields.
            ending = ".parquet" if is_lance else f"/{path.name}" if path.suffix == _NUMPY else path.suffix
            name = f"{_COPIES}{_stamp(time.time())}-{uuid.uuid4().hex}{ending}"
            copies.append(name)
            if is_lance:
                if "://" not in directory:
                    make_directory(Path(directory) / _COPIES)
                write_file(f"{directory}/{name}", *lance_batches(one, _ROWS_AT_A_TIME, *store), *store)
            elif not path.is_file():
                raise Failed(f"{one} is not a file")
            else:
                with place.writing(name) as copy:  # in steps, between which Ctrl-C ends it
                    copy_into(path, copy)
        yield [(f"{directory}/{name}", one) for name, one in zip(copies, parsed.files, strict=True)]
    finally:
        _remove(place, directory, copies)


def _remove(place: BackupPlace, directory: str, copies: list[str]) -> None:
    place.remove(copies)
    if "://" not in directory:
        for one in copies:
            if "/" in one.removeprefix(_COPIES):  # a directory of its own
                with contextlib.suppress(OSError):
                    (Path(directory) / one).parent.rmdir()


def _stamp(seconds: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def _left_over(place: BackupPlace, directory: str) -> list[str]:
    """The copies of commands that were killed: none is needed for a day."""
    from milvine.storage.files import walk_files

    if "://" in directory:
        names = [*place.sizes(_COPIES)]
    else:  # with those that were never finished
        names = [path.relative_to(directory).as_posix() for path in walk_files(Path(directory) / _COPIES)]
    oldest = _stamp(time.time() - _COPY_SECONDS)
    return [name for name in names if name.removeprefix(_COPIES) < oldest]


def _absolute(path: str) -> str:
    """A path that is a file here is the same file for a server on this machine; others are the server's own."""
    return str(Path(path).resolve()) if Path(path).is_file() else path


def _import(parsed: argparse.Namespace) -> int:
    from milvine.errors import MilvineError

    server = RestServer(parsed)
    options = _options(parsed.option)
    # Only a job that does not commit itself can be ended, so that the command commits. If it dies, the server ends it.
    commits = _AUTO_COMMIT not in options
    if commits:
        options |= {_AUTO_COMMIT: "false", _COMMIT_WITHIN: options.get(_COMMIT_WITHIN, _COMMIT_TIME)}
    try:
        with _staged(parsed) as files, Progress("imported", "percent") as progress:
            body = {
                "dbName": parsed.database,
                "collectionName": parsed.collection,
                "partitionName": parsed.partition,
                "files": _groups([read for read, _ in files]),
                "options": options,
            }
            job_id = server.call("v2/vectordb/jobs/import/create", body)["jobId"]
            job = _followed(server, job_id, progress, commits)
            for read, given in files if "reason" in job else ():
                job["reason"] = job["reason"].replace(read, given)
    except MilvineError as error:
        raise Failed(str(error)) from error
    if parsed.json:
        print_json(job)
    elif job["state"] == "Failed":
        raise Failed(f"import job {job_id} failed: {job['reason']}")
    else:
        waits = "" if job["state"] == "Completed" else f"; the job waits for commit or abort: {job['state']}"
        print(f"import job {job_id}: {job['importedRows']} rows in {parsed.collection}{waits}")
    return FAILED if job["state"] == "Failed" else OK


def _groups(files: list[str]) -> list[list[str]]:
    """Files of numpy are the fields of one table."""
    numpy = [one for one in files if one.endswith(_NUMPY)]
    return [[one] for one in files if one not in numpy] + ([numpy] if numpy else [])


def _followed(server: RestServer, job_id: str, progress: Progress, commits: bool) -> Any:
    """The job when it has ended or waits for a commit by others. Interrupted, the command ends the job."""
    try:
        while True:
            job = server.call("v2/vectordb/jobs/import/describe", {"jobId": job_id})
            progress(job["progress"], 100)
            if job["state"] == "Uncommitted" and commits:
                server.call("v2/vectordb/jobs/import/commit", {"jobId": job_id})
                continue
            if job["state"] in ("Completed", "Failed", "Uncommitted"):
                return job
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        server.call("v2/vectordb/jobs/import/abort", {"jobId": job_id})
        raise


COMMAND = Command(
    "import",
    "import files into a collection, with progress",
    (
        "milvine import books /data/imports/books.parquet",
        "milvine import books books.lance --through /data/imports",
        "milvine import books books.csv --option 'sep=;' --partition old",
    ),
    _add_arguments,
    _import,
)
