// A tour of the server with the gRPC client, against MILVINE_URI with MILVINE_TOKEN: one line for each step.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { MilvusClient, DataType, FunctionType, RRFRanker } from "@zilliz/milvus2-sdk-node";

const address = process.env.MILVINE_URI;
const token = process.env.MILVINE_TOKEN;
const client = new MilvusClient({ address, token });
const DIM = 8;
const ROWS = 200;
const BIG_ROWS = 1600;
const collection_name = "tour";
const oneLine = (error) => String(error.message ?? error.reason ?? error).replace(/\s+/g, " ");

async function step(name, work) {
  try {
    await work();
    console.log(`step ${name} ok`);
  } catch (error) {
    console.log(`step ${name} FAIL ${oneLine(error).slice(0, 300)}`);
  }
}

async function lacking(name, work) {
  try {
    await work();
    console.log(`step ${name} ok`);
  } catch (error) {
    console.log(`lacks: ${name}, ${oneLine(error).slice(0, 120)}`);
  }
}

// An answer whose status is an error is an exception here. The SDK makes {} of a call that the server does not know.
async function ok(promise) {
  const answer = await promise;
  const status = answer.status ?? answer;
  if (status.error_code !== "Success") {
    throw new Error(status.reason || "unknown to the server");
  }
  return answer;
}

const vector = (i) => [i, ...Array(DIM - 1).fill(1)];
const row = (i) => ({
  id: i,
  vec: vector(i),
  flag: i % 2 === 0,
  i8: i % 100,
  i16: i,
  i32: i,
  i64: i,
  f32: i / 2,
  f64: i / 4,
  text: `t${i}`,
  tags: [i, i + 1],
  doc: { k: i },
  color: ["red", "blue"][i % 2],
});
const fields = [
  { name: "id", data_type: DataType.Int64, is_primary_key: true },
  { name: "vec", data_type: DataType.FloatVector, dim: DIM },
  { name: "flag", data_type: DataType.Bool },
  { name: "i8", data_type: DataType.Int8 },
  { name: "i16", data_type: DataType.Int16 },
  { name: "i32", data_type: DataType.Int32 },
  { name: "i64", data_type: DataType.Int64 },
  { name: "f32", data_type: DataType.Float },
  { name: "f64", data_type: DataType.Double },
  { name: "text", data_type: DataType.VarChar, max_length: 64 },
  { name: "tags", data_type: DataType.Array, element_type: DataType.Int64, max_capacity: 8 },
  { name: "doc", data_type: DataType.JSON },
  { name: "maybe", data_type: DataType.Int64, nullable: true },
  { name: "seven", data_type: DataType.Int64, default_value: 7 },
];
const rows = [...Array(ROWS).keys()].map(row);
const numbers = (found, key = "id") => found.map((r) => Number(r[key])).sort((a, b) => a - b);

async function count(name = collection_name) {
  const found = await ok(client.query({ collection_name: name, output_fields: ["count(*)"], consistency_level: "Strong" }));
  return Number(found.data[0]["count(*)"]);
}

const search = async (options) => (await ok(client.search({ collection_name, ...options }))).results;
const state = async () => (await ok(client.getLoadState({ collection_name }))).state;

