"""Function chains in searches over gRPC, against slow references."""

from __future__ import annotations

import random
import uuid
from typing import Any

import numpy as np
import pytest
from grpc_calls import assert_ok, assert_refused, pairs, search_request
from model_server import model_server, score_of
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import schema_pb2

ROWS, SEALED, DIM = 120, 80, 4
L0, L1, L2 = (getattr(schema_pb2, f"FunctionChainStageL{n}Rerank") for n in (0, 1, 2))


class World:
    """`year` and `text` have NULLs."""

    def __init__(self, client: MilvusClient) -> None:
        self.client, self.name = client, f"chains_{uuid.uuid4().hex[:8]}"
        schema = client.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("age", DataType.DOUBLE)
        schema.add_field("year", DataType.INT32, nullable=True)
        schema.add_field("flag", DataType.BOOL)
        schema.add_field("text", DataType.VARCHAR, max_length=9, nullable=True)
        schema.add_field("list", DataType.ARRAY, element_type=DataType.INT64, max_capacity=2)
        indexes = client.prepare_index_params()
        for name, metric in (("u", "L2"), ("v", "COSINE")):
            schema.add_field(name, DataType.FLOAT_VECTOR, dim=DIM)
            indexes.add_index(name, index_type="FLAT", metric_type=metric)
        client.create_collection(self.name, schema=schema, index_params=indexes)
        rng = np.random.default_rng(6)
        self.vectors = rng.normal(size=(2, ROWS, DIM)).astype(np.float32)
        self.rows: list[dict[str, Any]] = [
            {
                "id": i,
                "age": float(rng.random() * 40),
                "year": None if i % 9 == 0 else i % 50,
                "flag": i % 2 == 0,
                "text": None if i % 10 == 0 else f"t{i % 7}",
                "list": [i],
                "u": self.vectors[0][i].tolist(),
                "v": self.vectors[1][i].tolist(),
            }
            for i in range(ROWS)
        ]
        client.insert(self.name, self.rows[:SEALED])
        client.flush(self.name)
        client.insert(self.name, self.rows[SEALED:])

    def queries(self, seed: int) -> list[list[float]]:
        found: list[list[float]] = np.random.default_rng(seed).normal(size=(2, DIM)).tolist()
        return found

    def plain(self, field: str, queries: list[list[float]], limit: int) -> list[list[tuple[int, float]]]:
        found = self.client.search(self.name, queries, anns_field=field, limit=limit)
        return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return schema_pb2.FunctionParamValue(bool_value=value)
    if isinstance(value, int):
        return schema_pb2.FunctionParamValue(int64_value=value)
    if isinstance(value, float):
        return schema_pb2.FunctionParamValue(double_value=value)
    if isinstance(value, str):
        return schema_pb2.FunctionParamValue(string_value=value)
    assert isinstance(value, list)
    return schema_pb2.FunctionParamValue(array_value=schema_pb2.FunctionParamArray(values=[_value(v) for v in value]))


def _params(params: dict[str, Any]) -> dict[str, Any]:
    return {key: _value(value) for key, value in params.items()}


def _column(name: str) -> Any:
    return schema_pb2.FunctionChainExprArg(column=schema_pb2.FunctionChainColumnArg(name=name))


def _map(output: str, called: str, /, *columns: str, **params: Any) -> Any:
    expression = schema_pb2.FunctionChainExpr(
        name=called, args=[_column(name) for name in columns], params=_params(params)
    )
    return schema_pb2.FunctionChainOp(op="map", expr=expression, outputs=[output])


def _op(name: str, /, *inputs: str, **params: Any) -> Any:
    return schema_pb2.FunctionChainOp(op=name, inputs=inputs, params=_params(params))


def _chain(stage: int, *ops: Any) -> Any:
    return schema_pb2.FunctionChain(name="c", stage=stage, ops=ops)


def _search(world: World, stub: Any, *chains: Any, field: str = "u", limit: int = 10, **more: Any) -> Any:
    request = search_request(world.name, more.pop("queries", [[0.0] * DIM]), limit, anns_field=field, **more)
    request.function_chains.extend(chains)
    return stub.Search(request)


def _hits(answer: Any) -> list[list[tuple[int, float]]]:
    results = assert_ok(answer).results
    found: list[list[tuple[int, float]]] = []
    pairs_of, start = list(zip(results.ids.int_id.data, results.scores, strict=True)), 0
    for count in results.topks:
        found.append(pairs_of[start : start + count])
        start += count
    return found


