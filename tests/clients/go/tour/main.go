// A tour of the server, against MILVINE_URI with MILVINE_TOKEN: one line for each step.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/milvus-io/milvus/client/v2/bulkwriter"
	"github.com/milvus-io/milvus/client/v2/column"
	"github.com/milvus-io/milvus/client/v2/entity"
	"github.com/milvus-io/milvus/client/v2/index"
	mc "github.com/milvus-io/milvus/client/v2/milvusclient"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	name    = "tour"
	dim     = 8
	rows    = 200
	bigRows = 1600
)

var (
	ctx    = context.Background()
	client *mc.Client
)

func connect(database string) (*mc.Client, error) {
	return mc.New(ctx, &mc.ClientConfig{
		Address: os.Getenv("MILVINE_URI"),
		APIKey:  os.Getenv("MILVINE_TOKEN"),
		DBName:  database,
	})
}

func oneLine(err error, most int) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[:min(len(text), most)]
}

// failure is what must and check panic with; a step ends at the first one.
type failure struct{ error }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func get[T any](value T, err error) T {
	must(err)
	return value
}

func check(found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		panic(failure{fmt.Errorf("%v instead of %v", found, wanted)})
	}
}

func attempt(work func()) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("%v", caught)
			if known, ok := caught.(failure); ok {
				err = known.error
			}
		}
	}()
	work()
	return nil
}

func step(what string, work func()) {
	if err := attempt(work); err != nil {
		fmt.Printf("step %s FAIL %s\n", what, oneLine(err, 300))
	} else {
		fmt.Printf("step %s ok\n", what)
	}
}

func lacking(what string, work func()) {
	if err := attempt(work); err != nil {
		fmt.Printf("lacks: %s, %s\n", what, oneLine(err, 120))
	} else {
		fmt.Printf("step %s ok\n", what)
	}
}

func vector(i int) []float32 {
	made := []float32{float32(i), 1, 1, 1, 1, 1, 1, 1}
	return made
}

func row(i int) map[string]any {
	return map[string]any{
		"id": int64(i), "vec": vector(i), "flag": i%2 == 0, "i8": int8(i % 100), "i16": int16(i), "i32": int32(i),
		"i64": int64(i), "f32": float32(i) / 2, "f64": float64(i) / 4, "text": fmt.Sprintf("t%d", i),
		"tags": []int64{int64(i), int64(i) + 1}, "doc": fmt.Appendf(nil, `{"k": %d}`, i),
		"color": []string{"red", "blue"}[i%2],
	}
}

func field(name string, kind entity.FieldType) *entity.Field {
	return entity.NewField().WithName(name).WithDataType(kind)
}

func schema() *entity.Schema {
	return entity.NewSchema().WithDynamicFieldEnabled(true).
		WithField(field("id", entity.FieldTypeInt64).WithIsPrimaryKey(true)).
		WithField(field("vec", entity.FieldTypeFloatVector).WithDim(dim)).
		WithField(field("flag", entity.FieldTypeBool)).
		WithField(field("i8", entity.FieldTypeInt8)).
		WithField(field("i16", entity.FieldTypeInt16)).
		WithField(field("i32", entity.FieldTypeInt32)).
		WithField(field("i64", entity.FieldTypeInt64)).
		WithField(field("f32", entity.FieldTypeFloat)).
		WithField(field("f64", entity.FieldTypeDouble)).
		WithField(field("text", entity.FieldTypeVarChar).WithMaxLength(64)).
		WithField(field("tags", entity.FieldTypeArray).WithElementType(entity.FieldTypeInt64).WithMaxCapacity(8)).
		WithField(field("doc", entity.FieldTypeJSON)).
		WithField(field("maybe", entity.FieldTypeInt64).WithNullable(true)).
		WithField(field("seven", entity.FieldTypeInt64).WithDefaultValueLong(7))
}

func query(option mc.QueryOption) *mc.ResultSet {
	found := get(client.Query(ctx, option))
	return &found
}

func count(collection string) int64 {
	option := mc.NewQueryOption(collection).WithOutputFields("count(*)").WithConsistencyLevel(entity.ClStrong)
	counted := query(option).GetColumn("count(*)")
	return get(counted.GetAsInt64(0))
}

