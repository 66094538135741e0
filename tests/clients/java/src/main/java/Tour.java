import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.milvus.common.clientenum.FunctionType;
import io.milvus.common.resourcegroup.ResourceGroupConfig;
import io.milvus.common.resourcegroup.ResourceGroupLimit;
import io.milvus.v2.client.ConnectConfig;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.ConsistencyLevel;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.service.collection.request.*;
import io.milvus.v2.service.database.request.*;
import io.milvus.v2.service.index.request.*;
import io.milvus.v2.service.partition.request.*;
import io.milvus.v2.service.rbac.request.*;
import io.milvus.v2.service.resourcegroup.request.*;
import io.milvus.v2.service.utility.request.*;
import io.milvus.v2.service.vector.request.*;
import io.milvus.v2.service.vector.request.data.BaseVector;
import io.milvus.v2.service.vector.request.data.BinaryVec;
import io.milvus.v2.service.vector.request.data.EmbeddedText;
import io.milvus.v2.service.vector.request.data.FloatVec;
import io.milvus.v2.service.vector.request.data.SparseFloatVec;
import io.milvus.v2.service.vector.request.ranker.RRFRanker;
import io.milvus.v2.service.vector.response.QueryResp;
import io.milvus.v2.service.vector.response.SearchResp;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Scanner;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;

/** A tour of the server, against MILVINE_URI with MILVINE_TOKEN: one line for each step. */
public class Tour {
    private static final String NAME = "tour";
    private static final int DIM = 8;
    private static final int ROWS = 200;
    private static final int BIG_ROWS = 1600;
    private static final Gson GSON = new Gson();
    private static MilvusClientV2 client;

    private interface Work {
        void run() throws Exception;
    }

    private static MilvusClientV2 connect(String database) {
        ConnectConfig.ConnectConfigBuilder made =
                ConnectConfig.builder().uri(System.getenv("MILVINE_URI")).token(System.getenv("MILVINE_TOKEN"));
        return new MilvusClientV2(database.isEmpty() ? made.build() : made.dbName(database).build());
    }

    private static String oneLine(Throwable error, int most) {
        String text = String.valueOf(error.getMessage()).replaceAll("\\s+", " ");
        return text.substring(0, Math.min(text.length(), most));
    }

    private static void step(String name, Work work) {
        try {
            work.run();
            System.out.println("step " + name + " ok");
        } catch (Throwable error) {
            System.out.println("step " + name + " FAIL " + oneLine(error, 300));
        }
    }

    private static void lacking(String name, Work work) {
        try {
            work.run();
            System.out.println("step " + name + " ok");
        } catch (Throwable error) {
            System.out.println("lacks: " + name + ", " + oneLine(error, 120));
        }
    }