await step("system info", async () => {
  const { response } = await ok(client.getMetric({ request: { metric_type: "system_info" } }));
  assert.ok(response.nodes_info.some((node) => node.infos.type === "querynode"));
});
await step("version", async () => assert.match((await client.getVersion()).version, /^v2/));
await step("create_collection", async () => {
  await ok(client.createCollection({ collection_name, fields, enable_dynamic_field: true }));
  assert.equal((await client.hasCollection({ collection_name })).value, true);
  assert.ok((await client.listCollections()).data.some((d) => d.name === collection_name));
});
await step("describe_collection", async () => {
  assert.equal((await ok(client.describeCollection({ collection_name }))).schema.fields.length, fields.length);
});
for (const [index_type, params] of [
  ["FLAT", {}],
  ["IVF_FLAT", { nlist: 4 }],
  ["IVF_SQ8", { nlist: 4 }],
  ["IVF_PQ", { nlist: 4, m: 4, nbits: 8 }],
  ["SCANN", { nlist: 4 }],
  ["HNSW_SQ", { M: 8, efConstruction: 32, sq_type: "SQ8" }],
  ["HNSW_PQ", { M: 8, efConstruction: 32, m: 4, nbits: 8 }],
  ["AUTOINDEX", {}],
  ["HNSW", { M: 8, efConstruction: 32 }],
]) {
  await step(`index_${index_type.toLowerCase()}`, async () => {
    await ok(client.dropIndex({ collection_name, field_name: "vec", index_name: "vec" }));
    const index = { field_name: "vec", index_name: "vec", index_type, metric_type: "L2", params };
    await ok(client.createIndex({ collection_name, ...index }));
    const described = await ok(client.describeIndex({ collection_name, index_name: "vec" }));
    const found = Object.fromEntries(described.index_descriptions[0].params.map((p) => [p.key, p.value]));
    assert.equal(found.index_type, index_type);
  });
}
await step("load", async () => {
  assert.equal(await state(), "LoadStateNotLoad");
  await ok(client.loadCollection({ collection_name }));
  assert.equal(await state(), "LoadStateLoaded");
});
await step("insert", async () => {
  assert.equal((await ok(client.insert({ collection_name, data: rows }))).insert_cnt, String(ROWS));
});
await step("upsert", async () => {
  await ok(client.upsert({ collection_name, data: [{ ...row(3), text: "changed" }] }));
  assert.equal((await ok(client.get({ collection_name, ids: [3], output_fields: ["text"] }))).data[0].text, "changed");
});
await step("delete_by_ids", async () => {
  await ok(client.delete({ collection_name, ids: [198] }));
  assert.equal(await count(), ROWS - 1);
});
await step("delete_by_filter", async () => {
  await ok(client.delete({ collection_name, filter: "i64 == 199" }));
  assert.equal(await count(), ROWS - 2);
});
await step("flush", async () => {
  await ok(client.flushSync({ collection_names: [collection_name] }));
  assert.equal(await count(), ROWS - 2);
});
await step("statistics", async () => ok(client.getCollectionStatistics({ collection_name })));
await step("search", async () => {
  const found = await search({ data: vector(5), limit: 1, consistency_level: "Strong" });
  assert.deepEqual(numbers(found), [5]);
});
await step("search_with_filter_and_output", async () => {
  const filter = 'color == "red" and i32 > 10';
  const found = await search({ data: vector(5), limit: 3, filter, output_fields: ["*"] });
  assert.deepEqual(numbers(found), [12, 14, 16]);
  assert.deepEqual(found[0].tags.map(Number), [12, 13]);
});
await step("search_many_queries", async () => {
  const found = await search({ data: [7, 8, 9].map(vector), limit: 1 });
  assert.deepEqual(found.map((hits) => Number(hits[0].id)), [7, 8, 9]);
});
await step("range_search", async () => {
  const found = await search({ data: vector(50), limit: 100, params: { radius: 4.5 } });
  assert.deepEqual(numbers(found), [48, 49, 50, 51, 52]);
});
await step("query", async () => {
  const filter = "id in [1, 2] and doc['k'] >= 1";
  const found = await ok(client.query({ collection_name, filter, output_fields: ["doc", "maybe", "seven"] }));
  assert.deepEqual(numbers(found.data), [1, 2]);
  assert.deepEqual([found.data[0].maybe, Number(found.data[0].seven)], [null, 7]);
});
await step("query_arrays_and_dynamic_field", async () => {
  const filter = 'array_contains(tags, 10) and color == "red"';
  assert.deepEqual(numbers((await ok(client.query({ collection_name, filter, output_fields: ["color"] }))).data), [10]);
});
await step("get", async () => {
  assert.equal((await ok(client.get({ collection_name, ids: [11], output_fields: ["i64"] }))).data[0].i64, "11");
});
await step("count", async () => assert.equal(Number((await ok(client.count({ collection_name }))).data), ROWS - 2));
await step("query_iterator", async () => {
  let seen = 0;
  for await (const page of await client.queryIterator({ collection_name, expr: "id >= 0", batchSize: 30 })) {
    seen += page.length;
  }
  assert.equal(seen, ROWS - 2);
});
await step("search_iterator", async () => {
  let seen = 0;
  for await (const page of await client.searchIterator({ collection_name, data: vector(0), batchSize: 20, limit: 60 })) {
    seen += page.length;
  }
  assert.equal(seen, 60);
});
await step("consistency_levels", async () => {
  for (const consistency_level of ["Strong", "Session", "Bounded", "Eventually"]) {
    await search({ data: vector(5), limit: 1, consistency_level });
  }
});
await step("compact", async () => {
  const { compactionID } = await ok(client.compact({ collection_name }));
  await ok(client.getCompactionState({ compactionID }));
});
await step("segments", async () => {
  await ok(client.getPersistentSegmentInfo({ collectionName: collection_name }));
  await ok(client.getQuerySegmentInfo({ collectionName: collection_name }));
});
await step("replicas", async () => {
  const { collectionID } = await ok(client.describeCollection({ collection_name }));
  await ok(client.getReplicas({ collectionID }));
});
await step("refresh_load", async () => ok(client.refreshLoad({ collection_name })));
await step("release", async () => {
  await ok(client.releaseCollection({ collection_name }));
  assert.equal(await state(), "LoadStateNotLoad");
});
await step("partial_load", async () => {
  await ok(client.loadCollection({ collection_name, load_fields: ["id", "vec"], skip_load_dynamic_field: true }));
  assert.deepEqual(numbers(await search({ data: vector(5), limit: 1, output_fields: ["id"] })), [5]);
  await ok(client.releaseCollection({ collection_name }));
  await ok(client.loadCollection({ collection_name }));
});

