"""Text -> tree, without a schema, so that trees are cached by text alone.

The parser is a table with its own stack, so nesting takes no Python frames while parsing. MAX_DEPTH bounds the
recursion of the later steps (check, evaluate).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import cache_from_source
from pathlib import Path
from typing import cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, v_args

from milvine.expr import tree
from milvine.expr.errors import ArgumentError, FilterError
from milvine.expr.folding import fold, fold_signed, shortened
from milvine.expr.literals import decode_index, decode_list, decode_number, decode_pattern, decode_string
from milvine.expr.tree import Comparator, ContainsMode, Literal, Node, Operation, Scalar
from milvine.model.json_paths import JsonPath
from milvine.sized_cache import SizedCache

MAX_DEPTH = 128
"""Nested nodes or lists; parentheses alone and chains of and/or do not count."""
MAX_TOKENS = 200_000
"""A list of literals of any length is one token."""
_CACHED_TEXT_CHARACTERS = 16_384
"""Longer texts, mostly lists of keys, are seldom repeated and would hold memory."""
_TREE_BYTES_PER_CHARACTER = 36
"""Memory of a tree of short comparisons (measured)."""
_CACHE_BYTES = 16 << 20

_STEP = re.compile(r"""\[(?:(?P<key>[rR]?(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'))|(?P<index>\d+))\]""")


def _start(token: Token) -> int:
    return token.start_pos or 0


@v_args(inline=True)
class _TreeBuilder(Transformer[Token, Node]):
    def disjunction(self, *operands: Node) -> Node:
        return tree.Or(operands[0].position, operands)

    def conjunction(self, *operands: Node) -> Node:
        return tree.And(operands[0].position, operands)

    def negation(self, sign: Token, operand: Node) -> Node:
        return tree.Not(_start(sign), operand)

    def comparison(self, left: Node, sign: Token, right: Node) -> Node:
        return tree.Comparison(left.position, left, Comparator(sign), right)

    def chained_range(self, first: Node, sign: Token, middle: Node, other_sign: Token, last: Node) -> Node:
        signs = Comparator(sign), Comparator(other_sign)
        return tree.ChainedRange(first.position, first, signs[0], middle, signs[1], last)

    def membership(self, operand: Node, values: Node) -> Node:
        return tree.Membership(operand.position, operand, values)

    def exclusion(self, operand: Node, _: Token, values: Node) -> Node:
        return tree.Not(operand.position, self.membership(operand, values))

    def like(self, operand: Node, pattern: Node) -> Node:
        return tree.Like(operand.position, operand, pattern)

    def regex(self, operand: Node, sign: Token, pattern: Node) -> Node:
        node = tree.Regex(operand.position, operand, pattern)
        return tree.Not(operand.position, node) if sign == "!~" else node

    def regex_literal(self, operand: Node, token: Token) -> Node:
        """One token for the operator and its pattern, since a pattern has its own escapes."""
        sign, quoted = Token("REGEX", token[:2]), token[2:].lstrip()
        return self.regex(operand, sign, Literal(_start(token), decode_pattern(quoted), quoted))

    def is_null(self, column: tree.Column) -> Node:
        return tree.IsNull(column.position, column)

    def is_not_null(self, column: tree.Column) -> Node:
        return tree.IsNull(column.position, column, is_negated=True)

    def exists(self, word: Token, operand: Node) -> Node:
        return tree.Exists(_start(word), operand)

    def contains(self, word: Token, operand: Node, values: Node) -> Node:
        mode = ContainsMode(word.lower().partition("_contains")[2].lstrip("_"))
        return tree.Contains(_start(word), mode, operand, values, str(word))

    def array_length(self, word: Token, column: tree.Column | tree.StructPart) -> Node:
        return tree.ArrayLength(_start(word), column, str(word))

    def column(self, token: Token) -> Node:
        name, bracket, rest = token.partition("[")
        path: JsonPath = tuple(
            decode_string(step["key"], _start(token)) if step["key"] else decode_index(step["index"], _start(token))
            for step in _STEP.finditer(bracket + rest)
        )
        return tree.Column(_start(token), str(name), path, str(token))

    def struct_part(self, token: Token) -> Node:
        return tree.StructPart(_start(token), str(token))

    def number(self, token: Token) -> Node:
        sign, digits = (-1, token[1:].strip()) if token[0] == "-" else (1, str(token))
        return Literal(_start(token), decode_number(digits, _start(token), sign), "-" * (sign < 0) + digits)

    def arithmetic(self, left: Node, sign: Token, right: Node) -> Node:
        operation = Operation(sign)
        if isinstance(left, Literal) and isinstance(right, Literal):
            return fold(left, operation, right)
        return tree.Arithmetic(left.position, left, operation, right)

    def signed(self, sign: Token, operand: Node) -> Node:
        if sign == "+":
            return operand
        if isinstance(operand, Literal):
            return fold_signed(_start(sign), str(sign), operand)
        return tree.Signed(_start(sign), str(sign), operand)

    def enclosed(self, inner: Node) -> Node:
        match inner:
            case tree.Arithmetic():
                return replace(inner, is_enclosed=True)
            case Literal():
                return replace(inner, text=shortened(f"({inner.text})", inner.value))
            case tree.Column() | tree.LiteralList():
                return replace(inner, text=f"({inner.text})")
            case _:
                return inner

    def string(self, token: Token) -> Node:
        return Literal(_start(token), decode_string(token, _start(token)), str(token))

    def moment(self, word: Token, token: Token) -> Node:
        return tree.Moment(_start(word), decode_string(token, _start(token)), f"{word}{token}")

    def duration(self, word: Token, token: Token) -> Node:
        return tree.Duration(_start(word), decode_string(token, _start(token)), f"{word}{token}")

    def raw_string(self, token: Token) -> Node:
        return Literal(_start(token), token[2:-1], str(token))

    def boolean(self, token: Token) -> Node:
        return Literal(_start(token), token.lower() == "true", str(token))

    def literal_list(self, token: Token) -> Node:
        return tree.LiteralList(_start(token), decode_list(token, _start(token), _constant), str(token))

    def nested_list(self, *elements: Node | None) -> Node:
        found = [element for element in elements if element is not None]
        position = found[0].position
        for element in found:
            if not isinstance(element, Literal | tree.LiteralList):
                raise ArgumentError(f"array element type must be generic value, but got: {element}", element.position)
        constants = cast(list[Literal | tree.LiteralList], found)
        depth = 1 + max(c.depth if isinstance(c, tree.LiteralList) else 0 for c in constants)
        if depth > MAX_DEPTH:
            raise FilterError(f"lists are nested deeper than {MAX_DEPTH} levels", position)
        values = [c.values if isinstance(c, tree.LiteralList) else c.value for c in constants]
        return tree.LiteralList(position, values, f"[{','.join(map(str, constants))}]", depth)

    def call(self, name: Token, *arguments: Node | tree.Option | None) -> Node:
        nodes = tuple(a for a in arguments if a is not None and not isinstance(a, tree.Option))
        option = next((a for a in arguments if isinstance(a, tree.Option)), None)
        return tree.Call(_start(name), str(name), nodes, option)

    def option(self, name: Token, value: Token) -> tree.Option:
        return tree.Option(_start(name), str(name), str(value))

    def template(self, token: Token) -> Node:
        return tree.Template(_start(token), token[1:-1].strip())


class _TokenLimit:
    """Between lexer and parser, so that a text of many megabytes is refused before it is parsed to its end."""

    always_accept: tuple[str, ...] = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        for count, token in enumerate(stream):
            if count >= MAX_TOKENS:
                raise FilterError(f"expression has more than {MAX_TOKENS} tokens", _start(token))
            yield token


def _compiled(grammar: Path) -> Lark:
    """The parser, whose tables are kept where Python keeps compiled modules: they take 0.15 s of each start. Without
    such a place, and after a new version of Python, lark or the grammar, lark makes them again. As with modules, those
    that are there are used where Python may write none."""
    kept = Path(cache_from_source(str(grammar))).with_suffix(".lark")
    has_place = kept.exists() or not sys.dont_write_bytecode
    return Lark(
        grammar.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        postlex=_TokenLimit(),
        transformer=_TreeBuilder(),
        cache=has_place and str(kept),
    )


_lark = _compiled(Path(__file__).with_name("filter.lark"))


def parse(text: str) -> Node:
    """The tree of a filter that is not blank. Raises FilterError."""
    if len(text) > _CACHED_TEXT_CHARACTERS:
        return _parse(text)
    known = _parsed.get(text)
    if known is None:
        known = _parse(text)
        _parsed.put(text, known, _TREE_BYTES_PER_CHARACTER * len(text))
    return known


def _parse(text: str) -> Node:
    try:
        # With a transformer in the parser, lark returns the transformer's result and not a tree.
        root = cast(Node, _lark.parse(text))
    except UnexpectedToken as error:
        raise _syntax_error(text, error) from error
    except (UnexpectedCharacters, UnexpectedEOF) as error:
        raise FilterError(f"invalid expression: {text}", error.pos_in_stream) from error
    if tree.depth(root) > MAX_DEPTH:
        raise FilterError(f"expression is nested deeper than {MAX_DEPTH} levels", root.position)
    return root


_parsed: SizedCache[str, Node] = SizedCache("parsed_filters", _CACHE_BYTES)


def _constant(text: str) -> Scalar | None:
    """The value of a list element that is a constant to be computed."""
    try:
        node = cast(Node, _lark.parse(text))
    except UnexpectedInput:
        return None
    return node.value if isinstance(node, Literal) else None


def _syntax_error(text: str, error: UnexpectedToken) -> FilterError:
    token = error.token
    if token.type == "$END":
        last_line = text.rpartition("\n")[2]
        place = f"line {text.count(chr(10)) + 1}:{len(last_line)}"
        return FilterError(f"{place} mismatched input '<EOF>'", len(text))
    if "$END" in error.expected:
        return FilterError(f"invalid expression: {text}", _start(token))
    # Positions as ANTLR gives them: lines from 1, columns from 0.
    place = f"line {token.line}:{(token.column or 1) - 1}"
    return FilterError(f"{place} mismatched input '{token}'", _start(token))
