"""Backups of a whole server: the server holds all files as they are at one moment, a program beside it copies them.

The server writes nowhere but into its data directory, and waits for nobody: what it holds for a backup goes when the
program says that it is done, after a day, or at the next start.
"""

from __future__ import annotations

from pathlib import Path

from milvine.catalog.snapshots import hold_everything, let_go
from milvine.crash_points import crash_point
from milvine.datanode.moments import write_moment
from milvine.errors import ParameterInvalid, write_failure
from milvine.model.records import record
from milvine.model.snapshots import BACKUP_PREFIX
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import capability
from milvine.storage.directories import make_directory
from milvine.storage.files import link_or_copy, remove_tree
from milvine.storage.resource_files import resource_file
from milvine.storage.segment_files import SegmentPaths


@record
class HeldFiles:
    """`image`: a directory with the catalog, and with the file resources, as they are in the backup."""

    backup_id: int
    data_dir: Path
    image: Path


@capability("BackupRBAC")
def begin_backup(engine: Engine, context: RequestContext) -> HeldFiles:
    """Seals every row that was written before one moment, in all collections, and holds all files of then."""
    backup_id = engine.clock.next()
    root = Path(engine.settings.data_dir).absolute()
    image = SegmentPaths(root).backup_image(backup_id)
    try:
        make_directory(image)
        with engine.datanode.flushed_together():
            name = f"{BACKUP_PREFIX}{backup_id}"
            catalog_file = image / "catalog.sqlite"
            held = hold_everything(engine.catalog, engine.clock.next, name, catalog_file)
            checkpoints = {i: one.checkpoint_file for i, one in held.collections.items()}
            write_moment(image, backup_id, engine.clock.next(), checkpoints)
            engine.datanode.kept_logs.link_into(image)
            for resource in engine.catalog.snapshot.file_resources.values():
                source = resource_file(root, resource.resource_id)
                link_or_copy(source, image / source.name)
        crash_point("backup.begun")
    except BaseException as error:
        _end(engine, backup_id)
        if isinstance(error, OSError):
            raise write_failure(error.filename or image, error) from error
        raise
    engine.datanode.snapshots.look()
    return HeldFiles(backup_id, root, image)


@capability("BackupRBAC")
def end_backup(engine: Engine, context: RequestContext, backup_id: int) -> None:
    """Lets the files go. No error for a backup that has ended."""
    if backup_id <= 0:
        raise ParameterInvalid(f"{backup_id} is not the id of a backup")
    _end(engine, backup_id)


def _end(engine: Engine, backup_id: int) -> None:
    for kept in let_go(engine.catalog, f"{BACKUP_PREFIX}{backup_id}"):
        engine.datanode.snapshots.dropped(kept)
    remove_tree(SegmentPaths(Path(engine.settings.data_dir)).backup_image(backup_id))
