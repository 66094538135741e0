"""/milvine/v1/export/: rows at one moment, page by page, as streams of Arrow; what `milvine export` calls."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.rest_api.body import parse_int64
from milvine.rest_api.call import Call, Content, Route
from milvine.service.exporting import exports

_ARROW = "application/vnd.apache.arrow.stream"


def _id(call: Call, name: str) -> int:
    text = call.body.text(name)
    try:
        return parse_int64(text)
    except ValueError as error:
        raise ParameterInvalid(str(error), expected=f"int64 {name}", actual=text) from error


def begin(call: Call) -> dict[str, Any]:
    """Holds a snapshot, or the rows of now. The answer says what `read` and `end` need."""
    plan = exports.begin_export(call.engine, call.context, call.name, call.body.text("snapshotName"))
    return {
        "data": {
            "exportId": str(plan.export_id),
            "collectionId": str(plan.collection_id),
            "createdTs": str(plan.created_ts),
            "rowCount": plan.row_count,
            "fields": plan.fields,
        }
    }


def read(call: Call) -> Content:
    """A page from `segment` and `row` on, as a stream of Arrow. Its metadata says where the next page begins; `segment`
    is -1 after the last one."""
    body = call.body
    wanted = exports.PageRequest(
        _id(call, "exportId"),
        body.text("filter"),
        body.texts("partitionNames"),
        body.texts("outputFields"),
        body.integer("segment"),
        body.integer("row"),
    )
    page = exports.read_page(call.engine, call.context, "", _id(call, "collectionId"), wanted)
    place = {"segment": str(page.segment), "row": str(page.row), "passed": str(page.passed)}
    rows = page.rows.replace_schema_metadata(place)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return Content(_ARROW, sink.getvalue().to_pybytes())


def end(call: Call) -> dict[str, Any]:
    exports.end_export(call.engine, call.context, "", _id(call, "collectionId"), _id(call, "exportId"))
    return {"data": {}}


OUR_ROUTES: dict[str, Route] = {
    "export/begin": Route(begin, "ExportBeginReq"),
    "export/read": Route(read, "ExportReadReq", ("collectionId", "exportId")),
    "export/end": Route(end, "ExportEndReq", ("collectionId", "exportId")),
}