const partition = { collection_name, partition_name: "p1" };
const partitions = { collection_name, partition_names: ["p1"] };
await step("create_partition", async () => {
  await ok(client.createPartition(partition));
  assert.equal((await ok(client.hasPartition(partition))).value, true);
  assert.deepEqual((await ok(client.listPartitions({ collection_name }))).partition_names.sort(), ["_default", "p1"]);
});
await step("insert_into_partition", async () => ok(client.insert({ ...partition, data: [row(1000)] })));
await step("search_in_partition", async () => {
  const found = await search({ data: vector(1), limit: 1, partition_names: ["p1"], consistency_level: "Strong" });
  assert.deepEqual(numbers(found), [1000]);
});
await step("release_partitions", async () => ok(client.releasePartitions(partitions)));
await step("load_partitions", async () => ok(client.loadPartitionsSync(partitions)));
await step("drop_partition", async () => {
  await ok(client.releasePartitions(partitions));
  await ok(client.dropPartition(partition));
  assert.deepEqual((await ok(client.listPartitions({ collection_name }))).partition_names, ["_default"]);
});

await step("create_alias", async () => {
  await ok(client.createAlias({ collection_name, alias: "guide" }));
  assert.equal((await ok(client.describeAlias({ collection_name, alias: "guide" }))).collection, collection_name);
});
await step("use_alias", async () => assert.equal(await count("guide"), ROWS - 2));
await step("list_aliases", async () => {
  assert.deepEqual((await ok(client.listAliases({ collection_name }))).aliases, ["guide"]);
});
await step("alter_alias", async () => {
  await ok(client.createCollection({ collection_name: "other", dimension: DIM }));
  await ok(client.alterAlias({ collection_name: "other", alias: "guide" }));
  assert.equal((await ok(client.describeAlias({ collection_name: "other", alias: "guide" }))).collection, "other");
});
await step("drop_alias", async () => ok(client.dropAlias({ alias: "guide" })));
await step("drop_collection", async () => {
  await ok(client.dropCollection({ collection_name: "other" }));
  assert.equal((await client.hasCollection({ collection_name: "other" })).value, false);
});
await step("rename_collection", async () => {
  await ok(client.renameCollection({ collection_name, new_collection_name: "tour2" }));
  assert.equal(await count("tour2"), ROWS - 2);
  await ok(client.renameCollection({ collection_name: "tour2", new_collection_name: collection_name }));
});
await step("alter_collection_properties", async () => {
  await ok(client.alterCollectionProperties({ collection_name, properties: { "collection.ttl.seconds": 3600 } }));
  const { properties } = await ok(client.describeCollection({ collection_name }));
  assert.equal(properties.find((p) => p.key === "collection.ttl.seconds")?.value, "3600");
});
await step("drop_collection_properties", async () => {
  await ok(client.dropCollectionProperties({ collection_name, properties: ["collection.ttl.seconds"] }));
});
await step("alter_field", async () => {
  await ok(client.releaseCollection({ collection_name }));
  try {
    const changed = { field_name: "text", properties: { max_length: 128 } };
    await ok(client.alterCollectionFieldProperties({ collection_name, ...changed }));
  } finally {
    await ok(client.loadCollection({ collection_name }));
  }
});
await step("add_field", async () => {
  await ok(client.addCollectionField({ collection_name, field: { name: "added", data_type: DataType.Int64, nullable: true } }));
  await ok(client.upsert({ collection_name, data: [{ ...row(4), added: 44 }] }));
  assert.equal((await ok(client.get({ collection_name, ids: [4], output_fields: ["added"] }))).data[0].added, "44");
});

