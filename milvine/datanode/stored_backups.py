"""The backups of a place: their manifests, which of them is of which server, what is damaged, and what is too old.

`files/` has each sealed file once, under its path in the data directory and its checksum. `backups/ID/` has the catalog
and, written last, `manifest.json`: a backup without it was never finished.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from milvine.catalog.sqlite_file import CATALOG_FILE
from milvine.datanode.moments import Moment, decode_moment, encode_moment, read_moment
from milvine.errors import DataIntegrityError
from milvine.model.records import record
from milvine.storage.backup_places import BackupPlace
from milvine.storage.files import checksum_of, crc32c, stored_checksum, verify_sealed
from milvine.storage.segment_files import KEPT_LOGS

_VERSION = 1
BACKUPS, FILES, MANIFEST = "backups/", "files/", "manifest.json"
AT_A_TIME = 4
"""Files that are read or written side by side."""
OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and the bytes of all."""


@record
class BackupFile:
    """`path` is below the data directory."""

    path: str
    size: int
    checksum: int

    @property
    def stored_name(self) -> str:
        return f"{FILES}{self.path}.{self.checksum:08x}"

    @property
    def is_log(self) -> bool:
        """Its checksum is of the whole file then, else of the payload of a sealed file."""
        return self.path.startswith(KEPT_LOGS)

    def is_whole(self, path: Path) -> bool:
        """Whether a local file has the content."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.is_log:
            return crc32c([path.read_bytes()]) == self.checksum
        try:
            verify_sealed(path)
            return stored_checksum(path) == self.checksum
        except DataIntegrityError:
            return False


@record
class Backup:
    """A finished backup. `catalog`: size and checksum of the catalog. `logs`: of sealed rows, for moments before it;
    `moment` None and `source` "": an earlier Milvine made it. `source` says to people whose it is."""

    backup_id: str
    version: str
    catalog: tuple[int, int]
    files: tuple[BackupFile, ...]
    collections: int
    rows: int
    logs: tuple[BackupFile, ...] = ()
    moment: Moment | None = None
    source: str = ""

    def continues(self, earlier: Backup) -> bool:
        """Whether it is of the same server as an earlier backup, as far as is known."""
        return self.moment is None or earlier.moment is None or self.moment.continues(earlier.moment)

    @property
    def stored_files(self) -> tuple[BackupFile, ...]:
        return self.files + self.logs

    @property
    def size(self) -> int:
        return self.catalog[0] + sum(one.size for one in self.stored_files)


def new_id(place: BackupPlace) -> str:
    """Later ones sort after earlier ones."""
    taken = {name.split("/")[1] for name in place.sizes(BACKUPS)}
    wanted = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    number = 0
    while (found := f"{wanted}-{number}" if number else wanted) in taken:
        number += 1
    return found


def encode(backup: Backup) -> bytes:
    members: dict[str, Any] = {
        "format": _VERSION,
        "id": backup.backup_id,
        "milvine": backup.version,
        "catalog": {"bytes": backup.catalog[0], "crc32c": backup.catalog[1]},
        "collections": backup.collections,
        "rows": backup.rows,
        "files": [[one.path, one.size, one.checksum] for one in backup.files],
        "logs": [[one.path, one.size, one.checksum] for one in backup.logs],
        "moment": None if backup.moment is None else encode_moment(backup.moment),
        "source": backup.source,
    }
    return orjson.dumps(members | {"crc32c": crc32c([orjson.dumps(members)])})


def decode(content: bytes, name: str) -> Backup:
    try:
        members = orjson.loads(content)
        checksum = members.pop("crc32c")
        if members["format"] != _VERSION:
            raise DataIntegrityError(f"{name} has format {members['format']}, this program reads {_VERSION}")
        if crc32c([orjson.dumps(members)]) != checksum:
            raise DataIntegrityError(f"{name} does not match its checksum")
        catalog = members["catalog"]
        files = tuple(BackupFile(*one) for one in members["files"])
        moment = members.get("moment")
        return Backup(
            members["id"],
            members["milvine"],
            (catalog["bytes"], catalog["crc32c"]),
            files,
            members["collections"],
            members["rows"],
            tuple(BackupFile(*one) for one in members.get("logs", ())),
            None if moment is None else decode_moment(moment),
            members.get("source", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataIntegrityError(f"{name} is damaged: it does not describe a backup") from error


def backup_ids(place: BackupPlace) -> list[str]:
    """The finished backups, oldest first."""
    return sorted(name.split("/")[1] for name in place.sizes(BACKUPS) if name.endswith(f"/{MANIFEST}"))


def read_backup(place: BackupPlace, backup_id: str) -> Backup:
    """Raises DataIntegrityError naming a damaged manifest."""
    name = f"{BACKUPS}{backup_id}/{MANIFEST}"
    return decode(place.content(name), name)


def of_other_server(place: BackupPlace, image: Path) -> Backup | None:
    """The newest backup of a place, unless it is of the server that made the image. A manifest that is damaged must not
    keep a server from further backups."""
    moment = read_moment(image)
    for backup_id in reversed(backup_ids(place)):
        try:
            newest = read_backup(place, backup_id)
        except DataIntegrityError:
            continue
        is_own = moment is None or newest.moment is None or moment.continues(newest.moment)
        return None if is_own else newest
    return None


def remove_old(place: BackupPlace, kept: int) -> list[str]:
    """Removes all but the newest `kept` backups, and the files that none of these has, also those of backups that were
    never finished. Returns the removed ids."""
    ids = backup_ids(place)
    gone, left = ids[: max(0, len(ids) - kept)], ids[max(0, len(ids) - kept) :]
    needed = {one.stored_name for backup_id in left for one in read_backup(place, backup_id).stored_files}
    needed |= {f"{BACKUPS}{backup_id}/{name}" for backup_id in left for name in (CATALOG_FILE, MANIFEST)}
    # The manifests first: what is left without one is no backup.
    place.remove([f"{BACKUPS}{backup_id}/{MANIFEST}" for backup_id in gone])
    ours = (BACKUPS, FILES)
    stored = {name for part in ours for name in (*place.sizes(part), *place.never_finished(part))}
    place.remove(sorted(stored - needed))
    return gone


def is_whole_in(place: BackupPlace, one: BackupFile) -> bool:
    """Whether a stored file is what was stored, read from the place."""
    try:
        with place.reading(one.stored_name) as file:
            if one.is_log:
                return crc32c([file.read()]) == one.checksum
            return checksum_of(file, one.size, one.stored_name) == one.checksum
    except DataIntegrityError:
        return False


def damaged_files(place: BackupPlace, backup: Backup, on_bytes: OnBytes) -> list[str]:
    """The names of the files of a backup that are missing or not what was stored, all of them read."""
    stored, finished, damaged = place.sizes(FILES), 0, []
    files = backup.stored_files
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="verify") as pool:
        for one, is_whole in zip(
            files,
            pool.map(lambda one: one.stored_name in stored and is_whole_in(place, one), files),
            strict=True,
        ):
            finished += one.size
            on_bytes(finished, backup.size)
            if not is_whole:
                damaged.append(one.stored_name)
    name = f"{BACKUPS}{backup.backup_id}/{CATALOG_FILE}"
    content = place.content(name)
    if (len(content), crc32c([content])) != backup.catalog:
        damaged.append(name)
    on_bytes(backup.size, backup.size)
    return damaged


def fetch_catalog(place: BackupPlace, backup: Backup, target: Path) -> None:
    """Raises DataIntegrityError if it is damaged."""
    name = f"{BACKUPS}{backup.backup_id}/{CATALOG_FILE}"
    place.fetch(name, target)
    content = target.read_bytes()
    if (len(content), crc32c([content])) != backup.catalog:
        raise DataIntegrityError(f"{name} is damaged")
