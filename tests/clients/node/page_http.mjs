// The page "Load & Release" with the HttpClient, against MILVINE_URI with MILVINE_TOKEN. REST has no load_fields.
import { HttpClient } from "@zilliz/milvus2-sdk-node";

const client = new HttpClient({ endpoint: process.env.MILVINE_URI, token: process.env.MILVINE_TOKEN });
const collectionName = "my_collection";
const show = (res) => console.log(JSON.stringify(res));

show(
  await client.createCollection({
    collectionName,
    schema: {
      enableDynamicField: true,
      fields: [
        { fieldName: "my_id", dataType: "Int64", isPrimary: true },
        { fieldName: "my_vector", dataType: "FloatVector", elementTypeParams: { dim: 5 } },
        { fieldName: "my_varchar", dataType: "VarChar", elementTypeParams: { max_length: 64 } },
      ],
    },
  }),
);
show(
  await client.createIndex({
    collectionName,
    indexParams: [{ fieldName: "my_vector", indexName: "my_vector", indexType: "AUTOINDEX", metricType: "COSINE" }],
  }),
);

// Load the collection
show(await client.loadCollection({ collectionName }));
while ((await client.getCollectionLoadState({ collectionName })).data?.loadState !== "LoadStateLoaded") {
  await new Promise((done) => setTimeout(done, 100));
}
show(await client.getCollectionLoadState({ collectionName }));

// Release the collection
show(await client.releaseCollection({ collectionName }));
show(await client.getCollectionLoadState({ collectionName }));

show(await client.dropCollection({ collectionName }));