func int64s(found column.Column) []int64 {
	made := []int64{}
	for i := range found.Len() {
		made = append(made, get(found.GetAsInt64(i)))
	}
	return made
}

func vectors(numbers ...int) []entity.Vector {
	made := []entity.Vector{}
	for _, i := range numbers {
		made = append(made, entity.FloatVector(vector(i)))
	}
	return made
}

func hits(option mc.SearchOption) []int64 {
	found := get(client.Search(ctx, option))
	must(found[0].Err)
	return int64s(found[0].IDs)
}

func state() entity.LoadStateCode {
	return get(client.GetLoadState(ctx, mc.NewGetLoadStateOption(name))).State
}

func load(collection string) {
	task := get(client.LoadCollection(ctx, mc.NewLoadCollectionOption(collection)))
	must(task.Await(ctx))
}

func release() {
	must(client.ReleaseCollection(ctx, mc.NewReleaseCollectionOption(name)))
}

func text(id int64, fieldName string) column.Column {
	option := mc.NewQueryOption(name).WithIDs(column.NewColumnInt64("id", []int64{id})).WithOutputFields(fieldName)
	found := get(client.Get(ctx, option))
	return found.GetColumn(fieldName)
}

func pages(next func(context.Context) (mc.ResultSet, error)) int {
	seen := 0
	for {
		page, err := next(ctx)
		if errors.Is(err, io.EOF) {
			return seen
		}
		must(err)
		seen += page.ResultCount
	}
}

func main() {
	var err error
	if client, err = connect(""); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer client.Close(ctx)
	collections()
	reads()
	partitions()
	aliases()
	changes()
	vectorKinds()
	databases()
	others()
	endurance()
	fullText()
	composedReads()
	must(client.DropCollection(ctx, mc.NewDropCollectionOption(name)))
}

func collections() {
	step("version", func() {
		check(strings.HasPrefix(get(client.GetServerVersion(ctx, mc.NewGetServerVersionOption())), "v2"), true)
	})
	step("create_collection", func() {
		must(client.CreateCollection(ctx, mc.NewCreateCollectionOption(name, schema())))
		check(get(client.HasCollection(ctx, mc.NewHasCollectionOption(name))), true)
		check(slices.Contains(get(client.ListCollections(ctx, mc.NewListCollectionOption())), name), true)
	})
	step("describe_collection", func() {
		described := get(client.DescribeCollection(ctx, mc.NewDescribeCollectionOption(name)))
		check(len(described.Schema.Fields), 14)
	})
	generic := func(kind string, params ...string) index.Index {
		made := map[string]string{"index_type": kind, "metric_type": "L2"}
		for i := 0; i < len(params); i += 2 {
			made[params[i]] = params[i+1]
		}
		return index.NewGenericIndex("vec", made)
	}
	kinds := []struct {
		kind string
		made index.Index
	}{
		{"FLAT", index.NewFlatIndex(entity.L2)},
		{"IVF_FLAT", index.NewIvfFlatIndex(entity.L2, 4)},
		{"IVF_SQ8", index.NewIvfSQ8Index(entity.L2, 4)},
		{"IVF_PQ", index.NewIvfPQIndex(entity.L2, 4, 4, 8)},
		{"SCANN", index.NewSCANNIndex(entity.L2, 4, true)},
		{"HNSW_SQ", generic("HNSW_SQ", "M", "8", "efConstruction", "32", "sq_type", "SQ8")},
		{"HNSW_PQ", generic("HNSW_PQ", "M", "8", "efConstruction", "32", "m", "4", "nbits", "8")},
		{"AUTOINDEX", index.NewAutoIndex(entity.L2)},
		{"HNSW", index.NewHNSWIndex(entity.L2, 8, 32)},
	}
	for _, one := range kinds {
		step("index_"+strings.ToLower(one.kind), func() {
			if names, err := client.ListIndexes(ctx, mc.NewListIndexOption(name)); err == nil && len(names) > 0 {
				must(client.DropIndex(ctx, mc.NewDropIndexOption(name, "vec")))
			}
			option := mc.NewCreateIndexOption(name, "vec", one.made).WithIndexName("vec")
			must(get(client.CreateIndex(ctx, option)).Await(ctx))
			described := get(client.DescribeIndex(ctx, mc.NewDescribeIndexOption(name, "vec")))
			check(described.Params()["index_type"], one.kind)
		})
	}
	step("load", func() {
		check(state(), entity.LoadStateNotLoad)
		load(name)
		check(state(), entity.LoadStateLoaded)
	})
	step("insert", func() {
		many := []any{}
		for i := range rows {
			many = append(many, row(i))
		}
		check(get(client.Insert(ctx, mc.NewRowBasedInsertOption(name, many...))).InsertCount, int64(rows))
	})
	step("upsert", func() {
		changed := row(3)
		changed["text"] = "changed"
		get(client.Upsert(ctx, mc.NewRowBasedInsertOption(name, changed)))
		check(get(text(3, "text").GetAsString(0)), "changed")
	})
	step("delete_by_ids", func() {
		get(client.Delete(ctx, mc.NewDeleteOption(name).WithInt64IDs("id", []int64{198})))
		check(count(name), int64(rows-1))
	})
	step("delete_by_filter", func() {
		get(client.Delete(ctx, mc.NewDeleteOption(name).WithExpr("i64 == 199")))
		check(count(name), int64(rows-2))
	})
	step("flush", func() {
		must(get(client.Flush(ctx, mc.NewFlushOption(name))).Await(ctx))
		check(count(name), int64(rows-2))
	})
	step("statistics", func() { get(client.GetCollectionStats(ctx, mc.NewGetCollectionStatsOption(name))) })
}

