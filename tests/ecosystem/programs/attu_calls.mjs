// The calls that the server of Attu makes for its pages, with its SDK, against the server whose address is the argument.
import assert from "node:assert/strict";
import { DataType, MilvusClient, ShowCollectionsType } from "@zilliz/milvus2-sdk-node";

const address = process.argv[2].replace("http://", "");
const unique = `${process.pid}_${Math.floor(Math.random() * 1e9)}`;
const collection_name = `attu_${unique}`;
const database = `attu_db_${unique}`;
const MIN_INT64 = "-9223372036854775807";

// An answer whose status is an error is an exception here. The SDK makes {} of a call that the server does not know.
async function ok(promise) {
  const answer = await promise;
  const status = answer.status ?? answer;
  assert.equal(status.error_code, "Success", status.reason);
  return answer;
}

// Asks again, as Attu's pages do, until what they wait for is so.
async function until(what, so) {
  for (let tries = 0; tries < 300; tries++) {
    if (await so()) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`waited in vain until ${what}`);
}

// Connecting: the health, the databases, and the version that the page shows.
const login = { username: "root", password: "Milvus" };
const client = new MilvusClient({ address, ...login, database: "default", id: unique, pool: { max: 10 } });
await client.connectPromise;
assert.equal((await client.checkHealth()).isHealthy, true);
await client.use({ db_name: "default" });
await ok(client.listDatabases());
assert.match((await client.getVersion()).version, /\d+\.\d+/);

// The system view.
const { response } = await ok(client.getMetric({ request: { metric_type: "system_info" } }));
const kinds = response.nodes_info.map((node) => node.infos.type);
for (const kind of ["rootcoord", "datanode", "querynode", "proxy"]) {
  assert.ok(kinds.includes(kind), `no ${kind} in ${kinds}`);
}
for (const { identifier, connected, infos } of response.nodes_info) {
  assert.ok(identifier !== undefined && connected !== undefined);
  assert.ok(infos.name && infos.hardware_infos.cpu_core_count > 0 && infos.hardware_infos.memory > 0);
  assert.ok(infos.system_info.system_version && infos.system_configurations);
}

// Creating a collection with each kind of field that the form offers, and its indexes.
const vectors = [
  ["vector", DataType.FloatVector, { dim: 4 }, "HNSW", "COSINE", { M: 8, efConstruction: 64 }],
  ["half", DataType.Float16Vector, { dim: 4 }, "FLAT", "L2", {}],
  ["sparse", DataType.SparseFloatVector, {}, "SPARSE_INVERTED_INDEX", "IP", { drop_ratio_build: 0.2 }],
  ["bits", DataType.BinaryVector, { dim: 8 }, "BIN_FLAT", "HAMMING", {}],
];
const fields = [
  { name: "id", data_type: DataType.Int64, is_primary_key: true, autoID: false },
  { name: "text", data_type: DataType.VarChar, max_length: 100, nullable: true, "mmap.enabled": false },
  { name: "price", data_type: DataType.Double, default_value: 1.5 },
  { name: "tenant", data_type: DataType.VarChar, max_length: 20, is_partition_key: true },
  { name: "tags", data_type: DataType.Array, element_type: DataType.VarChar, max_capacity: 4, max_length: 20 },
  { name: "meta", data_type: DataType.JSON },
  ...vectors.map(([name, data_type, params]) => ({ name, data_type, ...params })),
];
const description = "made by Attu";
const options = { enable_dynamic_field: true, consistency_level: "Bounded", num_partitions: 4, description };
await ok(client.createCollection({ collection_name, fields, ...options, properties: { "mmap.enabled": false } }));
for (const [field_name, , , index_type, metric_type, params] of vectors) {
  const extra_params = { index_type, metric_type, params: JSON.stringify(params) };
  await ok(client.createIndex({ collection_name, index_name: field_name, field_name, extra_params }));
}
await ok(client.createIndex({ collection_name, index_name: "price", field_name: "price", extra_params: { index_type: "INVERTED" } }));

// The loading progress.
await ok(client.loadCollectionAsync({ collection_name }));
await until("the collection is loaded", async () => {
  const { data } = await ok(client.showCollections({ type: ShowCollectionsType.Loaded }));
  return data.find((found) => found.name === collection_name)?.loadedPercentage === "100";
});

// Importing sample rows, in parts of a thousand.
const row = (i) => ({
  id: i,
  text: i % 10 ? `text ${i}` : null,
  price: i / 2,
  tenant: `t${i % 3}`,
  tags: ["a", `${i % 2}`],
  meta: { i },
  vector: [i, 1, 0, 0],
  half: [i, 1, 0, 0],
  sparse: { 0: 1, [1 + (i % 50)]: 2 },
  bits: [i % 256],
  color: ["red", "blue"][i % 2],
});
for (const start of [0, 1000]) {
  const fields_data = [...Array(1000).keys()].map((i) => row(start + i));
  assert.equal((await ok(client.insert({ collection_name, fields_data }))).insert_cnt, "1000");
}
await ok(client.flush({ collection_names: [collection_name] }));

