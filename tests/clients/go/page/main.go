// The page "Load & Release", against MILVINE_URI with MILVINE_TOKEN.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/milvus-io/milvus/client/v2/column"
	"github.com/milvus-io/milvus/client/v2/entity"
	"github.com/milvus-io/milvus/client/v2/index"
	"github.com/milvus-io/milvus/client/v2/milvusclient"
)

const name = "my_collection"

func handle(err error) {
	if err != nil {
		fmt.Println(err.Error())
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	milvusAddr := os.Getenv("MILVINE_URI")
	client, err := milvusclient.New(ctx, &milvusclient.ClientConfig{
		Address: milvusAddr,
		APIKey:  os.Getenv("MILVINE_TOKEN"),
	})
	handle(err)
	defer client.Close(ctx)

	schema := entity.NewSchema().WithDynamicFieldEnabled(true).
		WithField(entity.NewField().WithName("my_id").WithDataType(entity.FieldTypeInt64).WithIsPrimaryKey(true)).
		WithField(entity.NewField().WithName("my_vector").WithDataType(entity.FieldTypeFloatVector).WithDim(5)).
		WithField(entity.NewField().WithName("my_varchar").WithDataType(entity.FieldTypeVarChar).WithMaxLength(64))
	handle(client.CreateCollection(ctx, milvusclient.NewCreateCollectionOption(name, schema)))
	indexTask, err := client.CreateIndex(ctx,
		milvusclient.NewCreateIndexOption(name, "my_vector", index.NewAutoIndex(entity.COSINE)))
	handle(err)
	handle(indexTask.Await(ctx))
	ids, vectors, texts, colors := []int64{}, [][]float32{}, []string{}, []string{}
	for i := range 10 {
		ids = append(ids, int64(i))
		vectors = append(vectors, []float32{float32(i), 1, 2, 3, 4})
		texts = append(texts, fmt.Sprintf("v%d", i))
		colors = append(colors, "red")
	}
	_, err = client.Insert(ctx, milvusclient.NewColumnBasedInsertOption(name).
		WithInt64Column("my_id", ids).
		WithFloatVectorColumn("my_vector", 5, vectors).
		WithVarcharColumn("my_varchar", texts).
		WithColumns(column.NewColumnVarChar("color", colors)))
	handle(err)

	// Load the collection
	loadTask, err := client.LoadCollection(ctx, milvusclient.NewLoadCollectionOption(name))
	handle(err)
	// sync wait collection to be loaded
	handle(loadTask.Await(ctx))
	state, err := client.GetLoadState(ctx, milvusclient.NewGetLoadStateOption(name))
	handle(err)
	fmt.Println(state)

	// To load other fields, release first
	handle(client.ReleaseCollection(ctx, milvusclient.NewReleaseCollectionOption(name)))
	state, err = client.GetLoadState(ctx, milvusclient.NewGetLoadStateOption(name))
	handle(err)
	fmt.Println(state)

	// Load specific fields
	loadTask, err = client.LoadCollection(ctx, milvusclient.NewLoadCollectionOption(name).
		WithLoadFields("my_id", "my_vector").WithSkipLoadDynamicField(true))
	handle(err)
	handle(loadTask.Await(ctx))
	state, err = client.GetLoadState(ctx, milvusclient.NewGetLoadStateOption(name))
	handle(err)
	fmt.Println(state)

	// What is not loaded can be neither a filter nor an output
	showRefusal := func(what, filter, field string) {
		found, err := client.Query(ctx, milvusclient.NewQueryOption(name).WithFilter(filter).WithOutputFields(field))
		if err == nil {
			fmt.Printf("%s: not refused, %v\n", what, found)
		} else {
			fmt.Printf("%s: %s\n", what, err.Error())
		}
	}
	showRefusal("filter", `my_varchar == "v1"`, "my_id")
	showRefusal("output", "my_id > 1", "my_varchar")
	showRefusal("dynamic", "my_id > 1", "color")
	hits, err := client.Search(ctx,
		milvusclient.NewSearchOption(name, 1, []entity.Vector{entity.FloatVector{3, 1, 2, 3, 4}}))
	handle(err)
	id, err := hits[0].IDs.GetAsInt64(0)
	handle(err)
	fmt.Printf("search: %d\n", id)

	// Release the collection
	handle(client.ReleaseCollection(ctx, milvusclient.NewReleaseCollectionOption(name)))
	state, err = client.GetLoadState(ctx, milvusclient.NewGetLoadStateOption(name))
	handle(err)
	fmt.Println(state)

	handle(client.DropCollection(ctx, milvusclient.NewDropCollectionOption(name)))
}
