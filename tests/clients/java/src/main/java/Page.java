import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.milvus.v2.client.ConnectConfig;
import io.milvus.v2.client.MilvusClientV2;
import io.milvus.v2.common.DataType;
import io.milvus.v2.common.IndexParam;
import io.milvus.v2.exception.MilvusClientException;
import io.milvus.v2.service.collection.request.AddFieldReq;
import io.milvus.v2.service.collection.request.CreateCollectionReq;
import io.milvus.v2.service.collection.request.DropCollectionReq;
import io.milvus.v2.service.collection.request.GetLoadStateReq;
import io.milvus.v2.service.collection.request.LoadCollectionReq;
import io.milvus.v2.service.collection.request.ReleaseCollectionReq;
import io.milvus.v2.service.index.request.CreateIndexReq;
import io.milvus.v2.service.vector.request.InsertReq;
import io.milvus.v2.service.vector.request.QueryReq;
import io.milvus.v2.service.vector.request.SearchReq;
import io.milvus.v2.service.vector.request.data.FloatVec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The page "Load &amp; Release", against MILVINE_URI with MILVINE_TOKEN. */
public class Page {
    private static final String NAME = "my_collection";

    public static void main(String[] arguments) {
        String CLUSTER_ENDPOINT = System.getenv("MILVINE_URI");
        String TOKEN = System.getenv("MILVINE_TOKEN");
        ConnectConfig connectConfig = ConnectConfig.builder().uri(CLUSTER_ENDPOINT).token(TOKEN).build();
        MilvusClientV2 client = new MilvusClientV2(connectConfig);

        CreateCollectionReq.CollectionSchema schema = client.createSchema();
        schema.setEnableDynamicField(true);
        schema.addField(AddFieldReq.builder().fieldName("my_id").dataType(DataType.Int64).isPrimaryKey(true).build());
        schema.addField(
                AddFieldReq.builder().fieldName("my_vector").dataType(DataType.FloatVector).dimension(5).build());
        schema.addField(
                AddFieldReq.builder().fieldName("my_varchar").dataType(DataType.VarChar).maxLength(64).build());
        client.createCollection(
                CreateCollectionReq.builder().collectionName(NAME).collectionSchema(schema).build());
        IndexParam index = IndexParam.builder()
                .fieldName("my_vector")
                .indexType(IndexParam.IndexType.AUTOINDEX)
                .metricType(IndexParam.MetricType.COSINE)
                .build();
        client.createIndex(
                CreateIndexReq.builder().collectionName(NAME).indexParams(List.of(index)).build());
        Gson gson = new Gson();
        List<JsonObject> rows = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            String row = "{\"my_id\": %d, \"my_vector\": [%d, 1, 2, 3, 4], \"my_varchar\": \"v%d\", \"color\": \"red\"}";
            rows.add(gson.fromJson(String.format(row, i, i, i), JsonObject.class));
        }
        client.insert(InsertReq.builder().collectionName(NAME).data(rows).build());

        // Load the collection
        LoadCollectionReq loadCollectionReq = LoadCollectionReq.builder().collectionName(NAME).build();
        client.loadCollection(loadCollectionReq);

        // Get load state of the collection
        GetLoadStateReq loadStateReq = GetLoadStateReq.builder().collectionName(NAME).build();
        Boolean res = client.getLoadState(loadStateReq);
        System.out.println(res);

        // To load other fields, release first
        ReleaseCollectionReq releaseCollectionReq =
                ReleaseCollectionReq.builder().collectionName(NAME).build();
        client.releaseCollection(releaseCollectionReq);
        res = client.getLoadState(loadStateReq);
        System.out.println(res);

        // Load specific fields
        loadCollectionReq = LoadCollectionReq.builder()
                .collectionName(NAME)
                .loadFields(Arrays.asList("my_id", "my_vector"))
                .skipLoadDynamicField(true)
                .build();
        client.loadCollection(loadCollectionReq);
        res = client.getLoadState(loadStateReq);
        System.out.println(res);

        showRefusal(client, "filter", "my_varchar == \"v1\"", "my_id");
        showRefusal(client, "output", "my_id > 1", "my_varchar");
        showRefusal(client, "dynamic", "my_id > 1", "color");
        SearchReq search = SearchReq.builder()
                .collectionName(NAME)
                .data(List.of(new FloatVec(new float[] {3, 1, 2, 3, 4})))
                .topK(1)
                .build();
        System.out.println("search: " + client.search(search).getSearchResults().get(0).get(0).getId());

        // Release the collection
        client.releaseCollection(releaseCollectionReq);
        res = client.getLoadState(loadStateReq);
        System.out.println(res);

        client.dropCollection(DropCollectionReq.builder().collectionName(NAME).build());
        client.close();
    }

    /** What is not loaded can be neither a filter nor an output. */
    private static void showRefusal(MilvusClientV2 client, String what, String filter, String field) {
        QueryReq query = QueryReq.builder()
                .collectionName(NAME)
                .filter(filter)
                .outputFields(List.of(field))
                .build();
        try {
            System.out.println(what + ": not refused, " + client.query(query));
        } catch (MilvusClientException error) {
            System.out.println(what + ": " + error.getMessage());
        }
    }
}