// The overview: schema, indexes, rows, replicas, statistics.
const shown = (await ok(client.showCollections({}))).data.find((found) => found.name === collection_name);
assert.ok(Number(shown.timestamp) > 0);
const described = await ok(client.describeCollection({ collection_name }));
assert.deepEqual(described.schema.fields.map((field) => field.name), fields.map((field) => field.name));
assert.equal(described.schema.description, description);
assert.equal(described.consistency_level, "Bounded");
assert.equal(described.schema.fields.find((field) => field.name === "vector").dim, "4");
assert.deepEqual([described.schema.functions, described.aliases], [[], []]);
assert.ok(Number(described.created_utc_timestamp) > 1e12 && Number(described.num_partitions) === 4);
let index_descriptions;
await until("the indexes are built", async () => {
  ({ index_descriptions } = await ok(client.describeIndex({ collection_name })));
  return index_descriptions.length === 5 && index_descriptions.every((index) => index.state === "Finished");
});
const hnsw = Object.fromEntries(index_descriptions.find((i) => i.field_name === "vector").params.map((p) => [p.key, p.value]));
assert.deepEqual([hnsw.index_type, hnsw.metric_type], ["HNSW", "COSINE"]);
assert.equal((await client.getLoadState({ collection_name })).state, "LoadStateLoaded");
assert.equal(Number((await ok(client.count({ collection_name, consistency_level: "Strong" }))).data), 2000);
const { replicas } = await ok(client.getReplicas({ collectionID: described.collectionID }));
assert.ok(replicas[0].shard_replicas.length === 1 && replicas[0].node_ids.length > 0);
const { stats } = await ok(client.getCollectionStatistics({ collection_name }));
assert.equal(stats.find((pair) => pair.key === "row_count").value, "2000");

// The data page: rows by filter, one row changed, some deleted.
const page = { collection_name, output_fields: ["*"], consistency_level: "Strong" };
const { data } = await ok(client.query({ ...page, expr: 'price >= 0 and color == "red"', limit: 10, offset: 5 }));
assert.equal(data.length, 10);
assert.deepEqual([data[0].id, data[0].text, data[0].$meta.color, data[0].half.length], ["10", null, "red", 4]);
await ok(client.upsert({ collection_name, fields_data: [{ ...row(7), text: "changed" }] }));
await ok(client.deleteEntities({ collection_name, expr: "id in [8, 9]" }));
const changed = await ok(client.query({ ...page, expr: "id in [7, 8, 9]", output_fields: ["text"] }));
assert.deepEqual(changed.data.map((found) => [found.id, found.text]), [["7", "changed"]]);

// The search page: one field, a group of each tenant, and all fields with both rerankers.
const wanted = { collection_name, output_fields: ["id", "text", "meta"], consistency_level: "Bounded", limit: 5 };
const nearest = { anns_field: "vector", data: [100, 1, 0, 0], filter: "id < 1000", params: { ef: 64 } };
const searched = await ok(client.search({ ...wanted, ...nearest }));
assert.equal(searched.results.length, 5);
assert.ok(searched.results.every((hit) => Number(hit.id) < 1000 && "meta" in hit));
assert.equal((await ok(client.search({ ...wanted, ...nearest, group_by_field: "tenant" }))).results.length, 3);
const asked = { vector: [1, 1, 0, 0], half: [1, 1, 0, 0], sparse: { 0: 1, 3: 1 }, bits: [1] };
const parts = vectors.map(([anns_field]) => ({ anns_field, data: asked[anns_field], params: {} }));
const rerankers = [{ strategy: "rrf", params: { k: 60 } }, { strategy: "weighted", params: { weights: [0.5, 0.2, 0.2, 0.1] } }];
for (const rerank of rerankers) {
  const { results } = await ok(client.search({ ...wanted, data: parts, rerank, filter: "price >= 0" }));
  assert.equal(results.length, 5);
}

