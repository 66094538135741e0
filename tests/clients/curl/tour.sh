#!/usr/bin/env bash
# A tour of the server with curl, against MILVINE_URI with MILVINE_TOKEN: one line for each step.
set -uo pipefail

DIM=8
ROWS=200
BIG_ROWS=1600
NAME='"collectionName": "tour"'
LAST=
BODIES=$(mktemp -d)
trap 'rm -rf "$BODIES"' EXIT

# post ROUTE BODY: what came back is in LAST; true if the code in it is 0. A body of "@-" is read from the input.
post() { send "v2/vectordb/$1" "$2" 0; }

# send PATH BODY CODE
send() {
    LAST=$(curl --silent --show-error --max-time "${MAX_TIME:-60}" --request POST \
        --url "${MILVINE_URI}/$1" \
        --header "Authorization: Bearer ${MILVINE_TOKEN}" \
        --header "Content-Type: application/json" \
        --header "Accept-Type-Allow-Int64: true" \
        --data-binary "$2" 2>&1)
    local code=$?
    [[ $code -eq 0 && $LAST == "{\"code\":$3"* ]] || { [[ -n $LAST ]] || LAST="curl ended with $code"; return 1; }
}

has() { [[ $LAST == *"$1"* ]] || { LAST="no $1 in $LAST"; return 1; }; }

step() {
    local name=$1
    shift
    if "$@"; then echo "step $name ok"; else echo "step $name FAIL $(tr -s '\n ' ' ' <<<"$LAST" | cut -c 1-300)"; fi
}

lacking() {
    local name=$1
    shift
    if "$@"; then echo "step $name ok"; else echo "lacks: $name, $(tr -s '\n ' ' ' <<<"$LAST" | cut -c 1-120)"; fi
}

vector() { echo "[$1, 1, 1, 1, 1, 1, 1, 1]"; }

# row I [TEXT]
row() {
    local colors=(red blue) flags=(true false)
    echo "{\"id\": $1, \"vec\": $(vector "$1"), \"flag\": ${flags[$1 % 2]}, \"i8\": $(($1 % 100)), \"i16\": $1,
        \"i32\": $1, \"i64\": $1, \"f32\": $1, \"f64\": $1.25, \"text\": \"${2:-t$1}\", \"tags\": [$1, $(($1 + 1))],
        \"doc\": {\"k\": $1}, \"color\": \"${colors[$1 % 2]}\"}"
}

rows() {
    local i
    for ((i = 0; i < ROWS; i++)); do
        ((i == 0)) || echo ,
        row "$i"
    done
}

count_is() {
    post entities/query "{\"collectionName\": \"$1\", \"outputFields\": [\"count(*)\"], \"consistencyLevel\": \"Strong\"}" &&
        has "\"count(*)\":$2}"
}

search() { post entities/search "{$NAME, \"data\": [$(vector "$1")], \"annsField\": \"vec\", ${*:2}}"; }

wait_loaded() {
    local i
    for ((i = 0; i < 100; i++)); do
        post collections/get_load_state "{\"collectionName\": \"$1\"}" && has LoadStateLoaded && return
        sleep 0.1
    done
    return 1
}

load() { post collections/load "{\"collectionName\": \"$1\"}" && wait_loaded "$1"; }

