"""All keys of Milvus and how each is handled here, so that no request is silently ignored.

Places: the properties of databases, collections, fields and indexes, the parameters of searches, queries and loads,
the fields of each request message (by the message's name), the keys of each REST body (by Milvus's name for it).
A key that is not listed is not a key of Milvus. As a property it is kept for the user; elsewhere it is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache

from milvine.errors import ParameterInvalid
from milvine.model.records import record


class Verdict(Enum):
    """REFUSED: unless it has its default value."""

    SERVED = auto()
    HARMLESS = auto()
    REFUSED = auto()


_ASKS_NOTHING = frozenset({"", "false", "null", "none", "[]", "{}"})


@record
class Known:
    """`text`: for a harmless key the reason why ignoring it changes nothing, for a refused key the error message.

    `neutral`: values, in small letters, with which a refused key means the same as without it.
    """

    verdict: Verdict
    text: str = ""
    neutral: frozenset[str] = _ASKS_NOTHING

    def asks_nothing(self, value: object) -> bool:
        """`value` is text or decoded JSON."""
        if isinstance(value, bool):
            value = str(value)
        return value.strip().lower() in self.neutral if isinstance(value, str) else not value


_SERVED = Known(Verdict.SERVED)


def unsupported(what: str) -> str:
    return f"{what} is not supported by this version of Milvine"


def _served(names: str) -> dict[str, Known]:
    return dict.fromkeys(names.split(), _SERVED)


def _harmless(why: str, names: str) -> dict[str, Known]:
    return dict.fromkeys(names.split(), Known(Verdict.HARMLESS, why))


def _refused(**what: str) -> dict[str, Known]:
    """Keys with the nouns of the features that they request."""
    return {name: Known(Verdict.REFUSED, unsupported(noun)) for name, noun in what.items()}


def _refused_keys(names: str, neutral: frozenset[str] = _ASKS_NOTHING) -> dict[str, Known]:
    """Keys that the refusal names by the key itself."""
    return {name: Known(Verdict.REFUSED, unsupported(name), neutral) for name in names.split()}


DATABASE, COLLECTION, FIELD, INDEX = "database properties", "collection properties", "field params", "index params"
SEARCH, RANK, QUERY, LOAD = "search params", "rank params", "query params", "load params"

_NAMESPACE = {"namespace": Known(Verdict.REFUSED, "namespace data is set but namespace disabled")}
_BASE = _harmless("its sender and time; Milvus overwrites it", "base")
_ID = _harmless("the collection's name identifies it", "collectionID")
_TIME_TRAVEL = _harmless("Milvus ignores it since 2.3", "travel_timestamp")
_COLLECTION_OF = {**_BASE, **_served("db_name collection_name")}
_HASH_KEYS = _harmless("Milvus computes them itself", "hash_keys")
_PRESENT = "the present state is described, which every SDK requests"
_PLACING = "mmap.enabled warmup.scalarField warmup.scalarIndex warmup.vectorField warmup.vectorIndex"
_WITHOUT_TYPE = "index types that read it are refused, and the others ignore it, as in Milvus"
_STORAGE_SPEC = "a storage specification of a request"
_FILLED = "groups are always filled as far as there are rows"
_SERVED_RATES = ("insertRate.{}.mb", "deleteRate.{}.mb", "queryRate.{}.qps", "searchRate.{}.vps")
_MAX_RATES, _MIN_RATES = (" ".join(f"collection.{r.format(end)}" for r in _SERVED_RATES) for end in ("max", "min"))

KEYS: dict[str, dict[str, Known]] = {
    DATABASE: {
        **_served("database.replica.number database.resource_groups database.diskQuota.mb database.max.collections"),
        **_served("database.force.deny.writing database.force.deny.reading database.force.deny.ddl"),
        **_served("database.force.deny.collectionDDL database.force.deny.partitionDDL database.force.deny.index"),
        **_served("database.force.deny.flush database.force.deny.compaction"),
        **_served(f"timezone cipher.enabled {_PLACING}"),
        **_harmless("nothing is encrypted while cipher.enabled is off, and on it is refused", "cipher.key cipher.ezID"),
        **_refused_keys("replicate.id"),
    },
    COLLECTION: {
        **_served("collection.ttl.seconds collection.description collection.diskProtection.diskQuota.mb"),
        **_served("collection.autocompaction.enabled"),
        **_served("collection.replica.number collection.resource_groups consistency_level dynamicfield.enabled"),
        **_served("partitionkey.isolation allow_insert_auto_id timezone query_mode namespace.sharding.enabled"),
        **_served(f"max_field_id ttl_field {_PLACING}"),
        **_served("disable_func_runtime_check collection.function.allowInsertNonBM25FunctionOutputs"),
        **_harmless("Milvus sets it itself during a truncation", "collection.on.truncating"),
        **_served(_MAX_RATES),
        **_harmless("no rate is lowered under load, so none needs a lower bound", _MIN_RATES),
        **_harmless("there are no bulk loads", "collection.bulkLoadRate.max.mb collection.bulkLoadRate.min.mb"),
        **_refused_keys("partition.diskProtection.diskQuota.mb", neutral=frozenset({"", "-1"})),
        **_refused_keys("namespace.mode cipher.enabled cipher.key cipher.ezID replicate.id"),
        **_refused_keys("local_format", neutral=frozenset({"", "raw"})),
        **_refused_keys("index.nonEncoding"),
        **_refused(
            **{
                "collection.external_source": "an external collection",
                "collection.external_spec": "an external collection",
            }
        ),
    },
    FIELD: {
        **_served(f"dim max_length max_capacity field.skipLoad warmup {_PLACING}"),
        **_served("enable_analyzer enable_match analyzer_params multi_analyzer_params"),
        **_refused_keys("local_format", neutral=frozenset({"", "raw"})),
        **_refused_keys("index.nonEncoding"),
        **_harmless("it is a flag of the field's schema", "nullable"),
    },
    INDEX: {
        **_served("index_type metric_type params nlist m nbits M efConstruction sq_type refine refine_type"),
        **_served("nrq rbq_bits faiss_index_name"),
        **_served("with_raw_data mmap.enabled warmup indexoffsetcache.enabled json_path json_cast_type"),
        **_served("json_cast_function min_gram max_gram bm25_k1 bm25_b mh_element_bit_width mh_lsh_band"),
        **_harmless("the sparse index is exact and has one form", "inverted_index_algo drop_ratio_build"),
        **_harmless("the server decides, as in Milvus", "max_degree search_list_size pq_code_budget_gb_ratio"),
        **_harmless("the server decides, as in Milvus", "search_cache_budget_gb_ratio"),
        **_harmless(_WITHOUT_TYPE, "intermediate_graph_degree graph_degree build_algo"),
        **_harmless(_WITHOUT_TYPE, "with_raw_data_mh rbq_bits_query"),
        **_harmless("the values decide how it is built", "bitmap_cardinality_limit"),
        **_harmless("the field has it; Milvus leaves it out too", "dim max_length"),
    },
    SEARCH: {
        **_served("anns_field topk limit offset metric_type params round_decimal ignore_growing iterator"),
        **_served("collection_id search_iter_v2 search_iter_batch_size search_iter_last_bound search_iter_id"),
        **_served("radius range_filter max_empty_result_buckets ef nprobe refine_k reorder_k hints"),
        **_served("search_list search_list_size beamwidth rbq_bits_query efSearch k_factor"),
        **_served("group_by_field group_by_fields group_size json_path json_type strict_cast"),
        **_served("rank_group_scorer order_by_fields analyzer_name"),
        **_served("timezone time_fields"),
        **_refused_keys("pipeline_trace recall_eval"),
        **_harmless(_FILLED, "strict_group_size"),
        **_served("drop_ratio_search mh_search_with_jaccard"),
        **_harmless("the sparse index is exact and has one form", "dim_max_score_ratio"),
        **_harmless(_WITHOUT_TYPE, "rbq_query_bits"),
        **_harmless("only the hosted AUTOINDEX reads it", "level"),
        **_harmless("pages always keep one order", "page_retain_order retain_iterator_order"),
        **_harmless("a search continues until the limit is full", "ensure_topk_full"),
        **_harmless("a hint of how to filter", "expr_use_json_stats iterative_filter"),
        **_harmless("of a cluster's reduce; here one process sees all segments", "global_refine"),
        **_harmless("of a cluster's reduce; here one process sees all segments", "search_topk_ratio refine_topk_ratio"),
        **_harmless("iterators read at the request's own timestamp", "guarantee_timestamp"),
        **_harmless("it is the number of vectors sent", "nq"),
    },
    RANK: {
        **_served("strategy params limit offset round_decimal group_by_field group_by_fields group_size"),
        **_served("rank_group_scorer timezone time_fields"),
        **_refused_keys("pipeline_trace"),
        **_served("order_by_fields"),
        **_harmless(_FILLED, "strict_group_size"),
    },
    QUERY: {
        **_served("limit offset iterator collection_id reduce_stop_for_best ignore_growing order_by_fields"),
        **_served("group_by_fields"),
        **_refused(
            query_iter_last_element_offset="element cursor",
        ),
        **_served("timezone time_fields"),
        **_harmless("it belongs to query_iter_last_element_offset", "query_iter_last_pk"),
        **_harmless("a hint of how to filter", "expr_use_json_stats"),
    },
    LOAD: _harmless("loads do not wait for each other", "load_priority"),
    # Request messages
    "AddCollectionFieldRequest": {**_COLLECTION_OF, **_ID, **_served("schema")},
    "AddFileResourceRequest": {**_BASE, **_served("name path")},
    "AllocTimestampRequest": _BASE,
    "AlterRoleRequest": {**_BASE, **_served("role_name description")},
    "BackupRBACMetaRequest": _BASE,
    "CreatePrivilegeGroupRequest": {**_BASE, **_served("group_name")},
    "CreateRoleRequest": {**_BASE, **_served("entity")},
    "CreateSnapshotRequest": {
        **_BASE,
        **_served("name description db_name collection_name compaction_protection_seconds"),
    },
    "DescribeSnapshotRequest": {**_BASE, **_served("name db_name collection_name")},
    "DropPrivilegeGroupRequest": {**_BASE, **_served("group_name")},
    "DropRoleRequest": {**_BASE, **_served("role_name force_drop")},
    "DropSnapshotRequest": {**_BASE, **_served("name db_name collection_name")},
    "GetImportStateRequest": _served("task"),
    "ImportRequest": {
        **_served("collection_name partition_name files options db_name"),
        **_harmless("Milvus does not read it either", "channel_names row_based clustering_info"),
    },
    "ListImportTasksRequest": {
        **_served("collection_name db_name"),
        **_harmless("every task is listed, as in Milvus", "limit"),
    },
    "ListPrivilegeGroupsRequest": _BASE,
    "ListRestoreSnapshotJobsRequest": {**_BASE, **_served("db_name collection_name")},
    "ListSnapshotsRequest": {**_BASE, **_served("db_name collection_name")},
    "OperatePrivilegeGroupRequest": {**_BASE, **_served("group_name privileges type")},
    "OperatePrivilegeRequest": {**_BASE, **_served("entity type version")},
    "OperatePrivilegeV2Request": {**_BASE, **_served("role grantor type db_name collection_name")},
    "OperateUserRoleRequest": {**_BASE, **_served("username role_name type")},
    "PinSnapshotDataRequest": {**_BASE, **_served("name db_name collection_name ttl_seconds")},
    "ExportSnapshotRequest": {
        **_BASE,
        **_served("name db_name collection_name target_s3_path"),
        **_refused(external_spec=_STORAGE_SPEC),
    },
    "GetExportSnapshotStateRequest": {**_BASE, **_served("job_id")},
    "RestoreExternalSnapshotRequest": {
        **_BASE,
        **_served("db_name target_collection_name snapshot_metadata_uri"),
        **_refused(external_spec=_STORAGE_SPEC),
    },
    "RestoreRBACMetaRequest": {**_BASE, **_served("RBAC_meta")},
    "RestoreSnapshotRequest": {
        **_BASE,
        **_served("name db_name collection_name target_db_name target_collection_name"),
        **_harmless("Milvus does not read it either", "rewrite_data"),
    },
    "SelectGrantRequest": {**_BASE, **_served("entity")},
    "SelectRoleRequest": {**_BASE, **_served("role include_user_info")},
    "SelectUserRequest": {**_BASE, **_served("user include_role_info")},
    "AlterAliasRequest": {**_COLLECTION_OF, **_served("alias")},
    "AlterCollectionFieldRequest": {**_COLLECTION_OF, **_served("field_name properties delete_keys")},
    "AlterCollectionFunctionRequest": {**_COLLECTION_OF, **_ID, **_served("function_name functionSchema")},
    "AlterCollectionRequest": {**_COLLECTION_OF, **_ID, **_served("properties delete_keys")},
    "AlterCollectionSchemaRequest": {**_COLLECTION_OF, **_ID, **_served("action")},
    "AlterDatabaseRequest": {
        **_BASE,
        **_served("db_name properties delete_keys"),
        **_harmless("the database's name identifies it", "db_id"),
    },
    "AlterIndexRequest": {**_COLLECTION_OF, **_served("index_name extra_params delete_keys")},
    "BatchDescribeCollectionRequest": {**_served("db_name collection_name"), **_ID},
    "CheckHealthRequest": {},
    "ComputePhraseMatchSlopRequest": {**_BASE, **_served("analyzer_params query_text data_texts")},
    "ConnectRequest": {**_BASE, **_harmless("it describes the client for a list in Milvus", "client_info")},
    "CreateAliasRequest": {**_COLLECTION_OF, **_served("alias")},
    "CreateCollectionRequest": {
        **_COLLECTION_OF,
        **_served("schema shards_num consistency_level properties num_partitions"),
    },
    "CreateCredentialRequest": {
        **_BASE,
        **_served("username password description"),
        **_harmless("Milvus sets them itself", "created_utc_timestamps modified_utc_timestamps"),
    },
    "CreateDatabaseRequest": {**_BASE, **_served("db_name properties")},
    "CreateIndexRequest": {**_COLLECTION_OF, **_served("field_name extra_params index_name")},
    "CreatePartitionRequest": {**_COLLECTION_OF, **_served("partition_name")},
    "CreateResourceGroupRequest": {**_BASE, **_served("resource_group config")},
    "DeleteCredentialRequest": {**_BASE, **_served("username")},
    "DeleteRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_HASH_KEYS,
        **_served("partition_name expr expr_template_values"),
        **_harmless("deletes see all earlier writes", "consistency_level"),
    },
    "DescribeAliasRequest": {**_BASE, **_served("db_name alias")},
    "DescribeCollectionRequest": {**_COLLECTION_OF, **_served("collectionID"), **_harmless(_PRESENT, "time_stamp")},
    "DescribeDatabaseRequest": {**_BASE, **_served("db_name")},
    "DescribeIndexRequest": {
        **_COLLECTION_OF,
        **_served("field_name index_name"),
        **_harmless("later rows are counted too", "timestamp"),
    },
    "DescribeResourceGroupRequest": {**_BASE, **_served("resource_group")},
    "DummyRequest": _served("request_type"),
    "DropAliasRequest": {**_BASE, **_served("db_name alias")},
    "DropCollectionRequest": _COLLECTION_OF,
    "DropDatabaseRequest": {**_BASE, **_served("db_name")},
    "DropIndexRequest": {**_COLLECTION_OF, **_served("field_name index_name")},
    "DropPartitionRequest": {**_COLLECTION_OF, **_served("partition_name")},
    "DropResourceGroupRequest": {**_BASE, **_served("resource_group")},
    "FlushAllRequest": {**_BASE, **_served("db_name flush_targets")},
    "FlushRequest": {**_BASE, **_served("db_name collection_names")},
    "GetCollectionStatisticsRequest": _COLLECTION_OF,
    "GetCompactionPlansRequest": {
        **_served("compactionID db_name collection_name"),
        **_harmless("the collection's name identifies it", "collection_id"),
    },
    "GetCompactionStateRequest": _served("compactionID"),
    "GetComponentStatesRequest": {},
    "GetFlushAllStateRequest": {**_BASE, **_served("flush_all_ts db_name flush_targets flush_all_tss")},
    "GetFlushStateRequest": _served("segmentIDs flush_ts db_name collection_name"),
    "GetIndexBuildProgressRequest": {**_COLLECTION_OF, **_served("field_name index_name")},
    "GetIndexStateRequest": {**_COLLECTION_OF, **_served("field_name index_name")},
    "GetIndexStatisticsRequest": {
        **_COLLECTION_OF,
        **_served("index_name"),
        **_harmless("rows that came later are counted, too", "timestamp"),
    },
    "GetReplicateConfigurationRequest": {},
    "GetReplicateInfoRequest": _harmless("there is no replication", "source_cluster_id target_pchannel"),
    "GetLoadStateRequest": {**_COLLECTION_OF, **_served("partition_names")},
    "GetLoadingProgressRequest": {**_COLLECTION_OF, **_served("partition_names")},
    "GetPartitionStatisticsRequest": {**_COLLECTION_OF, **_served("partition_name")},
    "GetMetricsRequest": {**_BASE, **_served("request")},
    "GetPersistentSegmentInfoRequest": {**_BASE, **_served("dbName collectionName states")},
    "GetQuerySegmentInfoRequest": {**_BASE, **_served("dbName collectionName")},
    "GetRefreshExternalCollectionProgressRequest": {**_BASE, **_served("job_id")},
    "GetReplicasRequest": {
        **_COLLECTION_OF,
        **_served("collectionID"),
        **_harmless("the nodes of the shards are always listed", "with_shard_nodes"),
    },
    "GetRestoreSnapshotStateRequest": {**_BASE, **_served("job_id")},
    "GetVersionRequest": {},
    "HasCollectionRequest": {**_COLLECTION_OF, **_harmless(_PRESENT, "time_stamp")},
    "HasPartitionRequest": {**_COLLECTION_OF, **_served("partition_name")},
    "InsertRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_HASH_KEYS,
        **_served("partition_name fields_data num_rows schema_timestamp"),
    },
    "HybridSearchRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_TIME_TRAVEL,
        **_served("partition_names requests rank_params output_fields guarantee_timestamp consistency_level"),
        **_served("use_default_consistency function_score"),
        **_harmless("answers have only the necessary metadata", "not_return_all_meta"),
        "function_chains": Known(Verdict.REFUSED, "function_chains is not supported for hybrid search yet"),
    },
    "ListAliasesRequest": _COLLECTION_OF,
    "ListCredUsersRequest": _BASE,
    "ListDatabasesRequest": _BASE,
    "ListFileResourcesRequest": _BASE,
    "ListRefreshExternalCollectionJobsRequest": _COLLECTION_OF,
    "ListResourceGroupsRequest": _BASE,
    "LoadBalanceRequest": {
        **_BASE,
        **_served("db_name collectionName src_nodeID dst_nodeIDs sealed_segmentIDs"),
    },
    "LoadCollectionRequest": {
        **_COLLECTION_OF,
        **_served("replica_number resource_groups refresh load_fields skip_load_dynamic_field load_params"),
    },
    "LoadPartitionsRequest": {
        **_COLLECTION_OF,
        **_served("partition_names replica_number resource_groups refresh load_fields skip_load_dynamic_field"),
        **_served("load_params"),
    },
    "ManualCompactionRequest": {
        **_served("collectionID majorCompaction collection_name db_name l0Compaction target_size"),
        **_harmless("Milvus ignores it since 2.3", "timetravel"),
        **_refused(
            partition_id="a compaction of one partition",
            channel="a compaction of one channel",
            segment_ids="a compaction of chosen segments",
        ),
    },
    "QueryRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_TIME_TRAVEL,
        **_served("expr output_fields partition_names guarantee_timestamp query_params consistency_level"),
        **_served("use_default_consistency expr_template_values"),
        **_harmless("answers have only the necessary metadata", "not_return_all_meta"),
    },
    "RegisterLinkRequest": {},
    "RefreshExternalCollectionRequest": {**_COLLECTION_OF, **_served("external_source external_spec")},
    "ReleaseCollectionRequest": _COLLECTION_OF,
    "ReleasePartitionsRequest": {**_COLLECTION_OF, **_served("partition_names")},
    "RemoveFileResourceRequest": {**_BASE, **_served("name")},
    "RenameCollectionRequest": {**_BASE, **_served("db_name oldName newName newDBName")},
    "RunAnalyzerRequest": {
        **_COLLECTION_OF,
        **_served("analyzer_params placeholder with_detail with_hash field_name analyzer_names"),
    },
    "SearchRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_TIME_TRAVEL,
        **_served("partition_names dsl placeholder_group ids output_fields search_params guarantee_timestamp"),
        **_served("consistency_level use_default_consistency expr_template_values function_score highlighter"),
        **_served("search_aggregation function_chains"),
        **_harmless("filters are always expressions", "dsl_type"),
        **_harmless("it is the number of vectors sent", "nq"),
        **_harmless("answers have only the necessary metadata", "not_return_all_meta"),
        **_harmless("`ids` implies it", "search_by_primary_keys"),
        **_refused(
            sub_reqs="hybrid search",
        ),
    },
    "ShowCollectionsRequest": {
        **_BASE,
        **_served("db_name type collection_names"),
        **_harmless(_PRESENT, "time_stamp"),
    },
    "ShowPartitionsRequest": {**_COLLECTION_OF, **_ID, **_served("partition_names type")},
    "TransferNodeRequest": {**_BASE, **_served("source_resource_group target_resource_group num_node")},
    "TransferReplicaRequest": {
        **_COLLECTION_OF,
        **_served("source_resource_group target_resource_group num_replica"),
    },
    "TruncateCollectionRequest": _COLLECTION_OF,
    "UnpinSnapshotDataRequest": {**_BASE, **_served("pin_id")},
    "UpdateCredentialRequest": {
        **_BASE,
        **_served("username oldPassword newPassword description"),
        **_harmless("Milvus sets them itself", "created_utc_timestamps modified_utc_timestamps"),
    },
    "UpdateResourceGroupsRequest": {**_BASE, **_served("resource_groups")},
    "UpsertRequest": {
        **_COLLECTION_OF,
        **_NAMESPACE,
        **_HASH_KEYS,
        **_served("partition_name fields_data num_rows schema_timestamp partial_update field_ops"),
    },
    "CollectionSchema": {
        **_served("name description fields enable_dynamic_field functions"),
        **_harmless("the key's field has autoID, and the request has the rest", "autoID dbName properties version"),
        **_harmless("the analyzers' parameters name them", "file_resource_ids"),
        **_refused(
            struct_array_fields="a struct field",
            external_source="an external collection",
            external_spec="an external collection",
            enable_namespace="a namespace",
            do_physical_backfill="a physical backfill",
        ),
    },
    "FieldSchema": {
        **_served("name is_primary_key description data_type type_params autoID element_type default_value"),
        **_served("is_dynamic is_partition_key nullable"),
        **_harmless("Milvus sets them itself", "fieldID state is_function_output"),
        **_harmless("indexes are made by CreateIndex; Milvus does not read them either", "index_params"),
        **_refused(
            is_clustering_key="a clustering key",
            external_field="an external collection",
        ),
    },
    # REST v1 bodies
    "CreateCollectionReq": {
        **_served("dbName collectionName dimension description metricType primaryField vectorField"),
        **_served("enableDynamicField"),
    },
    "DeleteReq": _served("dbName collectionName id filter"),
    "DropCollectionReq": _served("dbName collectionName"),
    "GetReq": _served("dbName collectionName outputFields id"),
    "JobIDReq": {**_served("jobId"), **_harmless("Milvus's body has no such key", "dbName")},
    "QueryReq": _served("dbName collectionName outputFields filter limit offset"),
    "SearchReq": _served("dbName collectionName filter limit offset outputFields vector params searchAggregation"),
    "SingleInsertReq": _served("dbName collectionName data"),
    "SingleUpsertReq": _served("dbName collectionName data partialUpdate fieldOps"),
    # REST bodies
    "AliasCollectionReq": _served("dbName collectionName aliasName"),
    "AliasReq": _served("dbName aliasName"),
    "ApiKeyReq": _served("userName keyName roles expiresInSeconds"),
    "CollectionDataReq": {
        **_served("dbName collectionName partitionName data partialUpdate fieldOps"),
    },
    "CollectionAddFunction": _served("dbName collectionName function"),
    "CollectionAddFunctionField": _served("dbName collectionName function outputField indexParams"),
    "CollectionAlterFunction": _served("dbName collectionName functionName function"),
    "CollectionDropField": _served("dbName collectionName fieldName fieldId"),
    "CollectionDropFunction": _served("dbName collectionName functionName"),
    "CollectionDropFunctionField": _served("dbName collectionName functionName"),
    "CollectionFieldReqWithParams": _served("dbName collectionName fieldName fieldParams"),
    "CollectionFieldReqWithSchema": _served("dbName collectionName schema"),
    "CollectionFilterReq": _served("dbName collectionName partitionName filter exprParams"),
    "CollectionIDReq": {
        **_served("dbName collectionName partitionNames outputFields id consistencyLevel snapshotName"),
        **_harmless("partitionNames replaces it; Milvus does not read it either", "partitionName"),
    },
    "BackupBeginReq": {},
    "BackupEndReq": _served("backupId"),
    "ExportSnapshotReq": {
        **_served("dbName collectionName snapshotName targetS3Path"),
        **_refused(externalSpec=_STORAGE_SPEC),
    },
    "RestoreExternalSnapshotReq": {
        **_served("dbName targetCollectionName snapshotMetadataURI"),
        **_refused(externalSpec=_STORAGE_SPEC),
    },
    "SnapshotReq": _served("dbName collectionName snapshotName"),
    "SnapshotCreateReq": _served("dbName collectionName snapshotName description protectionSeconds"),
    "SnapshotRestoreReq": _served("dbName collectionName snapshotName targetCollectionName targetDbName"),
    "SnapshotPinReq": _served("dbName collectionName snapshotName ttlSeconds"),
    "SnapshotUnpinReq": _served("pinId"),
    "ExportBeginReq": _served("dbName collectionName snapshotName"),
    "ExportReadReq": _served("collectionId exportId filter partitionNames outputFields segment row"),
    "ExportEndReq": _served("collectionId exportId"),
    "CollectionNameReq": _served("dbName collectionName partitionNames"),
    "CollectionReq": {
        **_served("dbName collectionName dimension idType autoID metricType vectorFieldType consistencyLevel"),
        **_served("primaryFieldName vectorFieldName schema indexParams params properties description"),
        **_refused(externalSource="an external collection", externalSpec="an external collection"),
    },
    "CollectionReq.schema": {
        **_served("fields autoID enableDynamicField functions"),
        **_refused(
            structFields="a struct field",
            externalSource="an external collection",
            externalSpec="an external collection",
        ),
    },
    "CollectionReq.schema.fields": {
        **_served("fieldName description dataType elementDataType isPrimary isPartitionKey elementTypeParams"),
        **_served("typeParams nullable defaultValue"),
        **_refused(externalField="an external collection", isClusteringKey="a clustering key", fields="a struct field"),
    },
    "CollectionReqWithProperties": _served("dbName collectionName properties"),
    "CompactReq": _served("dbName collectionName isClustering"),
    "DatabaseReq": _served("dbName"),
    "DatabaseReqRequiredName": _served("dbName"),
    "DatabaseReqWithProperties": _served("dbName properties"),
    "DropCollectionPropertiesReq": _served("dbName collectionName propertyKeys"),
    "DropDatabasePropertiesReq": _served("dbName propertyKeys"),
    "DropIndexPropertiesReq": _served("dbName collectionName indexName propertyKeys"),
    "EmptyReq": {},
    "GetQuotaMetricsReq": {},
    "FileResourceNameReq": _served("name"),
    "FileResourceReq": _served("name path"),
    "FlushReq": _served("dbName collectionName"),
    "GetCompactionStateReq": _served("jobID"),
    "GetSegmentsInfoReq": {
        **_served("collectionID segmentIDs"),
        **_harmless("ids identify the segments", "dbName"),
    },
    "GrantReq": _served("roleName objectType objectName privilege dbName"),
    "GrantV2Req": _served("roleName privilege dbName collectionName"),
    "IndexParamReq": _served("dbName collectionName indexParams"),
    "IndexReq": {
        **_served("dbName collectionName indexName"),
        **_harmless("later rows are counted too", "timestamp"),
    },
    "IndexReqWithProperties": _served("dbName collectionName indexName properties"),
    "HybridSearchReq": {
        **_served("dbName collectionName partitionNames search rerank limit offset outputFields consistencyLevel"),
        **_served("functionScore groupingField groupSize snapshotName"),
        "functionChains": Known(Verdict.REFUSED, "functionChains is not supported for hybrid search yet"),
        **_served("searchAggregation"),
        **_harmless(_FILLED, "strictGroupSize"),
    },
    "HybridSearchReq.search": {
        **_served("data annsField filter limit offset params exprParams"),
        **_harmless("Milvus does not read it either", "metricType groupingField"),
        **_served("searchAggregation"),
    },
    "ImportReq": _served("dbName collectionName partitionName files options"),
    "LoadReq": _served("dbName collectionName partitionNames loadFields skipLoadDynamicField"),
    "MemoryReq": {},
    "NewPasswordReq": _served("userName password newPassword description"),
    "OptionalCollectionNameReq": _served("dbName collectionName"),
    "OverviewReq": _served("dbName collectionName"),
    "PartitionReq": _served("dbName collectionName partitionName"),
    "PartitionsReq": _served("dbName collectionName partitionNames"),
    "PasswordReq": _served("userName password description"),
    "PrivilegeGroupReq": _served("privilegeGroupName privileges"),
    "QueryReqV2": {
        **_served("dbName collectionName partitionNames outputFields filter limit offset exprParams"),
        **_served("consistencyLevel orderByFields groupByFields snapshotName"),
    },
    "RefreshExternalCollectionProgressReq": _served("jobId"),
    "RefreshExternalCollectionReq": _served("dbName collectionName externalSource externalSpec"),
    "RenameCollectionReq": _served("dbName collectionName newCollectionName newDbName"),
    "ResourceGroupReq": _served("name config"),
    "RoleReq": _served("roleName description dbName"),
    "RunAnalyzerReq": _served("dbName collectionName fieldName analyzerParams analyzerNames text withDetail withHash"),
    "SearchReqV2": {
        **_served("dbName collectionName data ids annsField partitionNames filter limit offset outputFields"),
        **_served("searchParams consistencyLevel exprParams groupingField groupSize functionScore"),
        **_served("orderByFields searchAggregation functionChains snapshotName"),
        **_harmless(_FILLED, "strictGroupSize"),
        **_harmless("searchParams replaces it; Milvus does not read it either", "params"),
    },
    "TransferReplicaReq": {
        **_served("sourceRgName targetRgName collectionName replicaNum"),
        **_harmless("Milvus's body has no such key", "dbName"),
    },
    "UpdateResourceGroupReq": _served("resource_groups"),
    "UserReq": _served("userName"),
    "UserRoleReq": _served("userName roleName"),
}


@cache
def refused_keys(place: str) -> tuple[tuple[str, Known], ...]:
    return tuple((key, known) for key, known in KEYS.get(place, {}).items() if known.verdict is Verdict.REFUSED)


def refuse_unserved(place: str, given: Mapping[str, object], of: str = "") -> None:
    """Raises ParameterInvalid for the first key that requests a feature that is not served; `of` names its owner."""
    if not given:
        return
    for key, known in refused_keys(place):
        if key in given and not known.asks_nothing(given[key]):
            raise ParameterInvalid(f"{known.text}{of}")


REMOVED_BY_MILVUS = {
    "AddCollectionFunction": (
        "AddCollectionFunction RPC is no longer supported; add BM25/MinHash via add_function_field, "
        "and define a TextEmbedding function at collection creation"
    ),
    "DropCollectionFunction": (
        "DropCollectionFunction RPC is no longer supported; drop a function via drop_function_field"
    ),
}
"""RPCs that Milvus served once, with the reasons of its refusals."""