func reads() {
	step("search", func() {
		check(hits(mc.NewSearchOption(name, 1, vectors(5)).WithConsistencyLevel(entity.ClStrong)), []int64{5})
	})
	step("search_with_filter_and_output", func() {
		option := mc.NewSearchOption(name, 3, vectors(5)).WithFilter(`color == "red" and i32 > 10`).WithOutputFields("*")
		found := get(client.Search(ctx, option))
		check(int64s(found[0].IDs), []int64{12, 14, 16})
		check(get(found[0].GetColumn("tags").Get(0)), []int64{12, 13})
	})
	step("search_many_queries", func() {
		found := get(client.Search(ctx, mc.NewSearchOption(name, 1, vectors(7, 8, 9))))
		for i, set := range found {
			check(int64s(set.IDs), []int64{int64(7 + i)})
		}
	})
	step("range_search", func() {
		ranged := index.NewCustomAnnParam()
		ranged.WithRadius(4.5)
		found := hits(mc.NewSearchOption(name, 100, vectors(50)).WithAnnParam(ranged))
		slices.Sort(found)
		check(found, []int64{48, 49, 50, 51, 52})
	})
	step("query", func() {
		found := query(mc.NewQueryOption(name).WithFilter("id in [1, 2] and doc['k'] >= 1").
			WithOutputFields("id", "doc", "maybe", "seven"))
		check(int64s(found.GetColumn("id")), []int64{1, 2})
		check(get(found.GetColumn("maybe").IsNull(0)), true)
		check(int64s(found.GetColumn("seven")), []int64{7, 7})
	})
	step("query_arrays_and_dynamic_field", func() {
		found := query(mc.NewQueryOption(name).WithFilter(`array_contains(tags, 10) and color == "red"`).
			WithOutputFields("id", "color"))
		check(int64s(found.GetColumn("id")), []int64{10})
	})
	step("get", func() { check(int64s(text(11, "i64")), []int64{11}) })
	step("count", func() { check(count(name), int64(rows-2)) })
	step("query_iterator", func() {
		option := mc.NewQueryIteratorOption(name).WithFilter("id >= 0").WithBatchSize(30)
		check(pages(get(client.QueryIterator(ctx, option)).Next), rows-2)
	})
	step("search_iterator", func() {
		option := mc.NewSearchIteratorOption(name, vectors(0)[0]).WithBatchSize(20).WithIteratorLimit(60)
		check(pages(get(client.SearchIterator(ctx, option)).Next), 60)
	})
	step("consistency_levels", func() {
		for _, level := range []entity.ConsistencyLevel{
			entity.ClStrong, entity.ClSession, entity.ClBounded, entity.ClEventually,
		} {
			hits(mc.NewSearchOption(name, 1, vectors(5)).WithConsistencyLevel(level))
		}
	})
	step("compact", func() {
		job := get(client.Compact(ctx, mc.NewCompactOption(name)))
		get(client.GetCompactionState(ctx, mc.NewGetCompactionStateOption(job)))
	})
	step("segments", func() {
		get(client.GetPersistentSegmentInfo(ctx, mc.NewGetPersistentSegmentInfoOption(name)))
	})
	step("replicas", func() { get(client.DescribeReplica(ctx, mc.NewDescribeReplicaOption(name))) })
	step("refresh_load", func() {
		task := get(client.RefreshLoad(ctx, mc.NewRefreshLoadOption(name)))
		must(task.Await(ctx))
	})
	step("release", func() {
		release()
		check(state(), entity.LoadStateNotLoad)
	})
	step("partial_load", func() {
		task := get(client.LoadCollection(ctx, mc.NewLoadCollectionOption(name).
			WithLoadFields("id", "vec").WithSkipLoadDynamicField(true)))
		must(task.Await(ctx))
		check(hits(mc.NewSearchOption(name, 1, vectors(5))), []int64{5})
		release()
		load(name)
	})
}

