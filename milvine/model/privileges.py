"""Milvus's privileges: their kinds of objects, their levels, and the groups that are built in.

Names are those of the API, without Milvus's prefixes. Source: Milvus's pkg/util/constant.go.
"""

from __future__ import annotations

from collections.abc import Mapping

ANY = "*"
GLOBAL, COLLECTION, USER = "Global", "Collection", "User"
OBJECT_TYPES = (COLLECTION, GLOBAL, USER)
CLUSTER_LEVEL, DATABASE_LEVEL, COLLECTION_LEVEL = "Cluster", "Database", "Collection"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_COLLECTION_READ = _names(
    "Query Search IndexDetail GetFlushState GetLoadState GetLoadingProgress HasPartition ShowPartitions "
    "DescribeCollection DescribeAlias GetStatistics ListAliases GetImportProgress ListImport DescribeSnapshot "
    "ListSnapshots"
)
_COLLECTION_WRITE = _names(
    "Load Release Insert Delete Upsert Import Flush Compaction LoadBalance CreateIndex DropIndex "
    "CreatePartition DropPartition AddCollectionField AlterCollectionSchema RefreshExternalCollection "
    "CreateSnapshot DropSnapshot"
)
_DATABASE_READ = _names("ShowCollections DescribeDatabase")
_DATABASE_WRITE = _names("AlterDatabase")
_CLUSTER_READ = _names(
    "ListDatabases SelectOwnership SelectUser DescribeResourceGroup ListResourceGroups ListPrivilegeGroups "
    "GetReplicateConfiguration ListFileResources"
)
_CLUSTER_WRITE = _names(
    "FlushAll TransferNode TransferReplica UpdateResourceGroups AddFileResource RemoveFileResource "
    "PinSnapshotData UnpinSnapshotData"
)
_COLLECTION_ADMIN = _names("CreateAlias DropAlias RestoreSnapshot")
_DATABASE_ADMIN = _names("CreateCollection DropCollection RenameCollection")
_CLUSTER_ADMIN = _names(
    "BackupRBAC RestoreRBAC CreateDatabase DropDatabase CreateOwnership DropOwnership ManageOwnership "
    "CreateResourceGroup DropResourceGroup UpdateUser CreatePrivilegeGroup DropPrivilegeGroup "
    "OperatePrivilegeGroup UpdateReplicateConfiguration Expr RestoreExternalSnapshot ExportSnapshot"
)

BUILT_IN_GROUPS: Mapping[str, tuple[str, ...]] = {
    "ClusterReadOnly": _CLUSTER_READ,
    "ClusterReadWrite": (*_CLUSTER_READ, *_CLUSTER_WRITE),
    "ClusterAdmin": (*_CLUSTER_READ, *_CLUSTER_WRITE, *_CLUSTER_ADMIN),
    "DatabaseReadOnly": _DATABASE_READ,
    "DatabaseReadWrite": (*_DATABASE_READ, *_DATABASE_WRITE),
    "DatabaseAdmin": (*_DATABASE_READ, *_DATABASE_WRITE, *_DATABASE_ADMIN),
    "CollectionReadOnly": _COLLECTION_READ,
    "CollectionReadWrite": (*_COLLECTION_READ, *_COLLECTION_WRITE),
    "CollectionAdmin": (*_COLLECTION_READ, *_COLLECTION_WRITE, *_COLLECTION_ADMIN),
}
"""The groups of the second generation, whose members have one level."""

LEVELS: Mapping[str, str] = {
    **dict.fromkeys(BUILT_IN_GROUPS["CollectionAdmin"], COLLECTION_LEVEL),
    **dict.fromkeys(BUILT_IN_GROUPS["DatabaseAdmin"], DATABASE_LEVEL),
    **dict.fromkeys(BUILT_IN_GROUPS["ClusterAdmin"], CLUSTER_LEVEL),
}

ALL = "All"
_READ_ONLY = (
    *_COLLECTION_READ[:10],
    *_names("ShowCollections ListAliases ListDatabases DescribeDatabase GetStatistics DescribeSnapshot ListSnapshots"),
)
_READ_WRITE = (
    *_READ_ONLY,
    *_names("CreateIndex DropIndex CreatePartition DropPartition Load Release Insert Delete Upsert Import Flush"),
    *_names("Compaction LoadBalance CreateAlias DropAlias CreateSnapshot DropSnapshot RefreshExternalCollection"),
)
_ADMIN = (
    *_READ_WRITE,
    *_names("CreateCollection DropCollection RenameCollection CreateOwnership DropOwnership SelectOwnership"),
    *_names("ManageOwnership SelectUser UpdateUser BackupRBAC RestoreRBAC CreateResourceGroup UpdateResourceGroups"),
    *_names("DropResourceGroup DescribeResourceGroup ListResourceGroups TransferReplica TransferNode CreateDatabase"),
    *_names(
        "DropDatabase AlterDatabase UpdateReplicateConfiguration RestoreSnapshot ExportSnapshot "
        "RestoreExternalSnapshot PinSnapshotData UnpinSnapshotData"
    ),
)
FIRST_GROUPS: Mapping[str, frozenset[str]] = {
    "ReadOnly": frozenset(_READ_ONLY),
    "ReadWrite": frozenset(_READ_WRITE),
    "Admin": frozenset(_ADMIN),
}
"""The groups of the first generation."""

_OF_COLLECTIONS = frozenset(
    {
        *(set(BUILT_IN_GROUPS["CollectionAdmin"]) - {"DescribeCollection", "DescribeAlias", "ListAliases"}),
        "ReadOnly",
        "ReadWrite",
    }
    - {"CreateAlias", "DropAlias"}
)
_OF_USERS = frozenset({"UpdateUser", "SelectUser"})
PRIVILEGES: frozenset[str] = frozenset({*LEVELS, ALL})
"""All single privileges."""
NAMES: frozenset[str] = PRIVILEGES | frozenset(FIRST_GROUPS) | frozenset(BUILT_IN_GROUPS)
"""All names that own groups cannot have."""


def object_type(name: str) -> str:
    """The kind of object that a privilege or a group is granted on."""
    if name in _OF_COLLECTIONS:
        return COLLECTION
    return USER if name in _OF_USERS else GLOBAL


RELATED: Mapping[str, tuple[str, ...]] = {"Load": ("GetLoadState", "GetLoadingProgress"), "Flush": ("GetFlushState",)}
"""Privileges that are granted and revoked with another one."""
