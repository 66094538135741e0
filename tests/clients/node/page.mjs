// The page "Load & Release" with the gRPC client, against MILVINE_URI with MILVINE_TOKEN.
import { MilvusClient, DataType } from "@zilliz/milvus2-sdk-node";

const address = process.env.MILVINE_URI;
const token = process.env.MILVINE_TOKEN;
const client = new MilvusClient({ address, token });
const collection_name = "my_collection";
let res;

await client.createCollection({
  collection_name,
  enable_dynamic_field: true,
  fields: [
    { name: "my_id", data_type: DataType.Int64, is_primary_key: true },
    { name: "my_vector", data_type: DataType.FloatVector, dim: 5 },
    { name: "my_varchar", data_type: DataType.VarChar, max_length: 64 },
  ],
});
await client.createIndex({ collection_name, field_name: "my_vector", index_type: "AUTOINDEX", metric_type: "COSINE" });
const data = [...Array(10).keys()].map((i) => ({
  my_id: i,
  my_vector: [i, 1, 2, 3, 4],
  my_varchar: `v${i}`,
  color: "red",
}));
await client.insert({ collection_name, data });

// Load the collection
res = await client.loadCollection({ collection_name });
console.log(res.error_code);
res = await client.getLoadState({ collection_name });
console.log(res.state);

// To load other fields, release first
res = await client.releaseCollection({ collection_name });
console.log(res.error_code);
res = await client.getLoadState({ collection_name });
console.log(res.state);

// Load specific fields
res = await client.loadCollection({
  collection_name,
  load_fields: ["my_id", "my_vector"], // Load only the specified fields
  skip_load_dynamic_field: true, // Skip loading the dynamic field
});
console.log(res.error_code);
res = await client.getLoadState({ collection_name });
console.log(res.state);

// What is not loaded can be neither a filter nor an output
async function showRefusal(what, filter, field) {
  const found = await client.query({ collection_name, filter, output_fields: [field] });
  console.log(`${what}: ${found.status.error_code === "Success" ? "not refused" : found.status.reason}`);
}
await showRefusal("filter", 'my_varchar == "v1"', "my_id");
await showRefusal("output", "my_id > 1", "my_varchar");
await showRefusal("dynamic", "my_id > 1", "color");
res = await client.search({ collection_name, data: [3, 1, 2, 3, 4], limit: 1 });
console.log(`search: ${res.results[0].my_id}`);

// Release the collection
res = await client.releaseCollection({ collection_name });
console.log(res.error_code);
res = await client.getLoadState({ collection_name });
console.log(res.state);

await client.dropCollection({ collection_name });
await client.closeConnection();
