// LangChain.js's Milvus store with its default settings, against the server whose address is the argument.
import assert from "node:assert/strict";
import { Milvus } from "@langchain/community/vectorstores/milvus";
import { Embeddings } from "@langchain/core/embeddings";

const url = process.argv[2];

// Counts letters, so that texts of the same letters are near.
class Letters extends Embeddings {
  constructor() {
    super({});
  }
  embed(text) {
    const counts = Array(26).fill(0);
    for (const letter of text.toLowerCase().replace(/[^a-z]/g, "")) {
      counts[letter.charCodeAt(0) - 97] += 1;
    }
    return counts;
  }
  async embedQuery(text) {
    return this.embed(text);
  }
  async embedDocuments(texts) {
    return texts.map((text) => this.embed(text));
  }
}

const embeddings = new Letters();
const texts = ["apples are red", "bananas are yellow", "the sky is blue", "grass is green"];
const metadatas = texts.map((_, i) => ({ page: i, kind: i < 2 ? "fruit" : "nature", tags: ["a", i], seen: i % 2 === 0 }));
const name = () => `langchainjs_${process.pid}_${Math.floor(Math.random() * 1e9)}`;
const found = (documents) => documents.map((document) => document.pageContent);

// New texts, and the searches that chains make.
const collectionName = name();
const store = await Milvus.fromTexts(texts, metadatas, embeddings, { url, collectionName });
const [nearest] = await store.similaritySearchWithScore("bananas are yellow", 2);
assert.equal(nearest[0].pageContent, texts[1]);
assert.deepEqual(
  [Number(nearest[0].metadata.page), nearest[0].metadata.kind, nearest[0].metadata.tags, nearest[1]],
  [1, "fruit", ["a", 1], 0],
);
assert.deepEqual(found(await store.similaritySearch("red", 4, 'kind == "nature" and page < 3')), [texts[2]]);
assert.deepEqual(found(await store.asRetriever({ k: 1 }).invoke("grass is green")), [texts[3]]);

// More texts in an existing collection, read by another store.
const again = await Milvus.fromExistingCollection(embeddings, { url, collectionName });
await again.addDocuments([{ pageContent: "zebras", metadata: { page: 9, kind: "animal", tags: [], seen: true } }]);
assert.deepEqual(found(await again.similaritySearch("zebras", 1)), ["zebras"]);
await again.delete({ filter: 'kind == "animal"' });
assert.deepEqual(found(await again.similaritySearch("zebras", 9, 'kind == "animal"')), []);
await again.setProperties({ "collection.ttl.seconds": 3600 });

// Keys of one's own, which replace older documents, in a partition.
const keyed = { url, collectionName: name(), autoId: false, primaryField: "key", partitionName: "mine" };
const named = await Milvus.fromDocuments([{ pageContent: "old", metadata: { key: "k" } }], embeddings, keyed);
await named.addDocuments([{ pageContent: "new", metadata: {} }], { ids: ["k"] });
assert.deepEqual(found(await named.similaritySearch("old", 5)), ["new"]);
await named.delete({ ids: ["k"] });
assert.deepEqual(found(await named.similaritySearch("old", 5)), []);

// Other index types, and a partition key.
for (const [index_type, params] of [["FLAT", {}], ["IVF_FLAT", { nlist: 4 }], ["IVF_SQ8", { nlist: 4 }]]) {
  const options = { index_type, metric_type: "IP", params };
  const made = { url, collectionName: name(), partitionKey: "tenant", indexCreateOptions: options };
  const tenants = texts.map((text, i) => ({ pageContent: text, metadata: { tenant: `t${i % 2}` } }));
  const other = await Milvus.fromDocuments(tenants, embeddings, made);
  assert.equal((await other.similaritySearch("sky", 4, 'tenant == "t0"')).length, 2);
  await other.client.dropCollection({ collection_name: made.collectionName });
  await other.client.closeConnection();
}

for (const used of [store, named]) {
  await used.client.dropCollection({ collection_name: used.collectionName });
}
for (const used of [store, again, named]) {
  await used.client.closeConnection();
}
console.log("langchain_js: ok");