func partitions() {
	list := func() []string {
		found := get(client.ListPartitions(ctx, mc.NewListPartitionOption(name)))
		slices.Sort(found)
		return found
	}
	step("create_partition", func() {
		must(client.CreatePartition(ctx, mc.NewCreatePartitionOption(name, "p1")))
		check(get(client.HasPartition(ctx, mc.NewHasPartitionOption(name, "p1"))), true)
		check(list(), []string{"_default", "p1"})
	})
	step("insert_into_partition", func() {
		option := mc.NewRowBasedInsertOption(name, row(1000))
		option.WithPartition("p1") // what it returns has lost the rows
		get(client.Insert(ctx, option))
	})
	step("search_in_partition", func() {
		option := mc.NewSearchOption(name, 1, vectors(1)).WithPartitions("p1").WithConsistencyLevel(entity.ClStrong)
		check(hits(option), []int64{1000})
	})
	step("release_partitions", func() {
		must(client.ReleasePartitions(ctx, mc.NewReleasePartitionsOptions(name, "p1")))
	})
	step("load_partitions", func() {
		task := get(client.LoadPartitions(ctx, mc.NewLoadPartitionsOption(name, "p1")))
		must(task.Await(ctx))
	})
	step("drop_partition", func() {
		must(client.ReleasePartitions(ctx, mc.NewReleasePartitionsOptions(name, "p1")))
		must(client.DropPartition(ctx, mc.NewDropPartitionOption(name, "p1")))
		check(list(), []string{"_default"})
	})
}

func aliases() {
	target := func() string {
		return get(client.DescribeAlias(ctx, mc.NewDescribeAliasOption("guide"))).CollectionName
	}
	step("create_alias", func() {
		must(client.CreateAlias(ctx, mc.NewCreateAliasOption(name, "guide")))
		check(target(), name)
	})
	step("use_alias", func() { check(count("guide"), int64(rows-2)) })
	step("list_aliases", func() {
		check(get(client.ListAliases(ctx, mc.NewListAliasesOption(name))), []string{"guide"})
	})
	step("alter_alias", func() {
		must(client.CreateCollection(ctx, mc.SimpleCreateCollectionOptions("other", dim)))
		must(client.AlterAlias(ctx, mc.NewAlterAliasOption("guide", "other")))
		check(target(), "other")
	})
	step("drop_alias", func() { must(client.DropAlias(ctx, mc.NewDropAliasOption("guide"))) })
	step("drop_collection", func() {
		must(client.DropCollection(ctx, mc.NewDropCollectionOption("other")))
		check(get(client.HasCollection(ctx, mc.NewHasCollectionOption("other"))), false)
	})
}

