"""What the parser accepts, its trees, and the positions of errors."""

from __future__ import annotations

import pytest

from milvine.expr import tree
from milvine.expr.errors import FilterError
from milvine.expr.parser import MAX_DEPTH, parse
from milvine.expr.tree import Comparator


def literal(text: str) -> object:
    node = parse(f"a == {text}")
    assert isinstance(node, tree.Comparison)
    assert isinstance(node.right, tree.Literal)
    return node.right.value


def elements(text: str) -> object:
    node = parse(f"a in {text}")
    assert isinstance(node, tree.Membership)
    assert isinstance(node.values, tree.LiteralList)
    return node.values.values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x1F", 31),
        ("-0x10", -16),
        ("017", 15),
        ("0b101", 5),
        ("0", 0),
        ("+7", 7),
        ("- 7", -7),
        ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("-1.5e-3", -0.0015),
        ("True", True),
        ("FALSE", False),
        ("'it''", None),
        ("'a\"b'", 'a"b'),
        ('"a\'b"', "a'b"),
        (r"'it\'s'", "it's"),
        (r'"\u00e9\n\x41\101\\"', "é\nAA\\"),
        ('"日本"', "日本"),
    ],
)
def test_literals_have_the_values_that_go_gives_them(text: str, value: object) -> None:
    if value is None:
        with pytest.raises(FilterError):
            literal(text)
    else:
        assert literal(text) == value
        assert type(literal(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[]", []),
        ("[ ]", []),
        ("[1, 2,]", [1, 2]),
        ("[1,-2, 3.5]", [1, -2, 3.5]),
        ("['a', 'b']", ["a", "b"]),
        ("['a', \"b'c\", 'd\\'e']", ["a", "b'c", "d'e"]),
        ('["]", "["]', ["]", "["]),
        ("[True, false]", [True, False]),
        ("[0x10, 017, -0b11, 1., 1e2]", [16, 15, -3, 1.0, 100.0]),
        ("[0x1.8p0, -0X.8P+1, 0x1p-2]", [1.5, -1.0, 0.25]),
        ("[1.5, 9223372036854775807]", [1.5, 2**63 - 1]),
    ],
)
def test_lists_hold_the_same_literals_fast_or_slow(text: str, values: list[object]) -> None:
    assert elements(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "[,]",
        "[1,,2]",
        "[1 2]",
        "[null]",
        "[1, NULL]",
        "[a]",
        "[{x}]",
        '[{"k": 1}]',
        "[[a]]",
        "[[1],,[2]]",
        "[1",
        "['a]",
    ],
)
def test_lists_of_anything_else_are_refused(text: str) -> None:
    with pytest.raises(FilterError):
        parse(f"a in {text}")


def test_operators_are_words_in_both_cases_or_signs() -> None:
    expected = str(parse("not (a == 1) and b == 2 or c == 3"))
    for text in ("NOT (a == 1) AND b == 2 OR c == 3", "!(a == 1) && b == 2 || c == 3"):
        assert str(parse(text)) == expected


def test_names_may_begin_with_words_of_the_language() -> None:
    assert str(parse("order == 1 and index in[1] or not_null like 'x' or isnull is  NULL"))


def test_or_binds_weakest_and_not_binds_weaker_than_comparisons() -> None:
    node = parse("a == 1 or b == 2 and not c == 3")
    assert isinstance(node, tree.Or)
    assert isinstance(node.operands[1], tree.And)
    assert isinstance(node.operands[1].operands[1], tree.Not)
    assert isinstance(node.operands[1].operands[1].operand, tree.Comparison)


def test_paths_are_keys_and_indexes() -> None:
    node = parse("""$meta["a b"]['c\\"'][0] > 1""")
    assert isinstance(node, tree.Comparison)
    assert isinstance(node.left, tree.Column)
    assert (node.left.name, node.left.path) == ("$meta", ("a b", 'c"', 0))


def test_ranges_chain_in_one_direction_only() -> None:
    node = parse("1 < a <= 5")
    assert isinstance(node, tree.ChainedRange)
    assert (node.first_comparator, node.second_comparator) == (Comparator.LT, Comparator.LE)
    assert isinstance(parse("5 >= a > 1"), tree.ChainedRange)
    with pytest.raises(FilterError):
        parse("1 < a > 5")


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("a in", "line 1:4 mismatched input '<EOF>'", 4),
        ("a ==\n  and", "line 2:2 mismatched input 'and'", 7),
        ("a == 5 b", "invalid expression: a == 5 b", 7),
        ("a = 1", "invalid expression: a = 1", 2),
        ('a == 1 and b = "x"', 'invalid expression: a == 1 and b = "x"', 13),
        ("meta['rank' >= 3", "invalid expression: meta['rank' >= 3", 4),
        ("a == 9223372036854775808", "int64 overflow: 9223372036854775808", 5),
        (r"a like 'x\%'", "invalid syntax", 7),
        ("a == 'open", "invalid expression: a == 'open", 5),
        ("a == 1e999", 'strconv.ParseFloat: parsing "1e999": value out of range', 5),
    ],
)
def test_a_syntax_error_says_what_is_wrong_and_where(text: str, message: str, position: int) -> None:
    with pytest.raises(FilterError) as refusal:
        parse(text)
    assert (refusal.value.message, refusal.value.position) == (message, position)


@pytest.mark.parametrize(
    "text",
    [
        "array_contains(a)",
        "array_length(a, 1) == 1",
        "a =~",
        "a == r'x",
        "a = 1",
    ],
)
def test_unsupported_syntax_does_not_parse(text: str) -> None:
    with pytest.raises(FilterError):
        parse(text)


def test_positions_are_offsets_in_the_text() -> None:
    node = parse("  a == 1 and (bc < 2)")
    assert isinstance(node, tree.And)
    assert [n.position for n in node.operands] == [2, 14]


def test_long_chains_add_no_depth() -> None:
    node = parse(" or ".join(f"a == {i}" for i in range(5000)))
    assert isinstance(node, tree.Or)
    assert len(node.operands) == 5000
    assert tree.depth(node) == 3


def test_parentheses_alone_add_no_depth() -> None:
    assert str(parse("(" * 10_000 + "a == 1" + ")" * 10_000)) == "a==1"


@pytest.mark.parametrize("opening", ["not ", "not (", "!", "a == 1 and (b == 2 or ("])
def test_deep_nesting_is_refused_and_not_a_crash(opening: str) -> None:
    text = opening * 10_000 + "a == 1" + ")" * (opening.count("(") * 10_000)
    with pytest.raises(FilterError, match="nested deeper"):
        parse(text)
    with pytest.raises(FilterError):
        parse(opening * 10_000)
    nested = opening * (MAX_DEPTH // 3) + "a == 1" + ")" * (opening.count("(") * (MAX_DEPTH // 3))
    assert str(parse(nested))


def test_a_list_of_many_keys_is_one_literal() -> None:
    keys = list(range(-50_000, 50_000))
    assert elements(str(keys)) == keys
    assert elements(str([str(k) for k in keys])) == [str(k) for k in keys]


@pytest.mark.parametrize(
    "text", ["[-9223372036854775809]", "[1, 'a', 99999999999999999999999999]", "[[18446744073709551616]]"]
)
def test_integers_beyond_int64_are_refused_in_lists(text: str) -> None:
    with pytest.raises(FilterError, match="int64 overflow"):
        parse(f"a in {text}")


def test_a_float_is_finite() -> None:
    for number in ("1e400", "0x1p2000"):
        with pytest.raises(FilterError, match="value out of range"):
            parse(f"a == {number}")