def _check(found: list[list[tuple[int, float]]], wanted: list[list[tuple[int, float]]]) -> None:
    for hits, expected in zip(found, wanted, strict=True):
        assert [key for key, _ in hits] == [key for key, _ in expected]
        np.testing.assert_allclose([s for _, s in hits], [s for _, s in expected], rtol=1e-5, atol=1e-5)


def _combined(values: list[float], mode: str, weights: list[float]) -> float:
    if mode == "weighted":
        return sum(v * w for v, w in zip(values, weights, strict=True))
    if mode == "multiply":
        return float(np.prod(values))
    return {"sum": sum(values), "max": max(values), "min": min(values), "avg": sum(values) / len(values)}[mode]


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_combines_sorts_and_cuts_the_hits(world: World, stub: Any, seed: int) -> None:
    chance = random.Random(seed)
    mode = chance.choice(["multiply", "sum", "max", "min", "avg", "weighted"])
    weights = [0.5, 2.0] if mode == "weighted" else []
    limit, offset, decimals = chance.randint(1, 9), chance.choice([0, 2]), chance.choice([1, 3])
    field, other, descending = chance.choice("uv"), chance.choice(["age", "year", "$id"]), chance.random() < 0.5
    queries = world.queries(seed)
    answer = _search(
        world,
        stub,
        _chain(
            L2,
            _map("t", "num_combine", "$score", other, mode=mode, **({"weights": weights} if weights else {})),
            _map("$score", "round_decimal", "t", decimal=decimals),
            _op("sort", "$score", desc=descending),
            _op("limit", limit=limit, offset=offset),
        ),
        field=field,
        queries=queries,
    )
    wanted = []
    for hits in world.plain(field, queries, 10):
        scored, without = [], []
        for key, score in hits:
            value = key if other == "$id" else world.rows[key][other]
            if value is None:
                without.append((key, 0.0))
                continue
            scale = 10**decimals
            number = np.float32(_combined([score, value], mode, weights))
            scored.append((key, float(np.floor(float(number) * scale + 0.5) / scale)))
        scored.sort(key=lambda hit: ((-hit[1] if descending else hit[1]), hit[0]))
        wanted.append([*scored, *sorted(without)][offset : offset + limit])
    _check(_hits(answer), wanted)


@pytest.mark.parametrize("field", ["u", "v"])
def test_a_chain_of_the_first_stage_scores_the_rows_of_each_segment(world: World, stub: Any, field: str) -> None:
    queries, sign = world.queries(4), -1 if field == "u" else 1
    chain = _chain(
        L0, _map("t", "num_combine", "$score", "age", mode="sum"), _map("$score", "round_decimal", "t", decimal=6)
    )
    found = _hits(_search(world, stub, chain, field=field, queries=queries, limit=ROWS))
    wanted = []
    for hits in world.plain(field, queries, ROWS):
        scored = [(key, sign * (sign * score + world.rows[key]["age"])) for key, score in hits]
        wanted.append(sorted(scored, key=lambda hit: -sign * hit[1]))
    _check(found, wanted)


def test_chains_of_both_stages_go_together(world: World, stub: Any) -> None:
    first = _chain(L0, _map("$score", "num_combine", "$score", "$id", mode="sum"))
    second = _chain(L2, _op("sort", "$id"), _op("limit", limit=3))
    keys = [key for key, _ in _hits(_search(world, stub, second, first, field="v", limit=ROWS))[0]]
    assert keys == [0, 1, 2]


def test_a_decay_falls_with_the_distance_from_the_origin(world: World, stub: Any) -> None:
    chain = _chain(
        L2,
        _map("$score", "decay", "age", function="linear", origin=20, scale=10.0, offset=1, decay=0.25),
        _op("sort", "$score", desc=True),
    )
    for key, score in _hits(_search(world, stub, chain))[0]:
        far = max(0.0, abs(world.rows[key]["age"] - 20) - 1)
        assert score == pytest.approx(max(0.25, 1 - far * 0.75 / 10), rel=1e-5)


def test_groups_of_hits_come_in_the_order_of_their_scores(world: World, stub: Any) -> None:
    group = _op("group_by", "text", field="text", group_size=2, limit=3, offset=1, scorer="sum")
    found = _hits(_search(world, stub, _chain(L2, group), field="v", limit=60))[0]
    groups: dict[str | None, list[tuple[int, float]]] = {}
    for key, score in world.plain("v", [[0.0] * DIM], 60)[0]:
        groups.setdefault(world.rows[key]["text"], []).append((key, score))
    best = [sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:2] for hits in groups.values()]
    best.sort(key=lambda hits: (-sum(s for _, s in hits), -len(hits), hits[0][0]))
    _check([found], [[hit for hits in best[1:4] for hit in hits]])