func changes() {
	step("rename_collection", func() {
		must(client.RenameCollection(ctx, mc.NewRenameCollectionOption(name, "tour2")))
		check(count("tour2"), int64(rows-2))
		must(client.RenameCollection(ctx, mc.NewRenameCollectionOption("tour2", name)))
	})
	step("alter_collection_properties", func() {
		option := mc.NewAlterCollectionPropertiesOption(name).WithProperty("collection.ttl.seconds", 3600)
		must(client.AlterCollectionProperties(ctx, option))
		described := get(client.DescribeCollection(ctx, mc.NewDescribeCollectionOption(name)))
		check(described.Properties["collection.ttl.seconds"], "3600")
	})
	step("drop_collection_properties", func() {
		option := mc.NewDropCollectionPropertiesOption(name, "collection.ttl.seconds")
		must(client.DropCollectionProperties(ctx, option))
	})
	step("alter_field", func() {
		release()
		defer load(name)
		option := mc.NewAlterCollectionFieldPropertiesOption(name, "text").WithProperty("max_length", 128)
		must(client.AlterCollectionFieldProperty(ctx, option))
	})
	step("add_field", func() {
		added := field("added", entity.FieldTypeInt64).WithNullable(true)
		must(client.AddCollectionField(ctx, mc.NewAddCollectionFieldOption(name, added)))
		changed := row(4)
		changed["added"] = int64(44)
		fresh := get(connect("")) // rows are encoded by the schema that a client met first
		defer fresh.Close(ctx)
		get(fresh.Upsert(ctx, mc.NewRowBasedInsertOption(name, changed)))
		check(int64s(text(4, "added")), []int64{44})
	})
}

// vectorsOf is a collection with one vector field, and what one search and one query of it return.
type vectorsOf struct {
	kind   string
	field  *entity.Field
	index  index.Index
	row    func(i int) any
	asked  entity.Vector
	param  index.AnnParam
	scores []float32
	same   func(found any, i int)
}

func (v vectorsOf) steps() {
	step("create_"+v.kind+"_vectors", func() {
		made := entity.NewSchema().WithField(field("id", entity.FieldTypeInt64).WithIsPrimaryKey(true)).WithField(v.field)
		must(client.CreateCollection(ctx, mc.NewCreateCollectionOption(v.kind, made)))
		option := mc.NewCreateIndexOption(v.kind, "vec", v.index).WithIndexName("vec")
		must(get(client.CreateIndex(ctx, option)).Await(ctx))
		described := get(client.DescribeIndex(ctx, mc.NewDescribeIndexOption(v.kind, "vec")))
		check(described.Params()["index_type"], v.index.Params()["index_type"])
		load(v.kind)
	})
	row := func(i int) any { return map[string]any{"id": int64(i), "vec": v.row(i)} }
	step("insert_"+v.kind+"_vectors", func() {
		many := []any{}
		for i := range rows {
			many = append(many, row(i))
		}
		check(get(client.Insert(ctx, mc.NewRowBasedInsertOption(v.kind, many...))).InsertCount, int64(rows))
		get(client.Upsert(ctx, mc.NewRowBasedInsertOption(v.kind, row(3))))
	})
	step("search_"+v.kind+"_vectors", func() {
		option := mc.NewSearchOption(v.kind, 2, []entity.Vector{v.asked}).WithAnnParam(v.param).
			WithOutputFields("vec").WithConsistencyLevel(entity.ClStrong)
		found := get(client.Search(ctx, option))[0]
		must(found.Err)
		check(found.Scores, v.scores)
		check(int64s(found.IDs)[0], int64(5))
		v.same(get(found.GetColumn("vec").Get(0)), 5)
	})
	step("query_"+v.kind+"_vectors", func() {
		must(get(client.Flush(ctx, mc.NewFlushOption(v.kind))).Await(ctx))
		found := query(mc.NewQueryOption(v.kind).WithFilter("id in [3, 9]").WithOutputFields("id", "vec").
			WithConsistencyLevel(entity.ClStrong))
		check(int64s(found.GetColumn("id")), []int64{3, 9})
		v.same(get(found.GetColumn("vec").Get(0)), 3)
		v.same(get(found.GetColumn("vec").Get(1)), 9)
		must(client.DropCollection(ctx, mc.NewDropCollectionOption(v.kind)))
	})
}