    private static void check(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError(found + " instead of " + wanted);
        }
    }

    private static float[] vector(int i) {
        float[] made = new float[DIM];
        Arrays.fill(made, 1);
        made[0] = i;
        return made;
    }

    private static List<BaseVector> vectors(int... numbers) {
        List<BaseVector> made = new ArrayList<>();
        for (int i : numbers) {
            made.add(new FloatVec(vector(i)));
        }
        return made;
    }

    private static JsonObject row(int i) {
        JsonObject made = new JsonObject();
        made.addProperty("id", i);
        made.add("vec", GSON.toJsonTree(vector(i)));
        made.addProperty("flag", i % 2 == 0);
        made.addProperty("i8", i % 100);
        made.addProperty("i16", i);
        made.addProperty("i32", i);
        made.addProperty("i64", i);
        made.addProperty("f32", i / 2f);
        made.addProperty("f64", i / 4.0);
        made.addProperty("text", "t" + i);
        made.add("tags", GSON.toJsonTree(List.of(i, i + 1)));
        made.add("doc", GSON.toJsonTree(Map.of("k", i)));
        made.addProperty("color", i % 2 == 0 ? "red" : "blue");
        return made;
    }

    private static AddFieldReq.AddFieldReqBuilder<?> field(String name, DataType type) {
        return AddFieldReq.builder().fieldName(name).dataType(type);
    }

    private static CreateCollectionReq.CollectionSchema schema(AddFieldReq.AddFieldReqBuilder<?>... fields) {
        CreateCollectionReq.CollectionSchema made = client.createSchema();
        made.addField(field("id", DataType.Int64).isPrimaryKey(true).build());
        for (AddFieldReq.AddFieldReqBuilder<?> one : fields) {
            made.addField(one.build());
        }
        return made;
    }

    private static void create(String name, CreateCollectionReq.CollectionSchema schema) {
        client.createCollection(CreateCollectionReq.builder()
                .collectionName(name)
                .collectionSchema(schema)
                .build());
    }

    private static void drop(String name) {
        client.dropCollection(DropCollectionReq.builder().collectionName(name).build());
    }

    private static void index(String collection, IndexParam.IndexType type, Map<String, Object> params) {
        IndexParam made = IndexParam.builder()
                .fieldName("vec")
                .indexName("vec")
                .indexType(type)
                .metricType(IndexParam.MetricType.L2)
                .extraParams(params)
                .build();
        client.createIndex(CreateIndexReq.builder()
                .collectionName(collection)
                .indexParams(Collections.singletonList(made))
                .build());
    }

    private static void load(String name) {
        client.loadCollection(LoadCollectionReq.builder().collectionName(name).build());
    }

    private static void release() {
        client.releaseCollection(
                ReleaseCollectionReq.builder().collectionName(NAME).build());
    }

    private static boolean isLoaded() {
        return client.getLoadState(GetLoadStateReq.builder().collectionName(NAME).build());
    }

    private static List<QueryResp.QueryResult> query(String collection, String filter, String... fields) {
        return client.query(QueryReq.builder()
                        .collectionName(collection)
                        .filter(filter)
                        .outputFields(List.of(fields))
                        .consistencyLevel(ConsistencyLevel.STRONG)
                        .build())
                .getQueryResults();
    }

    private static long count(String collection) {
        return (Long) query(collection, "", "count(*)").get(0).getEntity().get("count(*)");
    }

    private static Object value(long id, String field) {
        return query(NAME, "id == " + id, field).get(0).getEntity().get(field);
    }

    private static List<Long> queried(String filter, String... fields) {
        List<Long> made = new ArrayList<>();
        for (QueryResp.QueryResult one : query(NAME, filter, fields)) {
            made.add((Long) one.getEntity().get("id"));
        }
        Collections.sort(made);
        return made;
    }

    private static SearchReq.SearchReqBuilder searching(int limit, int... numbers) {
        return SearchReq.builder().collectionName(NAME).annsField("vec").data(vectors(numbers)).topK(limit);
    }

    private static List<SearchResp.SearchResult> hits(SearchReq request) {
        return client.search(request).getSearchResults().get(0);
    }

    private static List<Long> ids(List<SearchResp.SearchResult> found) {
        List<Long> made = new ArrayList<>();
        for (SearchResp.SearchResult one : found) {
            made.add((Long) one.getId());
        }
        return made;
    }

    private static void insert(String partition, JsonObject... rows) {
        client.insert(InsertReq.builder()
                .collectionName(NAME)
                .partitionName(partition)
                .data(List.of(rows))
                .build());
    }

    private static void upsert(JsonObject row) {
        client.upsert(UpsertReq.builder().collectionName(NAME).data(List.of(row)).build());
    }

    public static void main(String[] arguments) {
        client = connect("");
        collections();
        reads();
        partitions();
        aliases();
        changes();
        vectorKinds();
        databases();
        others();
        endurance();
        fullText();
        composedReads();
        drop(NAME);
        client.close();
    }

    private static void collections() {
        step("version", () -> check(client.getServerVersion().startsWith("v2"), true));
        step("create_collection", () -> {
            CreateCollectionReq.CollectionSchema made = schema(
                    field("vec", DataType.FloatVector).dimension(DIM),
                    field("flag", DataType.Bool),
                    field("i8", DataType.Int8),
                    field("i16", DataType.Int16),
                    field("i32", DataType.Int32),
                    field("i64", DataType.Int64),
                    field("f32", DataType.Float),
                    field("f64", DataType.Double),
                    field("text", DataType.VarChar).maxLength(64),
                    field("tags", DataType.Array).elementType(DataType.Int64).maxCapacity(8),
                    field("doc", DataType.JSON),
                    field("maybe", DataType.Int64).isNullable(true),
                    field("seven", DataType.Int64).defaultValue(7L));
            made.setEnableDynamicField(true);
            create(NAME, made);
            check(client.hasCollection(HasCollectionReq.builder().collectionName(NAME).build()), true);
            check(client.listCollections().getCollectionNames().contains(NAME), true);
        });
        step("describe_collection", () -> {
            DescribeCollectionReq request = DescribeCollectionReq.builder().collectionName(NAME).build();
            check(client.describeCollection(request).getFieldNames().size(), 14);
        });
        Map<String, Object> lists = Map.of("nlist", 4);
        Map<String, Object> graph = Map.of("M", 8, "efConstruction", 32);
        Map<IndexParam.IndexType, Map<String, Object>> kinds = new java.util.LinkedHashMap<>();
        kinds.put(IndexParam.IndexType.FLAT, Map.of());
        kinds.put(IndexParam.IndexType.IVF_FLAT, lists);
        kinds.put(IndexParam.IndexType.IVF_SQ8, lists);
        kinds.put(IndexParam.IndexType.IVF_PQ, Map.of("nlist", 4, "m", 4, "nbits", 8));
        kinds.put(IndexParam.IndexType.SCANN, lists);
        kinds.put(IndexParam.IndexType.HNSW_SQ, Map.of("M", 8, "efConstruction", 32, "sq_type", "SQ8"));
        kinds.put(IndexParam.IndexType.HNSW_PQ, Map.of("M", 8, "efConstruction", 32, "m", 4, "nbits", 8));
        kinds.put(IndexParam.IndexType.AUTOINDEX, Map.of());
        kinds.put(IndexParam.IndexType.HNSW, graph);
        kinds.forEach((type, params) -> step("index_" + type.name().toLowerCase(), () -> {
            ListIndexesReq list = ListIndexesReq.builder().collectionName(NAME).build();
            if (!client.listIndexes(list).isEmpty()) {
                client.dropIndex(DropIndexReq.builder()
                        .collectionName(NAME)
                        .indexName("vec")
                        .build());
            }
            index(NAME, type, params);
            DescribeIndexReq described = DescribeIndexReq.builder()
                    .collectionName(NAME)
                    .indexName("vec")
                    .build();
            check(client.describeIndex(described).getIndexDescByIndexName("vec").getIndexType(), type);
        }));
        step("load", () -> {
            check(isLoaded(), false);
            load(NAME);
            check(isLoaded(), true);
        });
        step("insert", () -> {
            List<JsonObject> rows = new ArrayList<>();
            for (int i = 0; i < ROWS; i++) {
                rows.add(row(i));
            }
            InsertReq request = InsertReq.builder().collectionName(NAME).data(rows).build();
            check(client.insert(request).getInsertCnt(), (long) ROWS);
        });
        step("upsert", () -> {
            JsonObject changed = row(3);
            changed.addProperty("text", "changed");
            upsert(changed);
            check(value(3, "text"), "changed");
        });
        step("delete_by_ids", () -> {
            client.delete(
                    DeleteReq.builder().collectionName(NAME).ids(List.of(198L)).build());
            check(count(NAME), ROWS - 1L);
        });
        step("delete_by_filter", () -> {
            client.delete(DeleteReq.builder()
                    .collectionName(NAME)
                    .filter("i64 == 199")
                    .build());
            check(count(NAME), ROWS - 2L);
        });
        step("flush", () -> {
            client.flush(FlushReq.builder().collectionNames(List.of(NAME)).build());
            check(count(NAME), ROWS - 2L);
        });
        step("statistics", () -> client.getCollectionStats(
                GetCollectionStatsReq.builder().collectionName(NAME).build()));
    }

    private static void reads() {
        step("search", () -> check(
                ids(hits(searching(1, 5).consistencyLevel(ConsistencyLevel.STRONG).build())), List.of(5L)));
        step("search_with_filter_and_output", () -> {
            SearchReq request = searching(3, 5)
                    .filter("color == \"red\" and i32 > 10")
                    .outputFields(List.of("*"))
                    .build();
            List<SearchResp.SearchResult> found = hits(request);
            check(ids(found), List.of(12L, 14L, 16L));
            check(found.get(0).getEntity().get("tags"), List.of(12L, 13L));
        });
        step("search_many_queries", () -> {
            List<Long> made = new ArrayList<>();
            client.search(searching(1, 7, 8, 9).build())
                    .getSearchResults()
                    .forEach(found -> made.addAll(ids(found)));
            check(made, List.of(7L, 8L, 9L));
        });
        step("range_search", () -> {
            List<Long> found =
                    ids(hits(searching(100, 50).searchParams(Map.of("radius", 4.5)).build()));
            Collections.sort(found);
            check(found, List.of(48L, 49L, 50L, 51L, 52L));
        });
        step("query", () -> {
            List<QueryResp.QueryResult> found =
                    query(NAME, "id in [1, 2] and doc['k'] >= 1", "id", "doc", "maybe", "seven");
            check(found.size(), 2);
            check(found.get(0).getEntity().get("maybe"), null);
            check(found.get(0).getEntity().get("seven"), 7L);
        });
        step("query_arrays_and_dynamic_field", () -> check(
                queried("array_contains(tags, 10) and color == \"red\"", "id", "color"), List.of(10L)));
        step("get", () -> {
            GetReq request = GetReq.builder()
                    .collectionName(NAME)
                    .ids(List.of(11L))
                    .outputFields(List.of("i64"))
                    .build();
            check(client.get(request).getGetResults().get(0).getEntity().get("i64"), 11L);
        });
        step("count", () -> check(count(NAME), ROWS - 2L));
        step("query_iterator", () -> {
            QueryIteratorReq request = QueryIteratorReq.builder()
                    .collectionName(NAME)
                    .expr("id >= 0")
                    .batchSize(30)
                    .build();
            var iterator = client.queryIterator(request);
            int seen = 0;
            for (List<?> page = iterator.next(); !page.isEmpty(); page = iterator.next()) {
                seen += page.size();
            }
            iterator.close();
            check(seen, ROWS - 2);
        });
        step("search_iterator", () -> {
            SearchIteratorReqV2 request = SearchIteratorReqV2.builder()
                    .collectionName(NAME)
                    .vectorFieldName("vec")
                    .vectors(vectors(0))
                    .metricType(IndexParam.MetricType.L2)
                    .batchSize(20)
                    .limit(60)
                    .build();
            var iterator = client.searchIteratorV2(request);
            int seen = 0;
            for (List<?> page = iterator.next(); !page.isEmpty(); page = iterator.next()) {
                seen += page.size();
            }
            iterator.close();
            check(seen, 60);
        });
        step("consistency_levels", () -> {
            for (ConsistencyLevel level : ConsistencyLevel.values()) {
                hits(searching(1, 5).consistencyLevel(level).build());
            }
        });
        step("compact", () -> {
            CompactReq request = CompactReq.builder().collectionName(NAME).build();
            long job = client.compact(request).getCompactionID();
            client.getCompactionState(
                    GetCompactionStateReq.builder().compactionID(job).build());
        });
        step("segments", () -> {
            client.getPersistentSegmentInfo(
                    GetPersistentSegmentInfoReq.builder().collectionName(NAME).build());
            client.getQuerySegmentInfo(
                    GetQuerySegmentInfoReq.builder().collectionName(NAME).build());
        });
        step("replicas", () -> client.describeReplicas(
                DescribeReplicasReq.builder().collectionName(NAME).build()));
        step("refresh_load", () -> client.refreshLoad(
                RefreshLoadReq.builder().collectionName(NAME).build()));
        step("release", () -> {
            release();
            check(isLoaded(), false);
        });
        step("partial_load", () -> {
            client.loadCollection(LoadCollectionReq.builder()
                    .collectionName(NAME)
                    .loadFields(List.of("id", "vec"))
                    .skipLoadDynamicField(true)
                    .build());
            check(ids(hits(searching(1, 5).build())), List.of(5L));
            release();
            load(NAME);
        });
    }

    private static void partitions() {
        ListPartitionsReq list = ListPartitionsReq.builder().collectionName(NAME).build();
        Work release = () -> client.releasePartitions(ReleasePartitionsReq.builder()
                .collectionName(NAME)
                .partitionNames(List.of("p1"))
                .build());
        step("create_partition", () -> {
            client.createPartition(CreatePartitionReq.builder()
                    .collectionName(NAME)
                    .partitionName("p1")
                    .build());
            HasPartitionReq has = HasPartitionReq.builder()
                    .collectionName(NAME)
                    .partitionName("p1")
                    .build();
            check(client.hasPartition(has), true);
            check(client.listPartitions(list).size(), 2);
        });
        step("insert_into_partition", () -> insert("p1", row(1000)));
        step("search_in_partition", () -> {
            SearchReq request = searching(1, 1)
                    .partitionNames(List.of("p1"))
                    .consistencyLevel(ConsistencyLevel.STRONG)
                    .build();
            check(ids(hits(request)), List.of(1000L));
        });
        step("release_partitions", release);
        step("load_partitions", () -> client.loadPartitions(LoadPartitionsReq.builder()
                .collectionName(NAME)
                .partitionNames(List.of("p1"))
                .build()));
        step("drop_partition", () -> {
            release.run();
            client.dropPartition(DropPartitionReq.builder()
                    .collectionName(NAME)
                    .partitionName("p1")
                    .build());
            check(client.listPartitions(list), List.of("_default"));
        });
    }

    private static String target() {
        DescribeAliasReq request = DescribeAliasReq.builder().alias("guide").build();
        return client.describeAlias(request).getCollectionName();
    }

    private static void aliases() {
        step("create_alias", () -> {
            client.createAlias(CreateAliasReq.builder()
                    .collectionName(NAME)
                    .alias("guide")
                    .build());
            check(target(), NAME);
        });
        step("use_alias", () -> check(count("guide"), ROWS - 2L));
        step("list_aliases", () -> {
            ListAliasesReq request = ListAliasesReq.builder().collectionName(NAME).build();
            check(client.listAliases(request).getAlias(), List.of("guide"));
        });
        step("alter_alias", () -> {
            client.createCollection(CreateCollectionReq.builder()
                    .collectionName("other")
                    .dimension(DIM)
                    .build());
            client.alterAlias(AlterAliasReq.builder()
                    .collectionName("other")
                    .alias("guide")
                    .build());
            check(target(), "other");
        });
        step("drop_alias", () -> client.dropAlias(
                DropAliasReq.builder().alias("guide").build()));
        step("drop_collection", () -> {
            drop("other");
            check(client.hasCollection(HasCollectionReq.builder().collectionName("other").build()), false);
        });
    }

    private static void rename(String from, String to) {
        client.renameCollection(RenameCollectionReq.builder()
                .collectionName(from)
                .newCollectionName(to)
                .build());
    }

    private static void changes() {
        step("rename_collection", () -> {
            rename(NAME, "tour2");
            check(count("tour2"), ROWS - 2L);
            rename("tour2", NAME);
        });
        step("alter_collection_properties", () -> {
            client.alterCollectionProperties(AlterCollectionPropertiesReq.builder()
                    .collectionName(NAME)
                    .property("collection.ttl.seconds", "3600")
                    .build());
            DescribeCollectionReq request = DescribeCollectionReq.builder().collectionName(NAME).build();
            check(client.describeCollection(request).getProperties().get("collection.ttl.seconds"), "3600");
        });
        step("drop_collection_properties", () -> client.dropCollectionProperties(DropCollectionPropertiesReq.builder()
                .collectionName(NAME)
                .propertyKeys(List.of("collection.ttl.seconds"))
                .build()));
        step("alter_field", () -> {
            release();
            try {
                client.alterCollectionField(AlterCollectionFieldReq.builder()
                        .collectionName(NAME)
                        .fieldName("text")
                        .property("max_length", "128")
                        .build());
            } finally {
                load(NAME);
            }
        });
        step("add_field", () -> {
            client.addCollectionField(AddCollectionFieldReq.builder()
                    .collectionName(NAME)
                    .fieldName("added")
                    .dataType(DataType.Int64)
                    .isNullable(true)
                    .build());
            JsonObject changed = row(4);
            changed.addProperty("added", 44);
            upsert(changed);
            check(value(4, "added"), 44L);
        });
    }

    /** A collection with one vector field, and what one search and one query of it return. */
    private record VectorsOf(
            String kind,
            AddFieldReq.AddFieldReqBuilder<?> field,
            IndexParam.IndexParamBuilder index,
            IntFunction<Object> row,
            IntFunction<Object> output,
            BaseVector asked,
            List<Float> scores) {

        private JsonObject json(int i) {
            JsonObject made = new JsonObject();
            made.addProperty("id", i);
            made.add("vec", GSON.toJsonTree(row.apply(i)));
            return made;
        }

        /** The SDK returns buffers that were read to their ends. */
        private static Object vectorIn(Map<String, Object> entity) {
            Object found = entity.get("vec");
            return found instanceof ByteBuffer bytes ? bytes.duplicate().rewind() : found;
        }

        private void steps() {
            step("create_" + kind + "_vectors", () -> {
                create(kind, Tour.schema(field));
                IndexParam made = index.fieldName("vec").indexName("vec").build();
                client.createIndex(CreateIndexReq.builder()
                        .collectionName(kind)
                        .indexParams(List.of(made))
                        .build());
                DescribeIndexReq described = DescribeIndexReq.builder()
                        .collectionName(kind)
                        .indexName("vec")
                        .build();
                check(
                        client.describeIndex(described).getIndexDescByIndexName("vec").getIndexType(),
                        made.getIndexType());
                load(kind);
            });
            step("insert_" + kind + "_vectors", () -> {
                List<JsonObject> rows = new ArrayList<>();
                for (int i = 0; i < ROWS; i++) {
                    rows.add(json(i));
                }
                InsertReq request = InsertReq.builder().collectionName(kind).data(rows).build();
                check(client.insert(request).getInsertCnt(), (long) ROWS);
                client.upsert(UpsertReq.builder().collectionName(kind).data(List.of(json(3))).build());
            });
            step("search_" + kind + "_vectors", () -> {
                List<SearchResp.SearchResult> found = hits(SearchReq.builder()
                        .collectionName(kind)
                        .annsField("vec")
                        .data(List.of(asked))
                        .topK(2)
                        .searchParams(Map.of("nprobe", 2))
                        .outputFields(List.of("vec"))
                        .consistencyLevel(ConsistencyLevel.STRONG)
                        .build());
                check(found.stream().map(SearchResp.SearchResult::getScore).toList(), scores);
                check(found.get(0).getId(), 5L);
                check(vectorIn(found.get(0).getEntity()), output.apply(5));
            });
            step("query_" + kind + "_vectors", () -> {
                client.flush(FlushReq.builder().collectionNames(List.of(kind)).build());
                List<QueryResp.QueryResult> found = query(kind, "id in [3, 9]", "id", "vec");
                check(vectorIn(found.get(0).getEntity()), output.apply(3));
                check(vectorIn(found.get(1).getEntity()), output.apply(9));
                drop(kind);
            });
        }
    }

    private static void vectorKinds() {
        IntFunction<Object> sparse = i -> new TreeMap<>(Map.of((long) i, 1f, 4_000_000_000L, 0.25f));
        new VectorsOf(
                        "sparse",
                        field("vec", DataType.SparseFloatVector),
                        IndexParam.builder()
                                .indexType(IndexParam.IndexType.SPARSE_INVERTED_INDEX)
                                .metricType(IndexParam.MetricType.IP),
                        sparse,
                        sparse,
                        new SparseFloatVec(new TreeMap<>(Map.of(5L, 4f, 7L, 2f))),
                        List.of(4f, 2f))
                .steps();
        IntFunction<Object> bits = i -> new byte[] {(byte) i, (byte) (255 - i)};
        new VectorsOf(
                        "binary",
                        field("vec", DataType.BinaryVector).dimension(16),
                        IndexParam.builder()
                                .indexType(IndexParam.IndexType.BIN_IVF_FLAT)
                                .metricType(IndexParam.MetricType.HAMMING)
                                .extraParams(Map.of("nlist", 2)),
                        bits,
                        i -> ByteBuffer.wrap((byte[]) bits.apply(i)),
                        new BinaryVec((byte[]) bits.apply(5)),
                        List.of(0f, 2f))
                .steps();
    }

    private static void databases() {
        step("create_database", () -> {
            client.createDatabase(
                    CreateDatabaseReq.builder().databaseName("tour_db").build());
            check(client.listDatabases().getDatabaseNames().contains("tour_db"), true);
        });
        step("use_database", () -> {
            MilvusClientV2 guest = connect("tour_db");
            try {
                guest.createCollection(CreateCollectionReq.builder()
                        .collectionName("inside")
                        .dimension(DIM)
                        .build());
                check(guest.listCollections().getCollectionNames(), List.of("inside"));
                guest.dropCollection(
                        DropCollectionReq.builder().collectionName("inside").build());
            } finally {
                guest.close();
            }
        });
        step("alter_database", () -> {
            client.alterDatabaseProperties(AlterDatabasePropertiesReq.builder()
                    .databaseName("tour_db")
                    .property("database.max.collections", "10")
                    .build());
            DescribeDatabaseReq request = DescribeDatabaseReq.builder().databaseName("tour_db").build();
            check(client.describeDatabase(request).getProperties().get("database.max.collections"), "10");
        });
        step("drop_database", () -> client.dropDatabase(
                DropDatabaseReq.builder().databaseName("tour_db").build()));
    }

    private static void others() {
        step("create_resource_group", () -> {
            ResourceGroupLimit none = new ResourceGroupLimit(0);
            client.createResourceGroup(CreateResourceGroupReq.builder()
                    .groupName("tour_rg")
                    .config(ResourceGroupConfig.newBuilder()
                            .withRequests(none)
                            .withLimits(none)
                            .build())
                    .build());
            ListResourceGroupsReq list = ListResourceGroupsReq.builder().build();
            check(client.listResourceGroups(list).getGroupNames().contains("tour_rg"), true);
        });
        step("describe_resource_group", () -> client.describeResourceGroup(
                DescribeResourceGroupReq.builder().groupName("tour_rg").build()));
        step("drop_resource_group", () -> client.dropResourceGroup(
                DropResourceGroupReq.builder().groupName("tour_rg").build()));
        step("create_user", () -> {
            client.createUser(CreateUserReq.builder()
                    .userName("tourist")
                    .password("secret1")
                    .build());
            check(client.listUsers().contains("tourist"), true);
        });
        step("update_password", () -> client.updatePassword(UpdatePasswordReq.builder()
                .userName("tourist")
                .password("secret1")
                .newPassword("secret2")
                .build()));
        step("grant_role", () -> {
            client.createRole(CreateRoleReq.builder().roleName("guide").build());
            client.grantPrivilegeV2(GrantPrivilegeReqV2.builder()
                    .roleName("guide")
                    .privilege("CollectionReadOnly")
                    .dbName("default")
                    .collectionName("*")
                    .build());
            client.grantRole(GrantRoleReq.builder()
                    .userName("tourist")
                    .roleName("guide")
                    .build());
            check(
                    client.describeUser(DescribeUserReq.builder()
                                    .userName("tourist")
                                    .build())
                            .getRoles(),
                    List.of("guide"));
            check(client.listRoles().contains("guide"), true);
        });
        step("drop_role", () -> {
            client.revokePrivilegeV2(RevokePrivilegeReqV2.builder()
                    .roleName("guide")
                    .privilege("CollectionReadOnly")
                    .dbName("default")
                    .collectionName("*")
                    .build());
            client.revokeRole(RevokeRoleReq.builder()
                    .userName("tourist")
                    .roleName("guide")
                    .build());
            client.dropRole(DropRoleReq.builder().roleName("guide").build());
        });
        step("drop_user", () -> client.dropUser(
                DropUserReq.builder().userName("tourist").build()));
    }

    /** 100 MB in one insert, a call with a deadline of 2 s, and a restart of the server. */
    private static void endurance() {
        String text = "x".repeat(65_000);
        List<JsonObject> rows = new ArrayList<>();
        for (int i = 0; i < BIG_ROWS; i++) {
            JsonObject row = new JsonObject();
            row.addProperty("id", i);
            row.add("vec", GSON.toJsonTree(new float[] {i, 1}));
            row.addProperty("text", text);
            rows.add(row);
        }
        step("insert_100_mb", () -> {
            create(
                    "big",
                    schema(
                            field("vec", DataType.FloatVector).dimension(2),
                            field("text", DataType.VarChar).maxLength(65535)));
            index("big", IndexParam.IndexType.FLAT, Map.of());
            load("big");
            InsertReq request = InsertReq.builder().collectionName("big").data(rows).build();
            check(client.insert(request).getInsertCnt(), (long) BIG_ROWS);
            check(count("big"), (long) BIG_ROWS);
        });
        step("deadline_of_2_s", () -> {
            try {
                client.withTimeout(2, TimeUnit.SECONDS)
                        .upsert(UpsertReq.builder().collectionName("big").data(rows).build());
            } catch (Exception error) {
                check(String.valueOf(error).toLowerCase().contains("deadline"), true);
            }
            check(count("big"), (long) BIG_ROWS);
        });
        step("restart", () -> {
            System.out.println("restart me");
            new Scanner(System.in).nextLine();
            check(ids(hits(searching(1, 5).consistencyLevel(ConsistencyLevel.STRONG).build())), List.of(5L));
            check(count("big"), (long) BIG_ROWS);
        });
        drop("big");
    }

    private static List<Long> matching(String filter) {
        QueryReq request = QueryReq.builder()
                .collectionName("texts")
                .filter(filter)
                .outputFields(List.of("id"))
                .consistencyLevel(ConsistencyLevel.STRONG)
                .build();
        List<Long> found = new ArrayList<>();
        for (QueryResp.QueryResult one : client.query(request).getQueryResults()) {
            found.add((Long) one.getEntity().get("id"));
        }
        Collections.sort(found);
        return found;
    }

    private static JsonObject textRow(long id, String text) {
        JsonObject made = new JsonObject();
        made.addProperty("id", id);
        made.addProperty("text", text);
        made.add("vec", GSON.toJsonTree(vector((int) id)));
        return made;
    }

    private static void fullText() {
        step("full_text", () -> {
            CreateCollectionReq.CollectionSchema made = schema(
                    field("text", DataType.VarChar).maxLength(99).enableAnalyzer(true).enableMatch(true),
                    field("vec", DataType.FloatVector).dimension(DIM),
                    field("terms", DataType.SparseFloatVector));
            made.addFunction(CreateCollectionReq.Function.builder()
                    .name("bm25")
                    .functionType(FunctionType.BM25)
                    .inputFieldNames(List.of("text"))
                    .outputFieldNames(List.of("terms"))
                    .build());
            create("texts", made);
            for (IndexParam.MetricType metric : List.of(IndexParam.MetricType.L2, IndexParam.MetricType.BM25)) {
                IndexParam index = IndexParam.builder()
                        .fieldName(metric == IndexParam.MetricType.BM25 ? "terms" : "vec")
                        .indexType(IndexParam.IndexType.AUTOINDEX)
                        .metricType(metric)
                        .build();
                client.createIndex(CreateIndexReq.builder()
                        .collectionName("texts")
                        .indexParams(List.of(index))
                        .build());
            }
            client.loadCollection(
                    LoadCollectionReq.builder().collectionName("texts").build());
            client.insert(InsertReq.builder()
                    .collectionName("texts")
                    .data(List.of(textRow(1, "a red fox"), textRow(2, "a blue hen")))
                    .build());
            SearchReq request = SearchReq.builder()
                    .collectionName("texts")
                    .annsField("terms")
                    .data(List.of(new EmbeddedText("Fox")))
                    .topK(3)
                    .consistencyLevel(ConsistencyLevel.STRONG)
                    .build();
            check(ids(hits(request)), List.of(1L));
        });
        step("text_match", () -> {
            check(matching("text_match(text, \"hen fox\")"), List.of(1L, 2L));
            check(matching("phrase_match(text, \"blue hen\")"), List.of(2L));
        });
        step("hybrid_full_text", () -> {
            AnnSearchReq words = AnnSearchReq.builder()
                    .vectorFieldName("terms")
                    .vectors(List.of(new EmbeddedText("hen")))
                    .topK(2)
                    .build();
            AnnSearchReq near = AnnSearchReq.builder()
                    .vectorFieldName("vec")
                    .vectors(vectors(2))
                    .topK(2)
                    .build();
            var found = client.hybridSearch(HybridSearchReq.builder()
                    .collectionName("texts")
                    .searchRequests(List.of(words, near))
                    .ranker(RRFRanker.builder().k(60).build())
                    .topK(2)
                    .build());
            check(found.getSearchResults().get(0).get(0).getId(), 2L);
            drop("texts");
        });
        step("run_analyzer", () -> {
            var found = client.runAnalyzer(RunAnalyzerReq.builder()
                    .texts(List.of("The Foxes run"))
                    .analyzerParams(Map.of("type", "english"))
                    .build());
            List<String> tokens = new ArrayList<>();
            found.getResults().get(0).getTokens().forEach(one -> tokens.add(one.getToken()));
            check(tokens, List.of("fox", "run"));
        });
    }

    /** The data of an answer of REST. The SDK's own calls of imports are in a library of hundreds of others. */
    private static JsonObject posted(String route, JsonObject body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(System.getenv("MILVINE_URI") + "/v2/vectordb/" + route))
                .header("Authorization", "Bearer " + System.getenv("MILVINE_TOKEN"))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body.toString()))
                .build();
        String answer = HttpClient.newHttpClient()
                .send(request, HttpResponse.BodyHandlers.ofString())
                .body();
        JsonObject found = GSON.fromJson(answer, JsonObject.class);
        check(found.get("code").getAsInt(), 0);
        return found.getAsJsonObject("data");
    }

    private static void composedReads() {
        step("grouping", () -> check(hits(searching(3, 5).groupByFieldName("flag").build()).size(), 2));
        step("hybrid_search", () -> {
            AnnSearchReq request = AnnSearchReq.builder()
                    .vectorFieldName("vec")
                    .vectors(vectors(5))
                    .topK(2)
                    .build();
            var found = client.hybridSearch(HybridSearchReq.builder()
                    .collectionName(NAME)
                    .searchRequests(List.of(request, request))
                    .ranker(RRFRanker.builder().k(60).build())
                    .topK(2)
                    .build());
            check(found.getSearchResults().get(0).get(0).getId(), 5L);
        });
        step("query_order", () -> {
            List<Long> found = new ArrayList<>();
            client.query(QueryReq.builder()
                            .collectionName(NAME)
                            .filter("id < 100")
                            .limit(2)
                            .outputFields(List.of("id"))
                            .queryParams(Map.of("order_by_fields", "i64:desc"))
                            .build())
                    .getQueryResults()
                    .forEach(one -> found.add((Long) one.getEntity().get("id")));
            check(found, List.of(99L, 98L));
        });
        step("query_aggregates", () -> {
            // Of an answer with count(*) the SDK shows that number alone.
            Map<Object, Object> found = new TreeMap<>();
            client.query(QueryReq.builder()
                            .collectionName(NAME)
                            .filter("id in [50, 51, 150]")
                            .outputFields(List.of("i8", "max(i64)"))
                            .queryParams(Map.of("group_by_fields", "i8"))
                            .build())
                    .getQueryResults()
                    .forEach(one -> found.put(
                            String.valueOf(one.getEntity().get("i8")),
                            one.getEntity().get("max(i64)")));
            check(found, Map.of("50", 150L, "51", 51L));
        });
        step("import", () -> {
            Files.writeString(
                    Path.of(System.getenv("MILVINE_FILES"), "rows.json"),
                    GSON.toJson(List.of(row(5000), row(5001))));
            JsonObject asked = new JsonObject();
            asked.addProperty("collectionName", NAME);
            asked.add("files", GSON.toJsonTree(List.of(List.of("rows.json"))));
            JsonObject job = new JsonObject();
            job.add("jobId", posted("jobs/import/create", asked).get("jobId"));
            String state = "";
            while (!List.of("Completed", "Failed").contains(state)) {
                TimeUnit.MILLISECONDS.sleep(100);
                state = posted("jobs/import/describe", job).get("state").getAsString();
            }
            check(state, "Completed");
            var found = client.query(QueryReq.builder()
                    .collectionName(NAME)
                    .filter("id >= 5000")
                    .outputFields(List.of("count(*)"))
                    .consistencyLevel(ConsistencyLevel.STRONG)
                    .build());
            check(found.getQueryResults().get(0).getEntity().get("count(*)"), 2L);
        });
        lacking("partial_upsert", () -> {
            JsonObject changed = new JsonObject();
            changed.addProperty("id", 5);
            changed.addProperty("i64", 55);
            client.upsert(UpsertReq.builder()
                    .collectionName(NAME)
                    .data(List.of(changed))
                    .partialUpdate(true)
                    .build());
        });
    }
}
