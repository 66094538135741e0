"""/milvine/v1/backup/: what `milvine backup` calls before and after it copies the files."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.service import backups


def begin(call: Call) -> dict[str, Any]:
    held = backups.begin_backup(call.engine, call.context)
    return {"data": {"backupId": str(held.backup_id), "dataDir": str(held.data_dir), "image": str(held.image)}}


def end(call: Call) -> dict[str, Any]:
    text = call.body.text("backupId")
    is_number = len(text) < 20 and text.isascii() and text.isdigit()
    backups.end_backup(call.engine, call.context, int(text) if is_number else 0)
    return {"data": {}}


OUR_ROUTES: dict[str, Route] = {
    "backup/begin": Route(begin, "BackupBeginReq", ()),
    "backup/end": Route(end, "BackupEndReq", ("backupId",)),
}
