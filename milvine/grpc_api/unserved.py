"""RPCs and message fields that are not served: refused with a status that every SDK raises.

Milvus's Node SDK reads UNIMPLEMENTED as an empty answer, so RPCs that are not served answer with a Status.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from milvine.errors import MilvineError, ParameterInvalid, ServiceUnavailable, ServiceUnimplemented
from milvine.model.known_keys import REMOVED_BY_MILVUS, refused_keys, unsupported

ABSENT = {
    "AddCollectionStructField": "a struct field",
    "BatchUpdateManifest": "a manifest",
    "DumpMessages": "replication",
    "UpdateReplicateConfiguration": "replication",
}
"""RPCs of MilvusService that are not served, with the features that they request."""

REFUSED_BY_MILVUS = {
    "CalcDistance": "CalcDistance deprecated",
    "DescribeSegmentIndexData": "unimp",
    "ListIndexedSegment": "unimp",
    "ReplicateMessage": "not supported in streaming mode",
}
"""RPCs that Milvus refuses, too, with its reasons."""

WITHOUT_CODE_IN_MILVUS = frozenset(
    [
        "AddUserTags",
        "DeleteUserTags",
        "GetUserTags",
        "ListUsersWithTag",
        "CreateRowPolicy",
        "DropRowPolicy",
        "ListRowPolicies",
        "CreateNamespace",
        "DropNamespace",
        "DescribeNamespace",
        "HasNamespace",
        "ListNamespaces",
        "GetNamespaceStats",
        "Prewarm",
        "DescribePrewarmTask",
    ]
)
"""RPCs that Milvus 3.0 declares and does not implement."""

WITHOUT_STATUS = {"CreateReplicateStream": "replication"}
"""RPCs that are not served and whose answers have no status, with the features that they request; gRPC's own status
refuses them."""


def unserved(method: str) -> MilvineError | None:
    """Why an RPC is refused with a Status; None for one that is not."""
    if method in REFUSED_BY_MILVUS:
        return ServiceUnavailable(REFUSED_BY_MILVUS[method])
    if method in REMOVED_BY_MILVUS:
        return ParameterInvalid(REMOVED_BY_MILVUS[method])
    if method in WITHOUT_CODE_IN_MILVUS:
        return ServiceUnimplemented(f"method {method} not implemented")
    return ServiceUnimplemented(unsupported(ABSENT[method])) if method in ABSENT else None


@cache
def _refused_fields(descriptor: Any) -> tuple[tuple[str, bool, str], ...]:
    """The name, whether the message records that it is set, and the text of each field."""
    fields = descriptor.fields_by_name
    return tuple((name, fields[name].has_presence, known.text) for name, known in refused_keys(descriptor.name))


def refuse_unserved_fields(message: Any, of: str = "") -> None:
    """Raises ParameterInvalid for the first field that requests a feature that is not served; `of` names its owner."""
    for name, has_presence, text in _refused_fields(message.DESCRIPTOR):
        if message.HasField(name) if has_presence else getattr(message, name):
            raise ParameterInvalid(f"{text}{of}")
