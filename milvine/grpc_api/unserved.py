"""RPCs and message fields that are not served: refused with a status that every SDK raises.

Milvus's Node SDK reads UNIMPLEMENTED as an empty answer, so RPCs that are not served answer with a Status.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from milvine.errors import ParameterInvalid, ServiceUnimplemented
from milvine.grpc_api import encode
from milvine.model.known_keys import refused_keys, unsupported

ABSENT = {
    "AddCollectionFunction": "a function",
    "AddCollectionStructField": "a struct field",
    "AddFileResource": "a file resource",
    "AddUserTags": "a tag of a user",
    "AlterCollectionFunction": "a function",
    "BatchUpdateManifest": "a manifest",
    "CalcDistance": "CalcDistance",
    "ComputePhraseMatchSlop": "a phrase match",
    "CreateNamespace": "a namespace",
    "CreateRowPolicy": "a row policy",
    "CreateSnapshot": "a snapshot",
    "DeleteUserTags": "a tag of a user",
    "DescribeNamespace": "a namespace",
    "DescribePrewarmTask": "prewarming",
    "DescribeSegmentIndexData": "DescribeSegmentIndexData",
    "DescribeSnapshot": "a snapshot",
    "DropCollectionFunction": "a function",
    "DropNamespace": "a namespace",
    "DropRowPolicy": "a row policy",
    "DropSnapshot": "a snapshot",
    "DumpMessages": "replication",
    "ExportSnapshot": "a snapshot",
    "GetExportSnapshotState": "a snapshot",
    "GetImportState": "an import",
    "GetIndexBuildProgress": "GetIndexBuildProgress",
    "GetIndexState": "GetIndexState",
    "GetIndexStatistics": "GetIndexStatistics",
    "GetNamespaceStats": "a namespace",
    "GetRefreshExternalCollectionProgress": "an external collection",
    "GetReplicateConfiguration": "replication",
    "GetRestoreSnapshotState": "a snapshot",
    "GetUserTags": "a tag of a user",
    "HasNamespace": "a namespace",
    "HybridSearch": "hybrid search",
    "Import": "an import",
    "ListFileResources": "a file resource",
    "ListImportTasks": "an import",
    "ListIndexedSegment": "ListIndexedSegment",
    "ListNamespaces": "a namespace",
    "ListRefreshExternalCollectionJobs": "an external collection",
    "ListRestoreSnapshotJobs": "a snapshot",
    "ListRowPolicies": "a row policy",
    "ListSnapshots": "a snapshot",
    "ListUsersWithTag": "a tag of a user",
    "LoadBalance": "moving segments between nodes",
    "PinSnapshotData": "a snapshot",
    "Prewarm": "prewarming",
    "RefreshExternalCollection": "an external collection",
    "RegisterLink": "RegisterLink",
    "RemoveFileResource": "a file resource",
    "ReplicateMessage": "replication",
    "RestoreExternalSnapshot": "a snapshot",
    "RestoreSnapshot": "a snapshot",
    "RunAnalyzer": "an analyzer",
    "UnpinSnapshotData": "a snapshot",
    "UpdateReplicateConfiguration": "replication",
}
"""RPCs of MilvusService that are not served, with the features that they request."""

UNIMPLEMENTED = {
    "AlterCollectionSchema": "the Java and the Go SDK fall back on AddCollectionField",
    "CreateReplicateStream": "its answer has no status",
    "Dummy": "its answer has no status",
    "GetReplicateInfo": "its answer has no status",
}
"""RPCs that answer with gRPC's UNIMPLEMENTED instead, and why."""


def refusal(method: str) -> Any:
    """The answer of an RPC of ABSENT."""
    return encode.failure(method, ServiceUnimplemented(unsupported(ABSENT[method])))


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
