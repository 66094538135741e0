#!/usr/bin/env bash
# The page "Load & Release" with curl, against MILVINE_URI with MILVINE_TOKEN. REST has no load_fields.
set -euo pipefail

post() {
    curl --silent --show-error --fail-with-body --request POST \
        --url "${MILVINE_URI}/v2/vectordb/$1" \
        --header "Authorization: Bearer ${MILVINE_TOKEN}" \
        --header "Content-Type: application/json" \
        -d "$2"
    echo
}

NAME='{"collectionName": "my_collection"}'

wait_loaded() {
    until post collections/get_load_state "$NAME" | grep -q '"LoadStateLoaded"'; do sleep 0.1; done
}

post collections/create '{
    "collectionName": "my_collection",
    "schema": {"enableDynamicField": true, "fields": [
        {"fieldName": "my_id", "dataType": "Int64", "isPrimary": true},
        {"fieldName": "my_vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 5}},
        {"fieldName": "my_varchar", "dataType": "VarChar", "elementTypeParams": {"max_length": 64}}]}
}'
post indexes/create '{
    "collectionName": "my_collection",
    "indexParams": [{"fieldName": "my_vector", "indexName": "my_vector", "indexType": "AUTOINDEX", "metricType": "COSINE"}]
}'

# Load the collection
post collections/load "$NAME"
wait_loaded
post collections/get_load_state "$NAME"

# Release the collection
post collections/release "$NAME"
post collections/get_load_state "$NAME"

post collections/drop "$NAME"
