"""Filters on columns and dynamic keys against the same condition in Python, growing, sealed and mixed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import assert_refused, query_request, search_request
from pymilvus import DataType, MilvusClient
from sample_collections import add_index

Row = dict[str, Any]
ROW_COUNT = 300


def _rows() -> list[Row]:
    rng = random.Random(11)
    rows: list[Row] = []
    for i in range(ROW_COUNT):
        row: Row = {
            "id": i,
            "vec": [float(i), 1.0],
            "n": rng.randint(-5, 5),
            "big": rng.choice([-(2**63), 2**63 - 1, 2**53 + 1, 2**53, 0]),
            "x": rng.choice([-1.5, 0.0, 0.25, 3.0]),
            "flag": rng.random() < 0.5,
            "s": rng.choice(["", "apple", "apricot", "Banana", "50%", "a_b", "日本語"]),
            "maybe": rng.choice([None, 1, 2, 3]),
            "j": rng.choice([{"a": 1, "b": {"c": "x"}}, {"a": 2.5}, {"a": "1"}, {"tags": [1, 2, 3]}, {}]),
        }
        if rng.random() < 0.7:
            row["color"] = rng.choice(["red", "green", "blue"])
        if rng.random() < 0.5:
            row["size"] = rng.choice([1, 2, 3, 4.5])
        rows.append(row)
    return rows


ROWS = _rows()


@pytest.fixture(scope="module", params=["growing", "sealed", "mixed"])
def filled(request: pytest.FixtureRequest, server: Server) -> Iterator[tuple[MilvusClient, str]]:
    client, name = server.client(), f"filters_{request.param}"
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("n", DataType.INT8)
    schema.add_field("big", DataType.INT64)
    schema.add_field("x", DataType.FLOAT)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("s", DataType.VARCHAR, max_length=20)
    schema.add_field("maybe", DataType.INT32, nullable=True)
    schema.add_field("j", DataType.JSON)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)
    client.insert(name, ROWS[:200])
    if request.param == "mixed":
        client.flush(name)
    client.insert(name, ROWS[200:])
    if request.param == "sealed":
        client.flush(name)
    yield client, name
    client.drop_collection(name)
    client.close()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


CASES: dict[str, Callable[[Row], bool]] = {
    "n > 2": lambda r: r["n"] > 2,
    "n >= -2 and n <= 2": lambda r: -2 <= r["n"] <= 2,
    "-2 <= n < 2": lambda r: -2 <= r["n"] < 2,
    "n != 0": lambda r: r["n"] != 0,
    "n in [1, 2, 3]": lambda r: r["n"] in (1, 2, 3),
    "n not in [1, 2, 3]": lambda r: r["n"] not in (1, 2, 3),
    "n in []": lambda r: False,
    "n > 1000": lambda r: False,
    "n > -1000": lambda r: True,
    "big == 9223372036854775807": lambda r: r["big"] == 2**63 - 1,
    "big == 9007199254740993": lambda r: r["big"] == 2**53 + 1,
    "big == -9223372036854775808": lambda r: r["big"] == -(2**63),
    "x == 0.25": lambda r: r["x"] == 0.25,
    "x < 0": lambda r: r["x"] < 0,
    "flag == true": lambda r: r["flag"],
    "not (flag == true)": lambda r: not r["flag"],
    'flag == false and s == "apple"': lambda r: not r["flag"] and r["s"] == "apple",
    's == ""': lambda r: r["s"] == "",
    's == "日本語"': lambda r: r["s"] == "日本語",
    's > "a"': lambda r: r["s"] > "a",
    's like "ap%"': lambda r: r["s"].startswith("ap"),
    's like "%a%"': lambda r: "a" in r["s"],
    's like "%e"': lambda r: r["s"].endswith("e"),
    's in ["apple", "50%"]': lambda r: r["s"] in ("apple", "50%"),
    "maybe is null": lambda r: r["maybe"] is None,
    "maybe is not null": lambda r: r["maybe"] is not None,
    "maybe > 1": lambda r: r["maybe"] is not None and r["maybe"] > 1,
    "not (maybe > 1)": lambda r: r["maybe"] is not None and r["maybe"] <= 1,
    "maybe > 1 or n > 4": lambda r: (r["maybe"] is not None and r["maybe"] > 1) or r["n"] > 4,
    "maybe in [1, 3]": lambda r: r["maybe"] in (1, 3),
    'j["a"] == 1': lambda r: r["j"].get("a") == 1 and _number(r["j"]["a"]),
    'j["a"] > 2': lambda r: _number(r["j"].get("a")) and r["j"]["a"] > 2,
    'j["a"] == "1"': lambda r: r["j"].get("a") == "1",
    'j["b"]["c"] == "x"': lambda r: r["j"].get("b", {}).get("c") == "x",
    'j["tags"][1] == 2': lambda r: "tags" in r["j"],
    'exists j["b"]': lambda r: "b" in r["j"],
    'color == "red"': lambda r: r.get("color") == "red",
    'color in ["red", "blue"]': lambda r: r.get("color") in ("red", "blue"),
    'color like "g%"': lambda r: r.get("color", "").startswith("g"),
    "size > 2": lambda r: r.get("size", 0) > 2,
    "size == 4.5": lambda r: r.get("size") == 4.5,
    '$meta["color"] == "blue"': lambda r: r.get("color") == "blue",
    'color == "red" and size < 3 and n > 0': lambda r: r.get("color") == "red" and r.get("size", 9) < 3 and r["n"] > 0,
    "id in [5, 7, 299, 300]": lambda r: r["id"] in (5, 7, 299, 300),
    "id == 5 or id == 6": lambda r: r["id"] in (5, 6),
    "id >= 10 and id < 20 and flag == true": lambda r: 10 <= r["id"] < 20 and r["flag"],
}


@pytest.mark.parametrize("text", list(CASES))
def test_query_returns_the_rows_that_python_would(filled: tuple[MilvusClient, str], text: str) -> None:
    client, name = filled
    wanted = [row["id"] for row in ROWS if CASES[text](row)]
    assert [r["id"] for r in client.query(name, filter=text, output_fields=["id"])] == wanted
    assert client.query(name, filter=text, output_fields=["count(*)"])[0]["count(*)"] == len(wanted)
    hits = client.search(name, [[0.0, 1.0]], limit=ROW_COUNT, filter=text)[0]
    assert [h["id"] for h in hits] == wanted


@pytest.mark.parametrize(
    ("text", "values", "condition"),
    [
        ("n > {low}", {"low": 2}, lambda r: r["n"] > 2),
        ("n in {list}", {"list": [1, 2]}, lambda r: r["n"] in (1, 2)),
        ("s == {s}", {"s": 'no "such"'}, lambda r: False),
        ("s in {list}", {"list": ["apple", "日本語"]}, lambda r: r["s"] in ("apple", "日本語")),
        ("flag == {f} and x < {x}", {"f": True, "x": 0.3}, lambda r: r["flag"] and r["x"] < 0.3),
        ("color == {c}", {"c": "red"}, lambda r: r.get("color") == "red"),
    ],
)
def test_template_values_stand_for_literals(
    filled: tuple[MilvusClient, str], text: str, values: Row, condition: Callable[[Row], bool]
) -> None:
    client, name = filled
    got = client.query(name, filter=text, filter_params=values, output_fields=["id"])
    assert [r["id"] for r in got] == [row["id"] for row in ROWS if condition(row)]


@pytest.mark.parametrize(
    "text", ["((", "n >", "n = 1", "n == 'a'", "s > 1", "vec == 1", "n in 1", "nope(n)", "like", "n == 1 n", "n"]
)
def test_bad_filter_is_refused_with_its_text(filled: tuple[MilvusClient, str], server: Server, text: str) -> None:
    _, name = filled
    refused = assert_refused(
        server.stub.Query(query_request(name, text, ["id"])), 1100, "failed to create query plan", legacy=5
    )
    assert refused.status.extra_info["is_input_error"] == "true"
    search = search_request(name, [[0, 0]], 3, filter_text=text)
    assert_refused(server.stub.Search(search), 1100, "failed to create query plan", legacy=5)
