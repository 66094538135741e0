"""Random filters, template values and REST bodies are answered or refused, never with a Python exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import STRONG, assert_refused, pairs, search_request, status_of
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from rest_client import Rest
from sample_collections import add_index

ARRAYS = {"ai": DataType.INT32, "ad": DataType.DOUBLE, "at": DataType.VARCHAR, "ab": DataType.BOOL}
SCALARS = {
    "b": DataType.BOOL,
    "i8": DataType.INT8,
    "i64": DataType.INT64,
    "f": DataType.FLOAT,
    "d": DataType.DOUBLE,
    "t": DataType.VARCHAR,
    "j": DataType.JSON,
}
OPERANDS = [
    *("id", "vec", "nope", "$meta", "null", *SCALARS, *ARRAYS, 'j["a"]', 'j["a"]["b"][1]', 'j["0"]', "j[0]"),
    *("ai[0]", "at[2147483648]", "ad[9223372036854775807]", "ab[1]", "ai[99999999999999999999]", "{t}", "{u}"),
]
LITERALS = [
    *(
        "0",
        "-1",
        "1",
        "1.5",
        "true",
        "False",
        "''",
        '"a"',
        "'%a_'",
        r"'\\'",
        r"'\ud800'",
        r"'\xff'",
        r'r"\d+"',
        "'é\u0000'",
    ),
    *(str(sign * 2**bits + more) for bits in (7, 31, 53, 63, 64) for sign in (1, -1) for more in (-1, 0, 1)),
    *("1e300", "-1e300", "1e-320", "1e400", "0x7fffffffffffffff", "0b1", "017", ".5", "5.", "9" * 400),
    *("[]", "[1]", "[1, 2.5, 'a', true]", "[[1]]", "[[], [1, [2]]]", "[1e300]", "[18446744073709551616]", "[null]"),
    *(f"[{','.join(map(str, range(40)))}]", "[" * 30 + "1" + "]" * 30, "['(', '[']"),
]
COMPARISONS = ["==", "!=", "<", "<=", ">", ">=", "in", "not in", "like", "=~", "!~"]
ARITHMETIC = ["+", "-", "*", "/", "%", "**", "&", "|", "^", "<<", ">>"]
FUNCTIONS = [
    *("array_contains", "json_contains_all", "JSON_CONTAINS_ANY", "array_length", "random_sample", "starts_with"),
    *("empty", "bloom_match", "text_match", "nope"),
]
WORDS = [
    *OPERANDS,
    *LITERALS,
    *COMPARISONS,
    *ARITHMETIC,
    *FUNCTIONS,
    *(
        "(",
        ")",
        "[",
        "]",
        ",",
        "and",
        "||",
        "not",
        "!",
        "~",
        "is null",
        "is not null",
        "exists",
        "{",
        "}",
        "$",
        "\\",
        "'",
    ),
]

_TERMS = st.sampled_from(OPERANDS) | st.sampled_from(LITERALS)


def _computed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sums = st.tuples(inner, st.sampled_from(ARITHMETIC), inner).map(" ".join)
    signed = st.tuples(st.sampled_from(["-", "+", "~", "!"]), inner).map("".join)
    calls = st.tuples(st.sampled_from(FUNCTIONS), st.lists(inner, max_size=3).map(", ".join)).map(
        lambda call: f"{call[0]}({call[1]})"
    )
    return sums | signed | calls | inner.map(lambda text: f"({text})")


_VALUES = st.recursive(_TERMS, _computed, max_leaves=3)
_INTEGERS = st.sampled_from(
    [x for x in LITERALS if x.lstrip("-").isdigit() and abs(int(x)) < 2**63] + ["-9223372036854775808"]
)
_FLOATS = st.sampled_from(["1e300", "-1e300", "1e-320", ".5", "1.5", "18446744073709551616.0"])
_TEXTS = st.sampled_from(["''", '"a"', "'%a_'", r"'\\'", r'r"\d+"', "'é\u0000'", "'^a|b$'", "'" + "a" * 3000 + "'"])
_JSON_PATHS = st.sampled_from(["j", 'j["a"]', 'j["a"]["b"][1]', "j[0]", "j[2147483648]", "dyn", '$meta["dyn"][0]'])
_LISTS = st.sampled_from(
    ["[]", "[1]", "[1, 2.5, 'a', true]", "[[1]]", "[[], [1, [2]]]", "[1e300]", "[-9223372036854775808]"]
)
_EQUALITY, _ANY_ORDER = st.sampled_from(["==", "!="]), st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_FITTING = st.one_of(
    st.tuples(st.sampled_from(["id", "i8", "i64", "ai[0]", "ai[2147483648]"]), _ANY_ORDER, _INTEGERS | _FLOATS),
    st.tuples(_INTEGERS | _FLOATS, _ANY_ORDER, st.sampled_from(["f", "d", "ad[1]", "id", "i8"]) | _JSON_PATHS),
    st.tuples(
        st.sampled_from(["i8", "i64", "ai[1]"]) | _JSON_PATHS,
        st.sampled_from(ARITHMETIC),
        _INTEGERS,
        _ANY_ORDER,
        _INTEGERS,
    ),
    st.tuples(st.sampled_from(["f", "d"]) | _JSON_PATHS, st.sampled_from("+-*/"), _FLOATS, _ANY_ORDER, _FLOATS),
    st.tuples(
        st.sampled_from(["t", "at[0]"]) | _JSON_PATHS, _ANY_ORDER | st.sampled_from(["like", "=~", "!~"]), _TEXTS
    ),
    st.tuples(_JSON_PATHS, _EQUALITY | st.sampled_from(["in", "not in"]), _LISTS),
    st.tuples(st.sampled_from(["array_length(ai)", "array_length(j)"]), _ANY_ORDER, _INTEGERS | _FLOATS),
    st.tuples(st.sampled_from(["ai", "ad", "t", "j", "b"]), st.sampled_from(["is null", "is not null"])),
    st.tuples(
        st.sampled_from(["json_contains(", "json_contains_any(", "json_contains_all("]),
        _JSON_PATHS,
        st.just(","),
        _LISTS,
        st.just(")"),
    ),
    st.tuples(
        st.sampled_from(["array_contains(", "array_contains_all("]),
        st.sampled_from(["ai", "ad"]),
        st.just(","),
        _INTEGERS | _LISTS,
        st.just(")"),
    ),
    st.tuples(st.sampled_from(["exists", "not exists"]), _JSON_PATHS),
    st.tuples(
        st.sampled_from(["starts_with(t,", "starts_with(t, t) or empty(", "bloom_match(id,"]),
        _TEXTS | st.just("{t}"),
        st.just(")"),
    ),
).map(" ".join)
_ORDERS = st.sampled_from(["<", "<=", ">", ">="])
_LEAVES = st.one_of(
    st.tuples(_VALUES, st.sampled_from(COMPARISONS), _VALUES).map(" ".join),
    st.tuples(_VALUES, st.sampled_from(["<", "<=", ">"]), _TERMS, st.sampled_from(["<", ">", ">="]), _VALUES).map(
        " ".join
    ),
    st.tuples(_TERMS, st.sampled_from(["is null", "is not null", "IS NULL"])).map(" ".join),
    _VALUES.map(lambda text: f"exists {text}"),
    _VALUES,
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.tuples(st.lists(inner, min_size=2, max_size=3), st.sampled_from([" and ", " or ", " && "]))
    return several.map(lambda both: both[1].join(f"({text})" for text in both[0])) | inner.map(lambda t: f"not ({t})")


FILTERS = st.one_of(
    st.recursive(_FITTING, _joined, max_leaves=3),
    st.recursive(_FITTING, _joined, max_leaves=3),
    st.recursive(_LEAVES, _joined, max_leaves=3),
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(max_size=20),
)
_NUMBERS = st.sampled_from([0, -1, 1.5, 2**31, 2**63 - 1, -(2**63), 1e300, float("inf"), 1e-320])
_ELEMENTS = st.recursive(
    st.one_of(st.booleans(), _NUMBERS, st.text(max_size=5)), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
_JSON = st.recursive(
    st.one_of(_ELEMENTS, st.none(), st.sampled_from([2**63, 2**64, 10**30, -(10**30)])),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=4,
)


def _template(value: Any) -> Any:
    """The value as an SDK encodes it: lists of one kind as such, others as JSON."""
    if isinstance(value, list):
        return schema_pb2.TemplateValue(array_val=_template_array(value))
    kind = {bool: "bool_val", int: "int64_val", float: "float_val", str: "string_val", bytes: "bytes_val"}[type(value)]
    return schema_pb2.TemplateValue(**{kind: value})


def _template_array(values: list[Any]) -> Any:
    kinds = set(map(type, values))
    found = schema_pb2.TemplateArrayValue()
    if kinds == {list}:
        found.array_data.data.extend(map(_template_array, values))
    elif len(kinds) == 1 and kinds <= {bool, int, float, str}:
        name = {bool: "bool_data", int: "long_data", float: "double_data", str: "string_data"}[kinds.pop()]
        getattr(found, name).data.extend(values)
    elif values:
        found.json_data.data.extend(json.dumps(v).encode() for v in values)
    return found


@pytest.fixture(scope="module")
def rows(_shared_client: MilvusClient) -> Iterator[str]:
    """A collection with sealed and growing rows."""
    client, name = _shared_client, "hostile_filters"
    client.drop_collection(name)
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for field, data_type in SCALARS.items():
        more = {"max_length": 64} if data_type is DataType.VARCHAR else {}
        schema.add_field(field, data_type, nullable=field != "i8", **more)
    for field, data_type in ARRAYS.items():
        schema.add_field(field, DataType.ARRAY, element_type=data_type, max_capacity=8, max_length=64, nullable=True)
    client.create_collection(name, schema=schema, consistency_level="Strong")
    add_index(client, name, "vec")
    client.load_collection(name)
    documents = [{"a": 1}, {"a": {"b": [1, "x"]}}, [1, [2.0]], 5, None, {"0": [[]]}, {"a": "x"}, {"a": 2**63 - 1}]
    for first in (0, 8):
        batch = [
            {
                **{"id": first + i, "vec": [i, 0.0], "b": i % 2 == 0, "i8": i - 4, "i64": 2**62 * (i % 2), "f": i / 3},
                **{"d": None if i == 3 else 1e300, "t": "aé%_\\"[: i % 6], "j": document, "ai": [i, -i][: i % 3]},
                **{"ad": [1e300, 0.1], "at": ["a", "b"], "ab": None if i == 2 else [True], "dyn": [i]},
            }
            for i, document in enumerate(documents)
        ]
        client.insert(name, batch)
        if not first:
            client.flush(name)
    yield name
    client.drop_collection(name)


def _examples(many: int) -> settings:
    health = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    phases = [Phase.explicit, Phase.generate, Phase.shrink]
    return settings(max_examples=many, deadline=None, suppress_health_check=health, phases=phases, database=None)


def _check_grpc(stub: Any, name: str, text: str, templates: dict[str, Any]) -> None:
    requests = {
        "Query": milvus_pb2.QueryRequest(
            collection_name=name, expr=text, output_fields=["id"], query_params=pairs({"limit": 5})
        ),
        "Search": search_request(name, [[0.0, 0.0]], 3, filter_text=text),
        # The filter is evaluated, and no row is deleted.
        "Delete": milvus_pb2.DeleteRequest(collection_name=name, expr=f"id < 0 and ({text})"),
    }
    requests["Query"].consistency_level = STRONG
    for call, request in requests.items():
        for key, value in templates.items():
            request.expr_template_values[key].CopyFrom(_template(value))
        status = status_of(getattr(stub, call)(request))
        assert status.code in (0, 1100), (call, text, templates, status.reason)


@_examples(60)
@given(FILTERS, st.fixed_dictionaries({}, optional={"t": _ELEMENTS | st.binary(max_size=40), "u": _ELEMENTS}))
@example("at[2147483648] == 'a'", {})
@example("id == 1e300 or id == -1e300 or id == 1", {})
@example("j in {t}", {"t": [[1], [[2.0]]]})
def test_a_filter_is_answered_or_refused_with_a_message(
    rows: str, stub: Any, text: str, templates: dict[str, Any]
) -> None:
    _check_grpc(stub, rows, text, templates)


@pytest.mark.nightly
@_examples(10_000)
@given(FILTERS, st.fixed_dictionaries({}, optional={"t": _ELEMENTS | st.binary(max_size=40), "u": _ELEMENTS}))
def test_many_filters_are_answered_or_refused_with_a_message(
    rows: str, stub: Any, text: str, templates: dict[str, Any]
) -> None:
    _check_grpc(stub, rows, text, templates)


_BODIES = st.fixed_dictionaries(
    {"filter": FILTERS | _JSON},
    optional={
        "exprParams": st.dictionaries(st.sampled_from(["t", "u"]), _JSON) | _JSON,
        "limit": _JSON,
        "offset": _JSON,
        "outputFields": st.lists(st.sampled_from([*SCALARS, "nope", "*", "count(*)", ""]), max_size=3) | _JSON,
    },
)


def _check_rest(uri: str, name: str, body: dict[str, Any]) -> None:
    rest = Rest(uri)
    for route, more in (("query", {}), ("search", {"data": [[0.0, 0.0]]}), ("delete", {})):
        sent = {"collectionName": name, **body, **more}
        if route == "delete" and isinstance(sent["filter"], str):
            sent["filter"] = f"id < 0 and ({sent['filter']})"
        answer = rest.post(f"entities/{route}", sent)
        assert answer["code"] != 65535, (route, sent, answer)


@_examples(60)
@given(_BODIES)
def test_a_body_is_answered_or_refused_with_a_message(rows: str, server: Server, body: dict[str, Any]) -> None:
    _check_rest(server.uri, rows, body)


@pytest.mark.nightly
@_examples(10_000)
@given(_BODIES)
def test_many_bodies_are_answered_or_refused_with_a_message(rows: str, server: Server, body: dict[str, Any]) -> None:
    _check_rest(server.uri, rows, body)


@pytest.mark.parametrize("number", [2**64, 2**70, -(2**63) - 1, 10**25])
def test_an_integer_beyond_64_bits_in_a_json_template_is_refused_and_not_rounded(
    rows: str, stub: Any, number: int
) -> None:
    request = milvus_pb2.QueryRequest(collection_name=rows, expr="json_contains_any(j, {x})", output_fields=["id"])
    request.expr_template_values["x"].array_val.json_data.data.append(str(number).encode())
    assert_refused(stub.Query(request), 1100, "expression elements can only be scalars")