// A collection with one vector field, its rows, and one search and one query that return the vectors.
async function vectorSteps(kind, { field, index, rows, asked, wanted, params }) {
  const name = { collection_name: kind };
  await step(`create_${kind}_vectors`, async () => {
    await ok(client.createCollection({ ...name, fields: [fields[0], { name: "vec", ...field }] }));
    await ok(client.createIndex({ ...name, field_name: "vec", index_name: "vec", ...index }));
    const { index_descriptions } = await ok(client.describeIndex({ ...name, index_name: "vec" }));
    assert.equal(index_descriptions[0].params.find((p) => p.key === "index_type").value, index.index_type);
    await ok(client.loadCollection(name));
  });
  await step(`insert_${kind}_vectors`, async () => {
    assert.equal((await ok(client.insert({ ...name, data: rows }))).insert_cnt, String(rows.length));
    await ok(client.upsert({ ...name, data: [rows[3]] }));
  });
  await step(`search_${kind}_vectors`, async () => {
    const options = { limit: 2, output_fields: ["id", "vec"], consistency_level: "Strong", params };
    const found = await search({ ...name, data: asked, ...options });
    assert.deepEqual(found.map((hit) => hit.score), wanted.scores);
    assert.deepEqual([Number(found[0].id), found[0].vec], [5, wanted.vector(5)]);
  });
  await step(`query_${kind}_vectors`, async () => {
    await ok(client.flushSync({ collection_names: [kind] }));
    const asked = { filter: "id in [3, 9]", output_fields: ["vec"], consistency_level: "Strong" };
    const { data } = await ok(client.query({ ...name, ...asked }));
    assert.deepEqual(Object.fromEntries(data.map((r) => [r.id, r.vec])), { 3: wanted.vector(3), 9: wanted.vector(9) });
    await ok(client.dropCollection(name));
  });
}

const LAST = 4_000_000_000;
const sparse = (i) => ({ [i]: 1, [LAST]: 0.25 });
const sparseForms = [
  sparse,
  (i) => ({ indices: [i, LAST], values: [1, 0.25] }),
  (i) => [{ index: i, value: 1 }, { index: LAST, value: 0.25 }],
  (i) => [...Array(i), 1],
];
const sparseRow = (id) => ({ id, vec: id === 9 ? sparse(9) : sparseForms[id % 4](id) });
await vectorSteps("sparse", {
  field: { data_type: DataType.SparseFloatVector },
  index: { index_type: "SPARSE_INVERTED_INDEX", metric_type: "IP" },
  rows: [...Array(ROWS).keys()].map(sparseRow),
  asked: { 5: 4, 7: 2 },
  wanted: { scores: [4, 2], vector: (i) => (i === 3 ? { 3: 1 } : sparse(i)) },
});
const bits = (i) => [i, 255 - i];
await vectorSteps("binary", {
  field: { data_type: DataType.BinaryVector, dim: 16 },
  index: { index_type: "BIN_IVF_FLAT", metric_type: "HAMMING", params: { nlist: 2 } },
  rows: [...Array(ROWS).keys()].map((id) => ({ id, vec: bits(id) })),
  asked: bits(5),
  params: { nprobe: 2 },
  wanted: { scores: [0, 2], vector: bits },
});