create_collection() {
    post collections/create "{$NAME, \"schema\": {\"enableDynamicField\": true, \"fields\": [
        {\"fieldName\": \"id\", \"dataType\": \"Int64\", \"isPrimary\": true},
        {\"fieldName\": \"vec\", \"dataType\": \"FloatVector\", \"elementTypeParams\": {\"dim\": $DIM}},
        {\"fieldName\": \"flag\", \"dataType\": \"Bool\"},
        {\"fieldName\": \"i8\", \"dataType\": \"Int8\"},
        {\"fieldName\": \"i16\", \"dataType\": \"Int16\"},
        {\"fieldName\": \"i32\", \"dataType\": \"Int32\"},
        {\"fieldName\": \"i64\", \"dataType\": \"Int64\"},
        {\"fieldName\": \"f32\", \"dataType\": \"Float\"},
        {\"fieldName\": \"f64\", \"dataType\": \"Double\"},
        {\"fieldName\": \"text\", \"dataType\": \"VarChar\", \"elementTypeParams\": {\"max_length\": 64}},
        {\"fieldName\": \"tags\", \"dataType\": \"Array\", \"elementDataType\": \"Int64\",
         \"elementTypeParams\": {\"max_capacity\": 8}},
        {\"fieldName\": \"doc\", \"dataType\": \"JSON\"},
        {\"fieldName\": \"maybe\", \"dataType\": \"Int64\", \"nullable\": true},
        {\"fieldName\": \"seven\", \"dataType\": \"Int64\", \"defaultValue\": 7}]}}" &&
        post collections/has "{$NAME}" && has '"has":true' && post collections/list '{}' && has '"tour"'
}
describe_collection() { post collections/describe "{$NAME}" && has '"name":"seven"'; }
index() {
    post indexes/drop "{$NAME, \"indexName\": \"vec\"}" &&
        post indexes/create "{$NAME, \"indexParams\": [{\"fieldName\": \"vec\", \"indexName\": \"vec\",
            \"metricType\": \"L2\", \"indexType\": \"$1\", \"params\": {$2}}]}" &&
        post indexes/describe "{$NAME, \"indexName\": \"vec\"}" && has "\"indexType\":\"$1\""
}
insert() { rows | sed "1s/^/{$NAME, \"data\": [/; \$s/\$/]}/" | post entities/insert @- ; }
insert_rows() { insert && count_is tour "$ROWS"; }
upsert() {
    post entities/upsert "{$NAME, \"data\": [$(row 3 changed)]}" &&
        post entities/get "{$NAME, \"id\": [3], \"outputFields\": [\"text\"]}" && has '"text":"changed"'
}
delete_by_ids() { post entities/delete "{$NAME, \"filter\": \"id in [198]\"}" && count_is tour $((ROWS - 1)); }
delete_by_filter() { post entities/delete "{$NAME, \"filter\": \"i64 == 199\"}" && count_is tour $((ROWS - 2)); }
flush() { post collections/flush "{$NAME}" && count_is tour $((ROWS - 2)); }
statistics() { post collections/get_stats "{$NAME}" && has rowCount; }
search_one() { search 5 '"limit": 1, "consistencyLevel": "Strong"' && has '"id":5'; }
search_filtered() {
    search 5 '"limit": 3, "filter": "color == \"red\" and i32 > 10", "outputFields": ["*"]' &&
        has '"id":12' && has '"id":14' && has '"id":16' && has '"tags":[12,13]'
}
search_many() {
    post entities/search "{$NAME, \"data\": [$(vector 7), $(vector 8), $(vector 9)], \"annsField\": \"vec\", \"limit\": 1}" &&
        has '"id":7' && has '"id":8' && has '"id":9'
}
range_search() {
    search 50 '"limit": 100, "searchParams": {"params": {"radius": 4.5}}' &&
        has '"id":48' && has '"id":52' && [[ $LAST != *'"id":47'* && $LAST != *'"id":53'* ]]
}
query() {
    post entities/query "{$NAME, \"filter\": \"id in [1, 2] and doc['k'] >= 1\", \"outputFields\": [\"doc\", \"maybe\", \"seven\"]}" &&
        has '"maybe":null' && has '"seven":7'
}
query_arrays() {
    post entities/query "{$NAME, \"filter\": \"array_contains(tags, 10) and color == \\\"red\\\"\", \"outputFields\": [\"color\"]}" &&
        has '"id":10'
}
get() { post entities/get "{$NAME, \"id\": 11, \"outputFields\": [\"i64\"]}" && has '"i64":11'; }
consistency_levels() {
    local level
    for level in Strong Session Bounded Eventually; do search 5 "\"limit\": 1, \"consistencyLevel\": \"$level\"" || return; done
}
compact() { post collections/compact "{$NAME}"; }
refresh_load() { post collections/refresh_load "{$NAME}" && wait_loaded tour; }
release() {
    post collections/release "{$NAME}" && post collections/get_load_state "{$NAME}" && has LoadStateNotLoad && load tour
}

P1="$NAME, \"partitionName\": \"p1\""
P1S="$NAME, \"partitionNames\": [\"p1\"]"
create_partition() {
    post partitions/create "{$P1}" && post partitions/has "{$P1}" && has '"has":true' &&
        post partitions/list "{$NAME}" && has '"p1"'
}
insert_into_partition() { post entities/insert "{$P1, \"data\": [$(row 1000)]}"; }
search_in_partition() {
    search 1 '"limit": 1, "partitionNames": ["p1"], "consistencyLevel": "Strong"' && has '"id":1000'
}
release_partitions() { post partitions/release "{$P1S}"; }
load_partitions() { post partitions/load "{$P1S}"; }
drop_partition() {
    post partitions/release "{$P1S}" && post partitions/drop "{$P1}" && post partitions/list "{$NAME}" &&
        has '["_default"]'
}

GUIDE='"aliasName": "guide"'
create_alias() {
    post aliases/create "{$NAME, $GUIDE}" && post aliases/describe "{$GUIDE}" && has '"collectionName":"tour"'
}
use_alias() { count_is guide $((ROWS - 2)); }
list_aliases() { post aliases/list "{$NAME}" && has '["guide"]'; }
alter_alias() {
    post collections/create "{\"collectionName\": \"other\", \"dimension\": $DIM}" &&
        post aliases/alter "{\"collectionName\": \"other\", $GUIDE}" &&
        post aliases/describe "{$GUIDE}" && has '"collectionName":"other"'
}
drop_alias() { post aliases/drop "{$GUIDE}"; }
drop_collection() {
    local other='{"collectionName": "other"}'
    post collections/drop "$other" && post collections/has "$other" && has '"has":false'
}
rename_collection() {
    post collections/rename "{$NAME, \"newCollectionName\": \"tour2\"}" && count_is tour2 $((ROWS - 2)) &&
        post collections/rename "{\"collectionName\": \"tour2\", \"newCollectionName\": \"tour\"}"
}
alter_collection_properties() {
    post collections/alter_properties "{$NAME, \"properties\": {\"collection.ttl.seconds\": \"3600\"}}" &&
        post collections/describe "{$NAME}" && has 3600
}
drop_collection_properties() {
    post collections/drop_properties "{$NAME, \"propertyKeys\": [\"collection.ttl.seconds\"]}"
}
alter_field() {
    local result=0
    post collections/release "{$NAME}"
    post collections/fields/alter_properties "{$NAME, \"fieldName\": \"text\", \"fieldParams\": {\"max_length\": 128}}" ||
        result=1
    local said=$LAST
    load tour
    LAST=$said
    return $result
}
add_field() {
    post collections/fields/add "{$NAME, \"schema\": {\"fieldName\": \"added\", \"dataType\": \"Int64\", \"nullable\": true}}" &&
        post entities/upsert "{$NAME, \"data\": [$(row 4 | sed 's/}$/, "added": 44}/')]}" &&
        post entities/get "{$NAME, \"id\": [4], \"outputFields\": [\"added\"]}" && has '"added":44'
}

# create_vectors COLLECTION DATA_TYPE TYPE_PARAMS INDEX_TYPE METRIC INDEX_PARAMS
create_vectors() {
    post collections/create "{\"collectionName\": \"$1\", \"schema\": {\"fields\": [
        {\"fieldName\": \"id\", \"dataType\": \"Int64\", \"isPrimary\": true},
        {\"fieldName\": \"vec\", \"dataType\": \"$2\", \"elementTypeParams\": {$3}}]},
        \"indexParams\": [{\"fieldName\": \"vec\", \"indexName\": \"vec\", \"indexType\": \"$4\", \"metricType\": \"$5\",
            \"params\": {$6}}]}" &&
        wait_loaded "$1" && post indexes/describe "{\"collectionName\": \"$1\", \"indexName\": \"vec\"}" && has "\"indexType\":\"$4\""
}
sparse_row() {
    if (($1 % 2)); then
        echo "{\"id\": $1, \"vec\": {\"$1\": 1, \"4000000000\": 0.25}}"
    else
        echo "{\"id\": $1, \"vec\": {\"indices\": [4000000000, $1], \"values\": [0.25, 1]}}"
    fi
}
binary_row() { echo "{\"id\": $1, \"vec\": [$1, $((255 - $1))]}"; }
# insert_vectors COLLECTION
insert_vectors() {
    local i rows
    rows=$(for ((i = 0; i < ROWS; i++)); do "$1_row" "$i"; done | paste -sd, -)
    post entities/insert "{\"collectionName\": \"$1\", \"data\": [$rows]}" && count_is "$1" "$ROWS" &&
        post entities/upsert "{\"collectionName\": \"$1\", \"data\": [$("$1_row" 3)]}"
}
# search_vectors COLLECTION QUERY
search_vectors() {
    post entities/search "{\"collectionName\": \"$1\", \"data\": [$2], \"annsField\": \"vec\", \"limit\": 2,
        \"searchParams\": {\"params\": {\"nprobe\": 2}}, \"outputFields\": [\"vec\"], \"consistencyLevel\": \"Strong\"}"
}
# query_vectors COLLECTION
query_vectors() {
    post collections/flush "{\"collectionName\": \"$1\"}" &&
        post entities/query "{\"collectionName\": \"$1\", \"filter\": \"id in [3, 8]\", \"outputFields\": [\"vec\"],
            \"consistencyLevel\": \"Strong\"}"
}
create_sparse_vectors() { create_vectors sparse SparseFloatVector '' SPARSE_INVERTED_INDEX IP ''; }
insert_sparse_vectors() { insert_vectors sparse; }
search_sparse_vectors() {
    search_vectors sparse '{"5": 4, "8": 2}' && has '"id":5' && has '"id":8' && has '"distance":4.0' &&
        has '"distance":2.0' && has '"vec":{"4000000000":0.25,"5":1.0}' && has '"vec":{"4000000000":0.25,"8":1.0}'
}
query_sparse_vectors() {
    query_vectors sparse && has '"vec":{"3":1.0,"4000000000":0.25}' && has '"vec":{"4000000000":0.25,"8":1.0}' &&
        post collections/drop '{"collectionName": "sparse"}'
}
create_binary_vectors() { create_vectors binary BinaryVector '"dim": 16' BIN_IVF_FLAT HAMMING '"nlist": 2'; }
insert_binary_vectors() { insert_vectors binary; }
# Vectors of bits are returned in base64, which a search takes, too.
search_binary_vectors() {
    search_vectors binary '"Bfo="' && has '"id":5' && has '"distance":0.0' && has '"distance":2.0' && has '"vec":"Bfo="' &&
        search_vectors binary '[5, 250]' && has '"vec":"Bfo="'
}
query_binary_vectors() {
    query_vectors binary && has '"vec":"A/w="' && has '"vec":"CPc="' && post collections/drop '{"collectionName": "binary"}'
}

DB='"dbName": "tour_db"'
create_database() { post databases/create "{$DB}" && post databases/list '{}' && has '"tour_db"'; }
use_database() {
    post collections/create "{$DB, \"collectionName\": \"inside\", \"dimension\": $DIM}" &&
        post collections/list "{$DB}" && has '["inside"]' &&
        post collections/drop "{$DB, \"collectionName\": \"inside\"}"
}
alter_database() {
    post databases/alter "{$DB, \"properties\": {\"database.max.collections\": 10}}" &&
        post databases/describe "{$DB}" && has database.max.collections
}
drop_database() { post databases/drop "{$DB}"; }

GROUP='"name": "tour_rg"'
create_resource_group() {
    post resource_groups/create "{$GROUP}" && post resource_groups/list '{}' && has '"tour_rg"'
}
describe_resource_group() { post resource_groups/describe "{$GROUP}"; }
drop_resource_group() { post resource_groups/drop "{$GROUP}"; }

TOURIST='"userName": "tourist"'
create_user() { post users/create "{$TOURIST, \"password\": \"secret1\"}" && post users/list '{}' && has '"tourist"'; }
update_password() { post users/update_password "{$TOURIST, \"password\": \"secret1\", \"newPassword\": \"secret2\"}"; }
GUIDE_ROLE='"roleName": "guide"'
GRANT='"privilege": "CollectionReadOnly", "dbName": "default", "collectionName": "*"'
grant_role() {
    post roles/create "{$GUIDE_ROLE}" && post roles/grant_privilege_v2 "{$GUIDE_ROLE, $GRANT}" &&
        post users/grant_role "{$TOURIST, $GUIDE_ROLE}" && post users/describe "{$TOURIST}" && has '"guide"' &&
        post roles/describe "{$GUIDE_ROLE}" && has '"CollectionReadOnly"'
}
privilege_group() {
    post privilege_groups/create '{"privilegeGroupName": "tour_group"}' &&
        post privilege_groups/list '{}' && has '"tour_group"' &&
        post privilege_groups/drop '{"privilegeGroupName": "tour_group"}'
}
drop_role() {
    post roles/revoke_privilege_v2 "{$GUIDE_ROLE, $GRANT}" && post users/revoke_role "{$TOURIST, $GUIDE_ROLE}" &&
        post roles/drop "{$GUIDE_ROLE}"
}
drop_user() { post users/drop "{$TOURIST}"; }

first_version() {
    local first='"collectionName": "first"'
    send v1/vector/collections/create "{$first, \"dimension\": 2}" 200 &&
        send v1/vector/insert "{$first, \"data\": {\"vector\": [1, 2]}}" 200 &&
        send v1/vector/search "{$first, \"vector\": [1, 2]}" 200 && has '"distance":0' &&
        send v1/vector/collections/drop "{$first}" 200
}

big_rows() {
    local text
    text=$(head -c 65000 /dev/zero | tr '\0' x)
    awk -v rows="$BIG_ROWS" -v text="$text" 'BEGIN {
        printf "{\"collectionName\": \"big\", \"data\": ["
        for (i = 0; i < rows; i++) printf "%s{\"id\": %d, \"vec\": [%d, 1], \"text\": \"%s\"}", i ? ", " : "", i, i, text
        printf "]}"
    }'
}
insert_100_mb() {
    post collections/create '{"collectionName": "big", "schema": {"fields": [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": true},
        {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
        {"fieldName": "text", "dataType": "VarChar", "elementTypeParams": {"max_length": 65535}}]},
        "indexParams": [{"fieldName": "vec", "indexName": "vec", "indexType": "FLAT", "metricType": "L2"}]}' &&
        wait_loaded big && big_rows >"$BODIES/big.json" && post entities/insert "@$BODIES/big.json" && count_is big "$BIG_ROWS"
}
deadline_of_2_s() {
    MAX_TIME=2 post entities/upsert "@$BODIES/big.json" || [[ $LAST == *"timed out"* ]] && count_is big "$BIG_ROWS"
}
restart() {
    echo "restart me"
    read -r
    search_one && count_is big "$BIG_ROWS"
}

step create_collection create_collection
step describe_collection describe_collection
step index_flat index FLAT ''
step index_ivf_flat index IVF_FLAT '"nlist": 4'
step index_ivf_sq8 index IVF_SQ8 '"nlist": 4'
step index_ivf_pq index IVF_PQ '"nlist": 4, "m": 4, "nbits": 8'
step index_scann index SCANN '"nlist": 4'
step index_hnsw_sq index HNSW_SQ '"M": 8, "efConstruction": 32, "sq_type": "SQ8"'
step index_hnsw_pq index HNSW_PQ '"M": 8, "efConstruction": 32, "m": 4, "nbits": 8'
step index_autoindex index AUTOINDEX ''
step index_hnsw index HNSW '"M": 8, "efConstruction": 32'
step load load tour
step insert insert_rows
step upsert upsert
step delete_by_ids delete_by_ids
step delete_by_filter delete_by_filter
step flush flush
step statistics statistics
step search search_one
step search_with_filter_and_output search_filtered
step search_many_queries search_many
step range_search range_search
step query query
step query_arrays_and_dynamic_field query_arrays
step get get
step count count_is tour $((ROWS - 2))
step consistency_levels consistency_levels
step compact compact
step refresh_load refresh_load
step release release
for name in create_partition insert_into_partition search_in_partition release_partitions load_partitions drop_partition \
    create_alias use_alias list_aliases alter_alias drop_alias drop_collection rename_collection \
    alter_collection_properties drop_collection_properties alter_field add_field \
    create_sparse_vectors insert_sparse_vectors search_sparse_vectors query_sparse_vectors \
    create_binary_vectors insert_binary_vectors search_binary_vectors query_binary_vectors \
    create_database use_database alter_database drop_database \
    create_resource_group describe_resource_group drop_resource_group \
    create_user update_password grant_role privilege_group drop_role drop_user first_version insert_100_mb deadline_of_2_s restart; do
    step "$name" "$name"
done
post collections/drop '{"collectionName": "big"}'

hybrid_search() {
    local one
    one="{\"data\": [$(vector 5)], \"annsField\": \"vec\", \"limit\": 2}"
    post entities/hybrid_search "{$NAME, \"search\": [$one, $one], \"rerank\": {\"strategy\": \"rrf\"}, \"limit\": 2}" &&
        has '"id":5'
}
create_texts() {
    local text='"elementTypeParams": {"max_length": 99, "enable_analyzer": true, "enable_match": true}'
    post collections/create "{\"collectionName\": \"texts\", \"schema\": {
        \"fields\": [
            {\"fieldName\": \"id\", \"dataType\": \"Int64\", \"isPrimary\": true},
            {\"fieldName\": \"text\", \"dataType\": \"VarChar\", $text},
            {\"fieldName\": \"vec\", \"dataType\": \"FloatVector\", \"elementTypeParams\": {\"dim\": $DIM}},
            {\"fieldName\": \"terms\", \"dataType\": \"SparseFloatVector\"}],
        \"functions\": [{\"name\": \"bm25\", \"type\": \"BM25\", \"inputFieldNames\": [\"text\"],
            \"outputFieldNames\": [\"terms\"], \"params\": {}}]},
        \"indexParams\": [
            {\"fieldName\": \"vec\", \"indexName\": \"vec\", \"indexType\": \"AUTOINDEX\", \"metricType\": \"L2\"},
            {\"fieldName\": \"terms\", \"indexName\": \"terms\", \"indexType\": \"AUTOINDEX\", \"metricType\": \"BM25\"}]}" &&
        wait_loaded texts
}
full_text() {
    create_texts &&
        post entities/insert "{\"collectionName\": \"texts\", \"data\": [
            {\"id\": 1, \"text\": \"a red fox\", \"vec\": $(vector 1)},
            {\"id\": 2, \"text\": \"a blue hen\", \"vec\": $(vector 2)}]}" &&
        post entities/search '{"collectionName": "texts", "data": ["Fox"], "annsField": "terms", "limit": 3,
            "consistencyLevel": "Strong"}' && has '"topks":[1]' && has '"id":1'
}
text_match() {
    post entities/query '{"collectionName": "texts", "filter": "text_match(text, \"hen fox\")", "outputFields": ["id"],
        "consistencyLevel": "Strong"}' && has '"id":1' && has '"id":2' &&
        post entities/query '{"collectionName": "texts", "filter": "phrase_match(text, \"blue hen\")"}' && has '"id":2'
}
hybrid_full_text() {
    post entities/hybrid_search "{\"collectionName\": \"texts\", \"limit\": 2, \"rerank\": {\"strategy\": \"rrf\"}, \"search\": [
        {\"data\": [\"hen\"], \"annsField\": \"terms\", \"limit\": 2},
        {\"data\": [$(vector 2)], \"annsField\": \"vec\", \"limit\": 2}]}" && [[ $LAST == *'"id":2'*'"id":1'* ]] &&
        post collections/drop '{"collectionName": "texts"}'
}
run_analyzer() {
    post common/run_analyzer '{"text": ["The Foxes run"], "analyzerParams": "{\"type\": \"english\"}"}' &&
        has '"token":"fox"' && has '"token":"run"'
}
for name in full_text text_match hybrid_full_text run_analyzer; do
    step "$name" "$name"
done
grouping() { search 5 '"limit": 3, "groupingField": "flag"' && has '"topks":[2]'; }
step grouping grouping
step hybrid_search hybrid_search
search_order() {
    search 50 '"limit": 3, "orderByFields": ["i64:desc"]' && [[ $LAST == *'"id":51'*'"id":50'*'"id":49'* ]]
}
query_order() {
    post entities/query "{$NAME, \"filter\": \"id < 100\", \"outputFields\": [\"id\"], \"orderByFields\": [\"i64:desc\"],
        \"limit\": 2}" && [[ $LAST == *'"id":99'*'"id":98'* ]]
}
query_aggregates() {
    post entities/query "{$NAME, \"filter\": \"id in [50, 51, 150]\", \"groupByFields\": [\"i8\"],
        \"outputFields\": [\"i8\", \"count(*)\", \"max(i64)\"]}" && has '"count(*)":2' && has '"max(i64)":150'
}
search_aggregation() {
    search 50 '"searchAggregation": {"fields": ["flag"], "size": 2}' # the code is not the first key of its answer
    has '"code":0' && has '"value":true' && has '"value":false'
}
for name in search_order query_order query_aggregates search_aggregation; do
    step "$name" "$name"
done
imported() {
    post entities/query "{$NAME, \"filter\": \"id >= 5000\", \"outputFields\": [\"count(*)\"],
        \"consistencyLevel\": \"Strong\"}" && has '"count(*)":2'
}
# job_ended ID: waits, a minute at most
job_ended() {
    local looks
    for ((looks = 0; looks < 300; looks++)); do
        post jobs/import/describe "{\"jobId\": \"$1\"}" || return 1
        [[ $LAST == *'"state":"Completed"'* ]] && return 0
        [[ $LAST == *'"state":"Failed"'* ]] && return 1
        sleep 0.2
    done
    return 1
}
import() {
    echo "[$(row 5000), $(row 5001)]" >"$MILVINE_FILES/rows.json"
    post jobs/import/create "{$NAME, \"files\": [[\"rows.json\"]]}" && has '"jobId"' || return 1
    [[ $LAST =~ \"jobId\":\"([0-9]+)\" ]] && job_ended "${BASH_REMATCH[1]}" &&
        post jobs/import/list "{$NAME}" && has '"state":"Completed"' && imported
}
import_in_two_phases() {
    local id
    post entities/delete "{$NAME, \"filter\": \"id >= 5000\"}" &&
        post jobs/import/create "{$NAME, \"files\": [[\"rows.json\"]], \"options\": {\"auto_commit\": \"false\"}}" &&
        has '"jobId"' || return 1
    [[ $LAST =~ \"jobId\":\"([0-9]+)\" ]] && id=${BASH_REMATCH[1]}
    until post jobs/import/describe "{\"jobId\": \"$id\"}" && has '"state":"Uncommitted"'; do
        [[ $LAST == *'"state":"Failed"'* ]] && return 1
        sleep 0.2
    done
    post jobs/import/commit "{\"jobId\": \"$id\"}" && imported
}
step import import
step import_in_two_phases import_in_two_phases
lacking partial_upsert post entities/upsert "{$NAME, \"data\": [{\"id\": 5, \"i64\": 55}], \"partialUpdate\": true}"
post collections/drop "{$NAME}"