func vectorKinds() {
	sparse := func(values map[uint32]float32) entity.SparseEmbedding {
		positions := slices.Collect(maps.Keys(values))
		weights := []float32{}
		for _, position := range positions {
			weights = append(weights, values[position])
		}
		return get(entity.NewSliceSparseEmbedding(positions, weights))
	}
	sparseRow := func(i int) any { return sparse(map[uint32]float32{uint32(i): 1, 4_000_000_000: 0.25}) }
	vectorsOf{
		kind:   "sparse",
		field:  field("vec", entity.FieldTypeSparseVector),
		index:  index.NewSparseInvertedIndex(entity.IP, 0),
		row:    sparseRow,
		asked:  sparse(map[uint32]float32{5: 4, 7: 2}).(entity.Vector),
		param:  index.NewSparseAnnParam(),
		scores: []float32{4, 2},
		same: func(found any, i int) {
			check(found.(entity.SparseEmbedding).Serialize(), sparseRow(i).(entity.SparseEmbedding).Serialize())
		},
	}.steps()
	bits := func(i int) any { return entity.BinaryVector{byte(i), byte(255 - i)} }
	vectorsOf{
		kind:   "binary",
		field:  field("vec", entity.FieldTypeBinaryVector).WithDim(16),
		index:  index.NewBinIvfFlatIndex(entity.HAMMING, 2),
		row:    bits,
		asked:  bits(5).(entity.Vector),
		param:  index.NewIvfAnnParam(2),
		scores: []float32{0, 2},
		same:   func(found any, i int) { check(found, bits(i)) },
	}.steps()
}

func databases() {
	step("create_database", func() {
		must(client.CreateDatabase(ctx, mc.NewCreateDatabaseOption("tour_db")))
		check(slices.Contains(get(client.ListDatabase(ctx, mc.NewListDatabaseOption())), "tour_db"), true)
	})
	step("use_database", func() {
		guest := get(connect("tour_db"))
		defer guest.Close(ctx)
		must(guest.CreateCollection(ctx, mc.SimpleCreateCollectionOptions("inside", dim)))
		check(get(guest.ListCollections(ctx, mc.NewListCollectionOption())), []string{"inside"})
		must(guest.DropCollection(ctx, mc.NewDropCollectionOption("inside")))
	})
	step("alter_database", func() {
		option := mc.NewAlterDatabasePropertiesOption("tour_db").WithProperty("database.max.collections", 10)
		must(client.AlterDatabaseProperties(ctx, option))
		described := get(client.DescribeDatabase(ctx, mc.NewDescribeDatabaseOption("tour_db")))
		check(described.Properties["database.max.collections"], "10")
	})
	step("drop_database", func() { must(client.DropDatabase(ctx, mc.NewDropDatabaseOption("tour_db"))) })
}

func others() {
	step("create_resource_group", func() {
		must(client.CreateResourceGroup(ctx, mc.NewCreateResourceGroupOption("tour_rg")))
		check(slices.Contains(get(client.ListResourceGroups(ctx, mc.NewListResourceGroupsOption())), "tour_rg"), true)
	})
	step("describe_resource_group", func() {
		get(client.DescribeResourceGroup(ctx, mc.NewDescribeResourceGroupOption("tour_rg")))
	})
	step("drop_resource_group", func() {
		must(client.DropResourceGroup(ctx, mc.NewDropResourceGroupOption("tour_rg")))
	})
	step("create_user", func() {
		must(client.CreateUser(ctx, mc.NewCreateUserOption("tourist", "secret1")))
		check(slices.Contains(get(client.ListUsers(ctx, mc.NewListUserOption())), "tourist"), true)
	})
	step("update_password", func() {
		must(client.UpdatePassword(ctx, mc.NewUpdatePasswordOption("tourist", "secret1", "secret2")))
	})
	step("grant_role", func() {
		must(client.CreateRole(ctx, mc.NewCreateRoleOption("guide")))
		must(client.GrantPrivilegeV2(ctx, mc.NewGrantV2Option("guide", "CollectionReadOnly", "default", "*")))
		must(client.GrantRole(ctx, mc.NewGrantRoleOption("tourist", "guide")))
		check(get(client.DescribeUser(ctx, mc.NewDescribeUserOption("tourist"))).Roles[0], "guide")
		check(slices.Contains(get(client.ListRoles(ctx, mc.NewListRoleOption())), "guide"), true)
	})
	step("drop_role", func() {
		must(client.RevokePrivilegeV2(ctx, mc.NewRevokeV2Option("guide", "CollectionReadOnly", "default", "*")))
		must(client.RevokeRole(ctx, mc.NewRevokeRoleOption("tourist", "guide")))
		must(client.DropRole(ctx, mc.NewDropRoleOption("guide")))
	})
	step("drop_user", func() { must(client.DropUser(ctx, mc.NewDropUserOption("tourist"))) })
}