await step("create_database", async () => {
  await ok(client.createDatabase({ db_name: "tour_db" }));
  assert.ok((await ok(client.listDatabases())).db_names.includes("tour_db"));
});
await step("use_database", async () => {
  const guest = new MilvusClient({ address, token, database: "tour_db" });
  try {
    await ok(guest.createCollection({ collection_name: "inside", dimension: DIM }));
    assert.deepEqual((await ok(guest.listCollections())).data.map((d) => d.name), ["inside"]);
    await ok(guest.dropCollection({ collection_name: "inside" }));
  } finally {
    await guest.closeConnection();
  }
});
await step("alter_database", async () => {
  await ok(client.alterDatabase({ db_name: "tour_db", properties: { "database.max.collections": 10 } }));
  const { properties } = await ok(client.describeDatabase({ db_name: "tour_db" }));
  assert.equal(properties.find((p) => p.key === "database.max.collections")?.value, "10");
});
await step("drop_database", async () => ok(client.dropDatabase({ db_name: "tour_db" })));

await step("create_resource_group", async () => {
  await ok(client.createResourceGroup({ resource_group: "tour_rg" }));
  assert.ok((await ok(client.listResourceGroups())).resource_groups.includes("tour_rg"));
});
await step("describe_resource_group", async () => ok(client.describeResourceGroup({ resource_group: "tour_rg" })));
await step("drop_resource_group", async () => ok(client.dropResourceGroup({ resource_group: "tour_rg" })));

const tourist = { username: "tourist" };
await step("create_user", async () => {
  await ok(client.createUser({ ...tourist, password: "secret1" }));
  assert.ok((await ok(client.listUsers())).usernames.includes("tourist"));
});
await step("update_password", async () => {
  await ok(client.updateUser({ ...tourist, oldPassword: "secret1", newPassword: "secret2" }));
});
const granted = { role: "guide", privilege: "CollectionReadOnly", db_name: "default", collection_name: "*" };
await step("grant_role", async () => {
  await ok(client.createRole({ roleName: "guide" }));
  await ok(client.grantPrivilegeV2(granted));
  await ok(client.grantRole({ ...tourist, roleName: "guide" }));
  const { results } = await ok(client.describeUser(tourist));
  assert.deepEqual(results[0].roles.map((role) => role.name), ["guide"]);
  assert.ok((await client.hasRole({ roleName: "guide" })).hasRole);
  assert.ok((await ok(client.listPrivilegeGroups())).privilege_groups.length >= 9);
});
await step("privileges", async () => {
  const guided = new MilvusClient({ address, token: "tourist:secret2" });
  await ok(guided.showCollections());
  await assert.rejects(guided.createDatabase({ db_name: "not_allowed" }), /PrivilegeCreateDatabase: permission deny/);
  await guided.closeConnection();
});
// What Attu calls to show and to change roles.
await step("roles_of_attu", async () => {
  await ok(client.alterRole({ roleName: "guide", description: "shows the way" }));
  const { results } = await ok(client.listRoles({ includeUserInfo: true }));
  const guide = results.find((found) => found.role.name === "guide");
  assert.equal(guide.role.description, "shows the way");
  assert.deepEqual(guide.users.map((user) => user.name), ["tourist"]);
  const first = { roleName: "guide", object: "Collection", objectName: "*", privilegeName: "Search" };
  await ok(client.grantRolePrivilege(first));
  const listed = (await ok(client.listGrants({ roleName: "guide" }))).entities;
  assert.deepEqual(listed.map((entity) => entity.grantor.privilege.name), ["Search", "CollectionReadOnly"]);
  assert.equal((await ok(client.selectGrant(first))).entities.length, 1);
  await ok(client.revokeRolePrivilege(first));
});
await step("privilege_groups", async () => {
  const group = { group_name: "attu_group" };
  await ok(client.createPrivilegeGroup(group));
  await ok(client.addPrivilegesToGroup({ ...group, privileges: ["Search", "Query"] }));
  await ok(client.removePrivilegesFromGroup({ ...group, privileges: ["Query"] }));
  const { privilege_groups } = await ok(client.listPrivilegeGroups());
  const found = privilege_groups.find((one) => one.group_name === "attu_group");
  assert.deepEqual(found.privileges.map((privilege) => privilege.name), ["Search"]);
  await ok(client.dropPrivilegeGroup(group));
});
await step("drop_role", async () => {
  await ok(client.revokePrivilegeV2(granted));
  await ok(client.revokeRole({ ...tourist, roleName: "guide" }));
  await ok(client.dropRole({ roleName: "guide" }));
});
await step("drop_user", async () => ok(client.deleteUser(tourist)));