// The partitions, the segments, aliases, properties.
const { partition_names, created_utc_timestamps } = await ok(client.showPartitions({ collection_name }));
assert.equal(partition_names.length, 4);
assert.equal(created_utc_timestamps.length, 4);
for (const partition_name of partition_names) {
  await ok(client.getPartitionStatistics({ collection_name, partition_name }));
}
const persistent = await ok(client.getPersistentSegmentInfo({ collectionName: collection_name }));
assert.ok(persistent.infos.length > 0 && persistent.infos.every((info) => Number(info.num_rows) > 0));
await ok(client.getQuerySegmentInfo({ collectionName: collection_name }));
await ok(client.compact({ collection_name }));
await ok(client.createAlias({ collection_name, alias: `${collection_name}_alias` }));
assert.deepEqual((await ok(client.describeCollection({ collection_name }))).aliases, [`${collection_name}_alias`]);
await ok(client.dropAlias({ alias: `${collection_name}_alias` }));
await ok(client.alterCollectionProperties({ collection_name, properties: { "collection.ttl.seconds": 3600 } }));
await ok(client.releaseCollection({ collection_name }));
await ok(client.alterCollectionFieldProperties({ collection_name, field_name: "text", properties: { "mmap.enabled": true } }));
await ok(client.alterIndexProperties({ collection_name, index_name: "vector", params: { "mmap.enabled": true } }));
const copied = { ...options, fields: fields.map((field) => ({ ...field })), collection_name: `${collection_name}_copy` };
await ok(client.createCollection(copied));
await ok(client.renameCollection({ collection_name: copied.collection_name, new_collection_name: `${collection_name}_moved` }));
await ok(client.dropCollection({ collection_name: `${collection_name}_moved` }));

// Emptying, by a filter that names every key.
await ok(client.loadCollection({ collection_name }));
assert.deepEqual([await client.getPkFieldName({ collection_name }), await client.getPkFieldType({ collection_name })], ["id", "Int64"]);
await ok(client.deleteEntities({ collection_name, filter: `id >= ${MIN_INT64}` }));
assert.equal(Number((await ok(client.count({ collection_name, consistency_level: "Strong" }))).data), 0);

// Databases.
await ok(client.createDatabase({ db_name: database }));
const { db_names, created_timestamp } = await ok(client.listDatabases());
assert.equal(created_timestamp.length, db_names.length);
await ok(client.alterDatabase({ db_name: database, properties: { "database.max.collections": 7 } }));
await client.use({ db_name: database });
assert.deepEqual((await ok(client.showCollections())).data, []);
const { properties } = await ok(client.describeDatabase({ db_name: database }));
assert.equal(properties.find((pair) => pair.key === "database.max.collections").value, "7");
await client.use({ db_name: "default" });
await ok(client.dropDatabase({ db_name: database }));

// Users, roles and groups of privileges.
const [username, roleName, group_name] = [`attu_user_${unique}`, `attu_role_${unique}`, `attu_group_${unique}`];
await ok(client.createUser({ username, password: "secret1" }));
await ok(client.updateUser({ username, oldPassword: "secret1", newPassword: "secret2" }));
await ok(client.createRole({ roleName }));
await ok(client.addUserToRole({ username, roleName }));
assert.ok((await ok(client.listUsers())).usernames.includes(username));
assert.equal((await client.hasRole({ roleName })).hasRole, true);
const roles = (await ok(client.listRoles({ includeUserInfo: true }))).results;
assert.deepEqual(roles.find((found) => found.role.name === roleName).users.map((user) => user.name), [username]);
const { results: users } = await ok(client.selectUser({ username, includeRoleInfo: true }));
assert.deepEqual(users[0].roles.map((role) => role.name), [roleName]);
await ok(client.createPrivilegeGroup({ group_name }));
await ok(client.addPrivilegesToGroup({ group_name, privileges: ["Query", "Search"] }));
await ok(client.removePrivilegesFromGroup({ group_name, privileges: ["Query"] }));
const groups = (await ok(client.listPrivilegeGroups())).privilege_groups;
assert.deepEqual(groups.find((group) => group.group_name === group_name).privileges.map((p) => p.name), ["Search"]);
assert.ok(groups.some((group) => group.group_name === "ClusterAdmin"));
for (const privilege of ["Insert", group_name, "CollectionReadOnly"]) {
  await ok(client.grantPrivilegeV2({ role: roleName, privilege, db_name: "default", collection_name: "*" }));
}
const { entities } = await ok(client.listGrants({ roleName }));
assert.equal(entities.length, 3);
for (const { db_name, object_name, grantor, role } of entities) {
  const revoked = { db_name, collection_name: object_name, privilege: grantor.privilege.name, role: role.name };
  await ok(client.revokePrivilegeV2(revoked));
}
await ok(client.removeUserFromRole({ username, roleName }));
await ok(client.dropRole({ roleName }));
await ok(client.dropPrivilegeGroup({ group_name }));
await ok(client.deleteUser({ username }));

for (const [index_name] of vectors) {
  await ok(client.releaseCollection({ collection_name }));
  await ok(client.dropIndex({ collection_name, field_name: index_name, index_name }));
}
await ok(client.dropCollection({ collection_name }));
await client.closeConnection();
console.log("attu_calls: ok");
