"""The filter as written: a node per construct, with its offset in the text; names and types are not known.

`str(node)` gives the text back without spaces, as Milvus quotes expressions in its messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from milvine.model.json_paths import JsonPath
from milvine.model.records import record

Scalar = bool | int | float | str
Element = Scalar | Sequence["Element"]
"""Of a list of literals."""


class Comparator(StrEnum):
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def mirrored(self) -> Comparator:
        """The equivalent comparator with both sides swapped."""
        return _MIRRORED.get(self, self)


_MIRRORED = {
    Comparator.LT: Comparator.GT,
    Comparator.LE: Comparator.GE,
    Comparator.GT: Comparator.LT,
    Comparator.GE: Comparator.LE,
}


class Operation(StrEnum):
    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MODULO = "%"
    POWER = "**"
    BIT_AND = "&"
    BIT_OR = "|"
    BIT_XOR = "^"
    SHIFT_LEFT = "<<"
    SHIFT_RIGHT = ">>"


class ContainsMode(StrEnum):
    """How many of the elements must be present."""

    ONE = ""
    ALL = "all"
    ANY = "any"


@record
class Column:
    """A name, or a name followed by keys and indexes."""

    position: int
    name: str
    path: JsonPath
    text: str

    def __str__(self) -> str:
        return self.text


@record
class StructPart:
    """A field of the structs in an array: `array[field]`, of one struct `array[0][field]`, or in a predicate over
    structs `$[field]`."""

    position: int
    text: str

    def __str__(self) -> str:
        return self.text


@record
class Literal:
    position: int
    value: Scalar
    text: str

    def __str__(self) -> str:
        return self.text


@record
class Moment:
    """`ISO '…'`, only beside a comparator."""

    position: int
    value: str
    text: str

    def __str__(self) -> str:
        return self.text


@record
class Duration:
    """`INTERVAL '…'`, only added to a field that is compared with a moment, or subtracted from it."""

    position: int
    value: str
    text: str

    def __str__(self) -> str:
        return self.text


@record
class LiteralList:
    position: int
    values: Sequence[Element]
    text: str
    depth: int = 1
    """How deeply its lists are nested."""

    def __str__(self) -> str:
        return self.text


@record
class Template:
    """`{name}`: a value that the caller sends with the filter."""

    position: int
    name: str

    def __str__(self) -> str:
        return f"{{{self.name}}}"


@record
class Arithmetic:
    """Never of two literals, which are folded while parsing."""

    position: int
    left: Node
    operation: Operation
    right: Node
    is_enclosed: bool = False

    def __str__(self) -> str:
        text = f"{self.left}{self.operation}{self.right}"
        return f"({text})" if self.is_enclosed else text


@record
class Signed:
    """`-operand` or `~operand`. The operand is not a number, since numbers are folded while parsing."""

    position: int
    sign: str
    operand: Node

    def __str__(self) -> str:
        return f"{self.sign}{self.operand}"


@record
class Comparison:
    position: int
    left: Node
    comparator: Comparator
    right: Node

    def __str__(self) -> str:
        return f"{self.left}{self.comparator}{self.right}"


@record
class ChainedRange:
    """`lower < middle <= upper`, or downwards; both comparators point the same way."""

    position: int
    first: Node
    first_comparator: Comparator
    middle: Node
    second_comparator: Comparator
    last: Node

    def __str__(self) -> str:
        return f"{self.first}{self.first_comparator}{self.middle}{self.second_comparator}{self.last}"


@record
class Membership:
    """`operand in list`."""

    position: int
    operand: Node
    values: Node

    def __str__(self) -> str:
        return f"{self.operand}in{self.values}"


@record
class Like:
    position: int
    operand: Node
    pattern: Node

    def __str__(self) -> str:
        return f"{self.operand}like{self.pattern}"


@record
class Regex:
    position: int
    operand: Node
    pattern: Node

    def __str__(self) -> str:
        return f"{self.operand}=~{self.pattern}"


@record
class IsNull:
    """`is null`, or `is not null`."""

    position: int
    column: Column
    is_negated: bool = False

    def __str__(self) -> str:
        return f"{self.column}is {'not ' if self.is_negated else ''}null"


@record
class Exists:
    position: int
    operand: Node

    def __str__(self) -> str:
        return f"exists{self.operand}"


@record
class Contains:
    """`array_contains`, `json_contains` and their `_all` and `_any`; `word` as written."""

    position: int
    mode: ContainsMode
    operand: Node
    values: Node
    word: str

    def __str__(self) -> str:
        return f"{self.word}({self.operand},{self.values})"


@record
class ArrayLength:
    position: int
    column: Column | StructPart
    word: str

    def __str__(self) -> str:
        return f"{self.word}({self.column})"


@record
class Option:
    """`name=value` at the end of a call; `value` is the text of an integer."""

    position: int
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@record
class Call:
    """A function that is not a keyword, by its name as written."""

    position: int
    name: str
    arguments: tuple[Node, ...]
    option: Option | None = None

    def __str__(self) -> str:
        written = (*self.arguments, *(() if self.option is None else (self.option,)))
        return f"{self.name}({','.join(map(str, written))})"


@record
class Not:
    position: int
    operand: Node

    def __str__(self) -> str:
        return f"not{self.operand}"


@record
class And:
    position: int
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        return "and".join(map(str, self.operands))


@record
class Or:
    position: int
    operands: tuple[Node, ...]

    def __str__(self) -> str:
        return "or".join(map(str, self.operands))


Node = (
    Column
    | StructPart
    | Literal
    | LiteralList
    | Template
    | Moment
    | Duration
    | Arithmetic
    | Signed
    | Comparison
    | ChainedRange
    | Membership
    | Like
    | Regex
    | IsNull
    | Exists
    | Contains
    | ArrayLength
    | Call
    | Not
    | And
    | Or
)


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case And() | Or():
            return node.operands
        case Not() | Exists() | Signed():
            return (node.operand,)
        case Comparison() | Arithmetic():
            return node.left, node.right
        case ChainedRange():
            return node.first, node.middle, node.last
        case Membership() | Contains():
            return node.operand, node.values
        case Like() | Regex():
            return node.operand, node.pattern
        case Call():
            return node.arguments
        case _:
            return ()


def depth(root: Node) -> int:
    """The longest path down from `root`, in nodes, computed without recursion."""
    deepest, pending = 0, [(root, 1)]
    while pending:
        node, level = pending.pop()
        deepest = max(deepest, level)
        pending.extend((child, level + 1) for child in children(node))
    return deepest