// endurance asks for 100 MB in one insert, for a call with a deadline of 2 s, and for a restart of the server.
func endurance() {
	ids, points, texts := []int64{}, [][]float32{}, []string{}
	long := strings.Repeat("x", 65_000)
	for i := range bigRows {
		ids, points, texts = append(ids, int64(i)), append(points, []float32{float32(i), 1}), append(texts, long)
	}
	big := func() mc.UpsertOption {
		return mc.NewColumnBasedInsertOption("big").
			WithInt64Column("id", ids).WithFloatVectorColumn("vec", 2, points).WithVarcharColumn("text", texts)
	}
	step("insert_100_mb", func() {
		fields := entity.NewSchema().
			WithField(field("id", entity.FieldTypeInt64).WithIsPrimaryKey(true)).
			WithField(field("vec", entity.FieldTypeFloatVector).WithDim(2)).
			WithField(field("text", entity.FieldTypeVarChar).WithMaxLength(65535))
		must(client.CreateCollection(ctx, mc.NewCreateCollectionOption("big", fields)))
		task := get(client.CreateIndex(ctx, mc.NewCreateIndexOption("big", "vec", index.NewFlatIndex(entity.L2))))
		must(task.Await(ctx))
		load("big")
		option := mc.NewColumnBasedInsertOption("big").
			WithInt64Column("id", ids).WithFloatVectorColumn("vec", 2, points).WithVarcharColumn("text", texts)
		check(get(client.Insert(ctx, option)).InsertCount, int64(bigRows))
		check(count("big"), int64(bigRows))
	})
	step("deadline_of_2_s", func() {
		soon, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := client.Upsert(soon, big())
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			check(status.Code(err), codes.DeadlineExceeded)
		}
		check(count("big"), int64(bigRows))
	})
	step("restart", func() {
		fmt.Println("restart me")
		get(bufio.NewReader(os.Stdin).ReadString('\n'))
		check(hits(mc.NewSearchOption(name, 1, vectors(5)).WithConsistencyLevel(entity.ClStrong)), []int64{5})
		check(count("big"), int64(bigRows))
	})
	must(client.DropCollection(ctx, mc.NewDropCollectionOption("big")))
}