const text = "x".repeat(65_000);
const big = { collection_name: "big", data: [...Array(BIG_ROWS).keys()].map((id) => ({ id, vec: [id, 1], text })) };
await step("insert_100_mb", async () => {
  await ok(
    client.createCollection({
      collection_name: "big",
      fields: [
        { name: "id", data_type: DataType.Int64, is_primary_key: true },
        { name: "vec", data_type: DataType.FloatVector, dim: 2 },
        { name: "text", data_type: DataType.VarChar, max_length: 65535 },
      ],
    }),
  );
  await ok(client.createIndex({ collection_name: "big", field_name: "vec", index_type: "FLAT", metric_type: "L2" }));
  await ok(client.loadCollection({ collection_name: "big" }));
  await ok(client.insert({ ...big, timeout: 60_000 }));
  assert.equal(await count("big"), BIG_ROWS);
});
await step("deadline_of_2_s", async () => {
  try {
    await ok(client.upsert({ ...big, timeout: 2000 }));
  } catch (error) {
    assert.match(oneLine(error), /DEADLINE_EXCEEDED/);
  }
  assert.equal(await count("big"), BIG_ROWS);
});
await step("restart", async () => {
  const input = createInterface({ input: process.stdin });
  console.log("restart me");
  await new Promise((go) => input.once("line", go));
  input.close();
  const again = () => search({ data: vector(5), limit: 1, consistency_level: "Strong", timeout: 30_000 });
  // gRPC waits a second and more after each failed attempt to connect, and the SDK repeats a call for less than that.
  const deadline = Date.now() + 30_000;
  let found;
  while (found === undefined) {
    try {
      found = numbers(await again());
    } catch (error) {
      if (!/UNAVAILABLE/.test(error) || Date.now() > deadline) throw error;
      await new Promise((wake) => setTimeout(wake, 100));
    }
  }
  assert.deepEqual(found, [5]);
  assert.equal(await count("big"), BIG_ROWS);
});
await client.dropCollection({ collection_name: "big" });