def test_a_select_drops_columns_but_not_those_of_the_system(world: World, stub: Any) -> None:
    kept = _chain(L2, _map("t", "num_combine", "$score", "age"), _op("select", columns=["t"]), _op("sort", "t"))
    assert len(_hits(_search(world, stub, kept))[0]) == 10
    gone = _chain(L2, _map("t", "num_combine", "$score", "age"), _op("select", columns=["t"]), _op("sort", "age"))
    assert_refused(_search(world, stub, gone).status, 5, 'column "age" not found')


def test_a_model_scores_texts_in_a_chain(world: World, stub: Any) -> None:
    with model_server() as service:
        model = _map("$score", "rerank_model", "text", provider="tei", endpoint=service.url, queries=["t1", "t2"])
        chain = _chain(L2, model, _op("sort", "$score", desc=True))
        found = _hits(_search(world, stub, chain, queries=world.queries(1)))
    for query, hits in zip(["t1", "t2"], found, strict=True):
        expected = [(key, score_of(query, world.rows[key]["text"] or "")) for key, _ in hits]
        assert [s for _, s in hits] == pytest.approx([s for _, s in expected])
        assert [s for _, s in hits] == sorted((s for _, s in hits), reverse=True)


SUM = _map("$score", "num_combine", "$score", "age", mode="sum")


@pytest.mark.parametrize(
    ("chains", "code", "text"),
    [
        ([_chain(L2, SUM), _chain(L2, SUM)], 1100, "function chain stage FunctionChainStageL2Rerank appears more than"),
        ([_chain(L1, SUM)], 1100, "function chain[0] stage FunctionChainStageL1Rerank is not supported yet"),
        ([_chain(1, SUM)], 1100, "stage FunctionChainStageIngestion is not supported in search request"),
        ([_chain(L2)], 1100, "function chain[0] must contain at least one op"),
        ([_chain(L0)], 1100, "querynode function chain[0] must contain at least one op"),
        ([_chain(L2, _op(" "))], 1100, "function chain[0]: op[0]: op name is empty"),
        ([_chain(L2, _op("shuffle"))], 5, "operator[0]: unknown operator type: shuffle"),
        ([_chain(L2, _op("map"))], 5, "operator[0]: map operator requires function"),
        ([_chain(L2, _map("$score", "magic", "age"))], 5, "map function: unknown function: magic"),
        ([_chain(L2, _map("$id", "num_combine", "$score", "age"))], 1100, 'system output "$id" is not writable by L2'),
        ([_chain(L0, _map("$id", "num_combine", "$score", "age"))], 1100, 'system output "$id" is not writable by L0'),
        ([_chain(L2, _map("t", "num_combine", "$x", "age"))], 1100, 'system input "$x" is not supported by L2'),
        ([_chain(L0, _map("t", "num_combine", "$x", "age"))], 1100, 'system input "$x" is not readable by L0'),
        ([_chain(L0, _op("sort", "$score"))], 1100, 'type "sort" is not supported by L0 rerank function chain'),
        ([_chain(L2, _map("t", "num_combine", "$score", "nope"))], 1100, "neither a previous output nor a collection"),
        ([_chain(L2, _map("t", "num_combine", "$score", "list"))], 1100, 'input "list" has unsupported field type Arr'),
        ([_chain(L2, _map("t", "num_combine", "$score", "u"))], 1100, "has unsupported field type FloatVector"),
        ([_chain(L2, _map("t", "num_combine", "$score", "text"))], 1100, "input column type *array.String"),
        ([_chain(L2, _map("t", "num_combine", "$score", "flag"))], 1100, "input column type *array.Boolean"),
        ([_chain(L2, _map("t", "num_combine", "$score"))], 1100, "expected at least 2 input columns, got 1"),
        ([_chain(L2, _map("t", "num_combine", "$score", "age", mode="x"))], 5, 'num_combine: invalid mode "x"'),
        ([_chain(L2, _map("t", "num_combine", "$score", "age", mode="weighted"))], 5, "weighted mode requires weights"),
        (
            [_chain(L2, _map("t", "num_combine", "$score", "age", mode="weighted", weights=[1]))],
            1100,
            "num_combine: weighted mode requires 2 weights, got 1",
        ),
        ([_chain(L2, _map("t", "round_decimal", "$score", decimal=7))], 5, "decimal must be in range [0, 6], got 7"),
        ([_chain(L2, _map("t", "round_decimal", "$score"))], 5, 'missing required parameter "decimal"'),
        ([_chain(L2, _map("t", "round_decimal", "$score", decimal=1.5))], 5, "must be an integer, got 1.500000"),
        ([_chain(L2, _map("t", "round_decimal", "age", decimal=1))], 1100, "must be Float32, got *array.Float64"),
        ([_chain(L2, _map("t", "decay", "age", function="x", origin=1, scale=1))], 5, 'decay: invalid function "x"'),
        ([_chain(L0, _map("$score", "rerank_model", "text", queries=["a"], provider="tei", endpoint="http://x"))], 1100,
         'operator[0] function "rerank_model" does not support stage "L0_rerank"'),
        ([_chain(L0, _map("t", "xgboost", "age", model_resource="m", output="x"))], 5, "output must be one of"),
        ([_chain(L0, _map("t", "xgboost", "age", model_resource="m", depth=1))], 5, 'unknown parameter "depth"'),
        ([_chain(L0, _map("t", "xgboost", "age", model_resource="m"))], 1100, 'file resource "m" not found'),
        ([_chain(L0, _map("t", "xgboost", "text", model_resource="m"))], 1100, "input column type *array.String"),
        ([_chain(L2, _map("t", "xgboost", "age", model_resource="m"))], 1100, 'does not support stage "L2_rerank"'),
        ([_chain(L2, _op("sort"))], 5, "sort_op: column is required"),
        ([_chain(L2, _op("sort", "flag"))], 5, "sort_op: column flag has non-comparable type bool"),
        ([_chain(L2, _op("sort", "age", desc="yes"))], 5, 'sort_op: parameter "desc" must be a bool'),
        ([_chain(L2, _op("limit", limit=0))], 5, "limit_op: limit must be positive"),
        ([_chain(L2, _op("limit", limit=1, offset=-1))], 5, "limit_op: offset must be non-negative"),
        ([_chain(L2, _op("select"))], 5, "select_op: columns is required"),
        ([_chain(L2, _op("group_by", field="age", group_size=1, limit=1))], 5, 'group_by_op: column "age" not found'),
        ([_chain(L2, _op("group_by", "age", field="age", group_size=1, limit=1, scorer="x"))], 5, 'group scorer "x"'),
        ([_chain(L2, *[SUM] * 257)], 1100, "function chain[0] has more than 256 ops"),
    ],
)  # fmt: skip
def test_a_bad_chain_is_refused_in_milvus_words(
    world: World, stub: Any, chains: list[Any], code: int, text: str
) -> None:
    assert_refused(_search(world, stub, *chains).status, code, text)


