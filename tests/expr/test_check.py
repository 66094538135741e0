"""Names, types, templates and constants, and Milvus's texts for what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from filter_rows import IDS, SCHEMA, STRICT_SCHEMA, kept, refusal

from milvine.errors import ParameterInvalid
from milvine.expr import bind, compile_filter, parse, primary_keys, referenced_field_ids
from milvine.expr.parser import MAX_DEPTH
from milvine.expr.predicate import Always, And, Compare, CompareFields, Exists, In, IsNull, Not, Predicate
from milvine.expr.tree import Comparator
from milvine.model.schema import CollectionSchema, FieldSchema, with_field_ids
from milvine.model.types import DataType

_ONLY_ARRAYS = "{} operation are only supported on json or array fields now, got: {}"
TEMPLATES: dict[str, object] = {
    "five": 5,
    "half": 0.5,
    "text": "ab",
    "keys": [1, 2],
    "mixed": [1, "a"],
    "none": None,
    "empty": [],
    "huge": 2**63,
}


def keys(text: str, schema: CollectionSchema = SCHEMA) -> list[Any] | None:
    found = primary_keys(compile_filter(text, schema, None, TEMPLATES))
    return None if found is None else list(found.tolist())


def compiled(text: str) -> Predicate:
    return compile_filter(text, SCHEMA, None, TEMPLATES)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("nothing == 1", "field nothing not exist"),
        ("name > 0", "comparisons between VarChar and Int64 are not supported"),
        ("0 < name", "comparisons between Int64 and VarChar are not supported"),
        ("5 == name", "comparisons between Int64 and VarChar are not supported"),
        ("id == 'a'", "comparisons between Int64 and VarChar are not supported"),
        ("flag == 1", "comparisons between Bool and Int64 are not supported"),
        ("flag < true", "comparisons between Bool and Bool are not supported"),
        ("doc['a'] < true", "comparisons between JSON and Bool are not supported"),
        ("id == name", "comparisons between Int64 and VarChar are not supported"),
        ("vec == 1", "comparisons between FloatVector and Int64 are not supported"),
        ("vec in [1]", "term expression is not supported for data type FloatVector"),
        ("vec is null", "IsNull/IsNotNull operations are not supported on vector fields"),
        ("id == doc['a']", "two column comparison with JSON type is not supported"),
        ("id in ['a']", "value 'string_val:\"a\"' in list cannot be casted to Int64"),
        ("id in [1, 1.5]", "value 'float_val:1.5' in list cannot be casted to Int64"),
        ("name in [1]", "value 'int64_val:1' in list cannot be casted to VarChar"),
        ("id in 5", "the right-hand side of 'in' must be a list, but got: 5"),
        ("1 in [1]", "'term' can only be used on non-const expression, but got: 1"),
        ("id in id", "value 'id' in list cannot be a non-const expression"),
        ("id[0] == 1", "Int64 data type not supported accessed with []"),
        ("id like 'a'", "like operation on non-string or no-json field is unsupported"),
        ("name like 5", "like pattern should be a string literal or template variable, got: 5"),
        ("exists id", "exists operations are only supportted on json field, got:Int64"),
        ("exists doc", "exists operations are only supportted on json key"),
        ("1 < 2 < 3", "range operations are only supported on single fields now, got: 2"),
        ("id < id < 3", "lowerbound cannot be a non-const expression: id"),
        ("1.5 < id < 3", "invalid range operations"),
        ("1 < name < 3", "invalid range operations"),
        ("false < flag < true", "invalid range operations on boolean expr"),
        ("3 < id < 3", "invalid range: lowerbound is greater than upperbound"),
        ("1 < doc['a'] < 'b'", "invalid range: bounds are not comparable"),
        ("not flag", "not op can only be applied on boolean expression"),
        ("not 5", "not can only apply on boolean"),
        ("id and id > 1", "'and' can only be used between boolean expressions"),
        ("id > 1 or 5", "'or' can only be used between boolean expressions"),
        ("1 == 'a'", "comparison operations cannot be applied to two incompatible operands: 1=='a'"),
        ("{five} == 5", "placeholder was not supported between two constants with operator: =="),
        ("(id > 1) == (id < 3)", "not supported to combine multiple fields"),
        ("tags == 1", "comparisons between Array[VarChar] and Int64 are not supported"),
        ("tags[0] == 1", "comparisons between Array[VarChar] and Int64 are not supported"),
        ("tags == [1]", "comparisons between Array[VarChar] and Array are not supported"),
        ("nums > [1]", "can not comparisons array fields directly"),
        ("1 < nums < 3", "can not comparisons array fields directly"),
        ("nums in [1]", "value 'int64_val:1' in list cannot be casted to Array"),
        ("nums[0] in ['a']", "value 'string_val:\"a\"' in list cannot be casted to Int32"),
        ("nums[0] like 'a'", "like operation on non-string or no-json field is unsupported"),
        ("nums[0] == id", "field-to-field comparison involving ARRAY fields is not supported"),
        ("array_length(nums) == id", "field-to-field comparison involving ARRAY fields is not supported"),
        (
            "nums[0] is null",
            "IsNull/IsNotNull operations are not supported on array element access, got: nums[0]is null",
        ),
        ("exists nums", "exists operations are only supportted on json field, got:Array"),
        ("array_contains(id, 1)", "contains operation are only supported on json or array fields now, got: id"),
        ("array_contains_any(nums[0], [1])", _ONLY_ARRAYS.format("contains_any", "nums[0]")),
        ("json_contains_all('a', [1])", _ONLY_ARRAYS.format("contains_all", "'a'")),
        ("array_contains(nums, id)", "contains operation are only supported explicitly specified element, got: id"),
        ("array_contains(nums, [1])", "cannot cast value to Int32, value: array_val:{array:{int64_val:1}}"),
        ("array_contains(nums, 'a')", 'cannot cast value to Int32, value: string_val:"a"'),
        ("array_contains(nums, 1.5)", "cannot cast value to Int32, value: float_val:1.5"),
        ("array_contains_all(nums, 1)", "ContainsAll operation element must be an array"),
        (
            "array_contains_any(nums, [1, 'a'])",
            "ContainsAny operation can't compare between array element type: Int32 and VarChar",
        ),
        (
            "array_length(id) == 1",
            "array_length operation are only supported on json, array or array-of-vector fields now, "
            "got: array_length(id)",
        ),
    ],
)
def test_filters_that_do_not_fit_the_schema_are_refused_with_milvus_text(text: str, detail: str) -> None:
    assert refusal(text, STRICT_SCHEMA, **TEMPLATES) == detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id", "predicate is not a boolean expression: id, data type: Int64"),
        (" 5", "predicate is not a boolean expression:  5, data type: Int64"),
        ("flag", "predicate is not a boolean expression: flag, data type: Bool"),
        ("id == {x}", "the value of expression template variable name {x} is not found"),
        ("1 < id < {x}", "the upper value of expression template variable name {x} is not found"),
        ("id in {five}", "the value of term expression template variable {five} is not array"),
        ("id in {mixed}", 'cannot cast value to Int64, value: string_val:"a"'),
        ("id == {text}", 'cannot cast value to Int64, value: string_val:"ab"'),
        ("id == {none}", "expression elements can only be scalars"),
        ("id == {huge}", "expression elements can only be scalars"),
        ("nums['a'] == 1", "can only access array field with integer index"),
        ("nums[0][0] == 1", "can only access array field with integer index"),
        ("array_contains_any(nums, {five})", "ContainsAny operation element must be an array"),
        ("array_length(nums)", "predicate is not a boolean expression: array_length(nums), data type: Int64"),
        ("name like {five}", "the value of like expression template variable {five} is not string"),
    ],
)
def test_an_unplannable_filter_is_refused_without_quoting_it(text: str, message: str) -> None:
    with pytest.raises(ParameterInvalid) as caught:
        compiled(text)
    assert caught.value.message == f"{message}: query plan failed: invalid parameter"


def test_an_unknown_name_is_a_key_of_the_dynamic_field() -> None:
    for text in ("color == 1", "$meta['color'] == 1"):
        predicate = compiled(text)
        assert isinstance(predicate, Compare)
        assert (predicate.target.field_id, predicate.target.path) == (IDS["$meta"], ("color",))
    nested = compiled("color['a'][0] is not null")
    assert isinstance(nested, Exists)
    assert nested.target.path == ("color", "a", 0)


def test_null_is_refused_as_a_value_unless_a_field_has_that_name() -> None:
    for text in ("null == 1", "NULL is null", "id in [null]"):
        with pytest.raises(ParameterInvalid, match="NULL literal is not supported"):
            compiled(text)
    named = CollectionSchema(with_field_ids([FieldSchema(0, "null", DataType.INT64, is_primary=True)]))
    assert isinstance(compile_filter("null == 1", named), Compare)


def test_fields_that_are_not_loaded_are_refused() -> None:
    loaded = frozenset({IDS["id"], IDS["vec"]})
    assert compile_filter("id == 1", SCHEMA, loaded)
    with pytest.raises(ParameterInvalid, match="field name is not loaded"):
        compile_filter("name == 'a'", SCHEMA, loaded)
    with pytest.raises(ParameterInvalid, match="field color is dynamic but dynamic field is not loaded"):
        compile_filter("color == 1", SCHEMA, loaded)
    with pytest.raises(ParameterInvalid, match=r"field \$meta is not loaded"):
        compile_filter("$meta['color'] == 1", SCHEMA, loaded)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("1 == 1", True),
        ("1 == 1.0", True),
        ("'a' < 'b'", True),
        ("true != true", False),
        ("not (1 > 2)", True),
        ("(1 == 1) == true", True),
        ("false and id == 1", False),
        ("id == 1 or true", True),
        ("flags[0] in [true, false] or true", True),
    ],
)
def test_constants_fold(text: str, value: bool) -> None:
    assert compiled(text) == Always(value)


def test_constants_vanish_beside_predicates() -> None:
    assert compiled("true and id == 1 and 2 > 1") == compiled("id == 1") == compiled("false or id == 1")
    assert compiled("not not id == 1") == compiled("id == 1")


def test_templates_stand_for_literals_and_lists() -> None:
    assert compiled("id == {five}") == compiled("id == 5")
    assert compiled("{five} < id") == compiled("id > 5")
    assert compiled("0 < ratio <= {half}") == compiled("0 < ratio <= 0.5")
    assert compiled("name like {text}") == compiled("name like 'ab'")
    assert keys("id in {keys}") == [1, 2]
    assert isinstance(compiled("doc['a'] in {mixed}"), In)
    assert isinstance(compiled("id not in {empty}"), Not)


def test_a_float_literal_becomes_an_integer_that_answers_the_same() -> None:
    for text, same in (
        ("id < 1.5", "id < 2"),
        ("id <= 1.5", "id <= 1"),
        ("id > -1.5", "id > -2"),
        ("id >= 1.5", "id >= 2"),
        ("id == 2.0", "id == 2"),
    ):
        assert compiled(text) == compiled(same)


def test_a_chained_range_is_two_comparisons() -> None:
    expected = compiled("id > 1 and id <= 5")
    assert compiled("1 < id <= 5") == expected
    upside_down = compiled("5 >= id > 1")
    assert isinstance(upside_down, And)
    assert upside_down == expected


def test_null_checks_of_a_path_ask_whether_it_exists() -> None:
    assert isinstance(compiled("name is null"), IsNull)
    assert isinstance(compiled("doc is null"), IsNull)
    assert compiled("doc['a'] is null") == compiled("not exists doc['a']")
    assert compiled("doc['a'] IS NOT NULL") == compiled("exists doc['a']")


def test_fields_of_one_kind_compare() -> None:
    assert isinstance(compiled("id == small"), CompareFields)
    assert isinstance(compiled("big < ratio"), CompareFields)
    assert isinstance(compiled("name != title"), CompareFields)


def test_equalities_of_one_field_become_one_look_up() -> None:
    assert isinstance(compiled("id == 1 or id == 2 or 3 == id"), In)
    assert keys("id == 1 or id == 2 or 3 == id") == [1, 2, 3]


def test_the_keys_of_a_filter_on_keys_only_are_known() -> None:
    assert keys("id == 7") == [7]
    assert keys("id in [3, 1, 3]") == [1, 3]
    assert keys("id in []") == []
    for text in ("id != 7", "id > 7", "id not in [1]", "id == 7 and flag == true", "big == 7", "id == small"):
        assert keys(text) is None
    named = CollectionSchema(with_field_ids([FieldSchema(0, "k", DataType.VARCHAR, is_primary=True)]))
    assert keys("k in ['b', 'a', 'b']", named) == ["b", "a"]
    assert keys("k in []", named) == []


def test_the_fields_a_filter_needs_are_known() -> None:
    predicate = compiled("id == small or not (color == 1 and doc['a'] is null) or true == flag")
    assert referenced_field_ids(predicate) == {IDS[n] for n in ("id", "small", "$meta", "doc", "flag")}
    assert referenced_field_ids(Always(True)) == frozenset()


def test_the_deepest_filter_that_parses_also_binds() -> None:
    depth = (MAX_DEPTH - 3) // 2
    text = "id == 1 and (id == 2 or (" * depth + "id > 3" + "))" * depth
    assert bind(parse(text), SCHEMA)


def test_strings_before_the_field_reverse_the_comparator() -> None:
    predicate = compiled("'b' <= name")
    assert isinstance(predicate, Compare)
    assert predicate.comparator is Comparator.GE


@pytest.mark.parametrize("value", ["1.5", "1e300", "-1e300", "9223372036854775808.0", "1.8446744073709552e19"])
def test_no_key_equals_a_number_beyond_int64(value: str) -> None:
    keys = primary_keys(compiled(f"id == {value}"))
    assert keys is not None
    assert len(keys) == 0
    assert primary_keys(compiled(f"id == {value} or id == 1")) is None
    assert kept(f"id == {value} or id == 1", [{"id": 1}, {"id": 2}]) == [0]