const texts = { collection_name: "texts" };
await step("full_text", async () => {
  await ok(
    client.createCollection({
      ...texts,
      fields: [
        fields[0],
        { name: "text", data_type: DataType.VarChar, max_length: 99, enable_analyzer: true, enable_match: true },
        fields[1],
        { name: "terms", data_type: DataType.SparseFloatVector },
      ],
      functions: [
        { name: "bm25", type: FunctionType.BM25, input_field_names: ["text"], output_field_names: ["terms"], params: {} },
      ],
      index_params: [
        { field_name: "vec", index_type: "AUTOINDEX", metric_type: "L2" },
        { field_name: "terms", index_type: "AUTOINDEX", metric_type: "BM25" },
      ],
    }),
  );
  await ok(client.loadCollection(texts));
  const data = ["a red fox", "a blue hen"].map((text, i) => ({ id: i + 1, text, vec: vector(i + 1) }));
  await ok(client.insert({ ...texts, data }));
  const found = await search({ ...texts, data: "Fox", anns_field: "terms", limit: 3, consistency_level: "Strong" });
  assert.deepEqual(numbers(found), [1]);
});
await step("text_match", async () => {
  const matching = async (filter) =>
    numbers((await ok(client.query({ ...texts, filter, output_fields: ["id"], consistency_level: "Strong" }))).data);
  assert.deepEqual(await matching('text_match(text, "hen fox")'), [1, 2]);
  assert.deepEqual(await matching('phrase_match(text, "blue hen")'), [2]);
});
await step("hybrid_full_text", async () => {
  const data = [
    { data: "hen", anns_field: "terms", params: {} },
    { data: vector(2), anns_field: "vec", params: {} },
  ];
  const found = await search({ ...texts, data, rerank: RRFRanker(60), limit: 2 });
  assert.deepEqual(found.map((hit) => Number(hit.id)), [2, 1]);
  await ok(client.dropCollection(texts));
});
await step("run_analyzer", async () => {
  const { results } = await ok(client.runAnalyzer({ text: "The Foxes run", analyzer_params: { type: "english" } }));
  assert.deepEqual(results[0].tokens.map((one) => one.token), ["fox", "run"]);
});
await step("grouping", async () => {
  assert.equal((await search({ data: vector(5), limit: 3, group_by_field: "flag" })).length, 2);
});
await step("hybrid_search", async () => {
  const found = await search({ data: [5, 5].map((i) => ({ data: vector(i), anns_field: "vec", params: {} })), limit: 2 });
  assert.equal(Number(found[0].id), 5);
});
await step("search_order", async () => {
  const found = await search({ data: vector(50), limit: 3, order_by_fields: [{ field: "i64", order: "desc" }] });
  assert.deepEqual(found.map((hit) => Number(hit.id)), [51, 50, 49]);
});
await step("query_order", async () => {
  const asked = { filter: "id < 100", output_fields: ["id"], order_by_fields: ["i64:desc"], limit: 2 };
  const { data } = await ok(client.query({ collection_name, ...asked }));
  assert.deepEqual(data.map((row) => Number(row.id)), [99, 98]);
});
await step("query_aggregates", async () => {
  const { data } = await ok(client.query({ collection_name, filter: "id < 100", output_fields: ["max(i64)"] }));
  assert.deepEqual(data.map((row) => Number(row["max(i64)"])), [99]);
});
await step("search_aggregation", async () => {
  const asked = { data: vector(50), anns_field: "vec", search_aggregation: { fields: ["flag"], size: 2 } };
  const found = await ok(client.search({ collection_name, ...asked }));
  const keys = found.agg_buckets.flat().map((bucket) => bucket.key[0].value);
  assert.deepEqual(keys.sort(), [false, true]);
});
await lacking("partial_upsert", () => ok(client.upsert({ collection_name, data: [{ id: 5, i64: 55 }], partial_update: true })));

const counted = async (name) => {
  const asked = { filter: "", output_fields: ["count(*)"], consistency_level: "Strong" };
  const { data } = await ok(client.query({ collection_name: name, ...asked }));
  return Number(data[0]["count(*)"]);
};
await step("import", async () => {
  const before = await counted(collection_name);
  writeFileSync(`${process.env.MILVINE_FILES}/rows.json`, JSON.stringify([row(5000), row(5001)]));
  const { tasks } = await ok(client.bulkInsert({ collection_name, files: ["rows.json"] }));
  let found = {};
  while (!["ImportCompleted", "ImportFailed"].includes(found.state)) {
    found = await ok(client.getImportState({ task: tasks[0] }));
    await new Promise((done) => setTimeout(done, 100));
  }
  assert.deepEqual([found.state, Number(found.row_count)], ["ImportCompleted", 2]);
  assert.equal(await counted(collection_name), before + 2);
});
await step("snapshot", async () => {
  const names = { snapshot_name: "s", source_collection_name: collection_name, target_collection_name: "again" };
  await ok(client.flushSync({ collection_names: [collection_name] }));
  const rows = await counted(collection_name);
  await ok(client.createSnapshot({ collection_name, snapshot_name: "s", description: "of the tour" }));
  assert.deepEqual((await ok(client.listSnapshots({ collection_name }))).snapshots, ["s"]);
  assert.equal((await ok(client.describeSnapshot({ collection_name, snapshot_name: "s" }))).description, "of the tour");
  const { job_id } = await ok(client.restoreSnapshot(names));
  let info = {};
  while (!["RestoreSnapshotCompleted", "RestoreSnapshotFailed"].includes(info.state)) {
    info = (await ok(client.getRestoreSnapshotState({ job_id }))).info;
    await new Promise((done) => setTimeout(done, 100));
  }
  await ok(client.loadCollectionSync({ collection_name: "again" }));
  assert.equal(await counted("again"), rows);
  await ok(client.dropSnapshot({ collection_name, snapshot_name: "s" }));
  await ok(client.dropCollection({ collection_name: "again" }));
});

await client.dropCollection({ collection_name });
await client.closeConnection();