def test_literals_are_refused(world: World, stub: Any) -> None:
    chain = _chain(L2, _map("t", "num_combine", "$score", "age"))
    chain.ops[0].expr.args.add(literal=_value(1))
    assert_refused(_search(world, stub, chain).status, 5, "num_combine: literal expr arg[2] is not supported")
    chain.ops[0].expr.args.add()
    assert_refused(_search(world, stub, chain).status, 1100, "expr arg[3]: function chain expr arg is unset")


def test_what_chains_cannot_go_with_is_refused(world: World, stub: Any) -> None:
    request = search_request(world.name, [[0.0] * DIM], anns_field="u")
    request.function_chains.append(_chain(L2, SUM))
    request.function_score.functions.add(name="f", params=pairs({"reranker": "boost", "weight": "1"}))
    refused = stub.Search(request).status
    assert_refused(refused, 1100, "function_score and function_chains cannot be used together")
    refused = _search(world, stub, _chain(L0, SUM), order_by_fields="age").status
    assert_refused(refused, 1100, "order_by and function rerank cannot be used together")
    iterator: dict[str, Any] = {"iterator": "True", "search_iter_v2": "True", "search_iter_batch_size": "5"}
    refused = _search(world, stub, _chain(L0, SUM), **iterator).status
    assert_refused(refused, 1100, "function rerank is not supported with search iterator v2")


def test_a_chain_and_groups_go_together(world: World, stub: Any) -> None:
    chain = _chain(L0, _map("$score", "num_combine", "$score", "age", mode="sum"))
    answer = _search(world, stub, chain, field="v", limit=5, group_by_field="text")
    texts = [world.rows[key]["text"] for key, _ in _hits(answer)[0]]
    assert len(set(texts)) == len(texts) == 5