func fullText() {
	const texts = "texts"
	step("full_text", func() {
		function := entity.NewFunction().WithName("bm25").WithType(entity.FunctionTypeBM25).
			WithInputFields("text").WithOutputFields("terms")
		text := field("text", entity.FieldTypeVarChar).WithMaxLength(99).WithEnableAnalyzer(true).WithEnableMatch(true)
		made := entity.NewSchema().WithField(field("id", entity.FieldTypeInt64).WithIsPrimaryKey(true)).WithField(text).
			WithField(field("vec", entity.FieldTypeFloatVector).WithDim(dim)).
			WithField(field("terms", entity.FieldTypeSparseVector)).WithFunction(function)
		must(client.CreateCollection(ctx, mc.NewCreateCollectionOption(texts, made)))
		for name, metric := range map[string]entity.MetricType{"vec": entity.L2, "terms": entity.BM25} {
			option := mc.NewCreateIndexOption(texts, name, index.NewAutoIndex(metric))
			must(get(client.CreateIndex(ctx, option)).Await(ctx))
		}
		load(texts)
		rows := []any{
			map[string]any{"id": int64(1), "text": "a red fox", "vec": vector(1)},
			map[string]any{"id": int64(2), "text": "a blue hen", "vec": vector(2)},
		}
		get(client.Insert(ctx, mc.NewRowBasedInsertOption(texts, rows...)))
		option := mc.NewSearchOption(texts, 3, []entity.Vector{entity.Text("Fox")}).WithANNSField("terms").
			WithConsistencyLevel(entity.ClStrong)
		check(hits(option), []int64{1})
	})
	matching := func(filter string) []int64 {
		option := mc.NewQueryOption(texts).WithFilter(filter).WithOutputFields("id").WithConsistencyLevel(entity.ClStrong)
		return int64s(query(option).GetColumn("id"))
	}
	step("text_match", func() {
		check(matching(`text_match(text, "hen fox")`), []int64{1, 2})
		check(matching(`phrase_match(text, "blue hen")`), []int64{2})
	})
	step("hybrid_full_text", func() {
		words := mc.NewAnnRequest("terms", 2, entity.Text("hen"))
		near := mc.NewAnnRequest("vec", 2, vectors(2)...)
		option := mc.NewHybridSearchOption(texts, 2, words, near).WithReranker(mc.NewRRFReranker())
		check(int64s(get(client.HybridSearch(ctx, option))[0].IDs), []int64{2, 1})
		must(client.DropCollection(ctx, mc.NewDropCollectionOption(texts)))
	})
	step("run_analyzer", func() {
		option := mc.NewRunAnalyzerOption("The Foxes run").WithAnalyzerParams(map[string]any{"type": "english"})
		found := []string{}
		for _, token := range get(client.RunAnalyzer(ctx, option))[0].Tokens {
			found = append(found, token.Text)
		}
		check(found, []string{"fox", "run"})
	})
}

func composedReads() {
	step("grouping", func() {
		check(len(hits(mc.NewSearchOption(name, 3, vectors(5)).WithGroupByField("flag"))), 2)
	})
	step("hybrid_search", func() {
		request := mc.NewAnnRequest("vec", 2, vectors(5)...)
		option := mc.NewHybridSearchOption(name, 2, request, request).WithReranker(mc.NewRRFReranker())
		check(int64s(get(client.HybridSearch(ctx, option))[0].IDs)[0], int64(5))
	})
	step("search_order", func() {
		option := mc.NewSearchOption(name, 3, vectors(50)).WithSearchParam("order_by_fields", "i64:desc")
		check(hits(option), []int64{51, 50, 49})
	})
	step("query_aggregates", func() {
		option := mc.NewQueryOption(name).WithFilter("id < 100").WithOutputFields("max(i64)")
		answer := get(client.Query(ctx, option))
		found := answer.GetColumn("max(i64)")
		check(get(found.GetAsInt64(0)), int64(99))
	})
	step("import", func() {
		lines := []string{}
		for _, i := range []int{5000, 5001} {
			one := row(i)
			one["doc"] = map[string]any{"k": i}
			lines = append(lines, string(get(json.Marshal(one))))
		}
		must(os.WriteFile(os.Getenv("MILVINE_FILES")+"/rows.jsonl", []byte(strings.Join(lines, "\n")), 0o644))
		uri, token := os.Getenv("MILVINE_URI"), os.Getenv("MILVINE_TOKEN")
		asked := bulkwriter.NewBulkImportOption(uri, name, [][]string{{"rows.jsonl"}}).WithAPIKey(token)
		job := get(bulkwriter.BulkImport(ctx, asked)).Data.JobID
		state := ""
		for state != "Completed" && state != "Failed" {
			time.Sleep(100 * time.Millisecond)
			asked := bulkwriter.NewGetImportProgressOption(uri, job).WithAPIKey(token)
			state = get(bulkwriter.GetImportProgress(ctx, asked)).Data.State
		}
		check(state, "Completed")
		option := mc.NewQueryOption(name).WithFilter("id >= 5000").WithOutputFields("count(*)").
			WithConsistencyLevel(entity.ClStrong)
		found := get(client.Query(ctx, option))
		check(get(found.GetColumn("count(*)").GetAsInt64(0)), int64(2))
	})
	lacking("partial_upsert", func() {
		option := mc.NewColumnBasedInsertOption(name).
			WithInt64Column("id", []int64{5}).WithInt64Column("i64", []int64{55}).WithPartialUpdate(true)
		get(client.Upsert(ctx, option))
	})
}
