"""Regular expressions as Milvus has them: RE2's, anywhere in the text, and `.` also matches a line break.

RE2 is pyarrow's, and takes time linear in the text. A pattern that is a plain text at one end becomes a LIKE pattern.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from milvine.expr.errors import FilterError

_PLAIN = re.compile(r"(\^?)((?:\\[.+*?^${}()|\[\]\\]|[^.+*?^${}()|\[\]\\])*+)(\$?)", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<set> \[ \^? \]? (?: \[:[^\]]*:\] | \\. | [^\]\\] )*+ \] )
    | \\ (?P<kind> [A-Za-z0-9] ) | \\ (?P<escaped> . )
    | (?P<open> \( (?:\?:)? ) | (?P<close> \) ) | (?P<or> \| )
    | (?P<repeat> [*?+] | \{[0-9]+(?:,[0-9]*)?\} ) | (?P<place> [.^$] ) | (?P<literal> . )""",
    re.DOTALL | re.VERBOSE,
)
_KINDS = frozenset("dDwWsSbBAz")
"""Escapes that match no certain character, or a place; others may change how the pattern goes on."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LIKE_SPECIAL = re.compile(r"[%_\\]")


_GO_TEXTS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "trailing \\": "trailing backslash at end of expression",
}
"""RE2's errors in the words of Go's parser, which Milvus runs first."""


def check_regex(pattern: str, position: int) -> None:
    """Raises FilterError if RE2 does not accept the pattern."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
        match_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason, _, place = str(error).removeprefix("Invalid regular expression: ").partition(": ")
        reason = f"error parsing regexp: {_GO_TEXTS.get(reason, reason)}: `{place}`"
        raise FilterError(f"invalid regex pattern: {reason}", position) from error


def match_regex(texts: Any, pattern: str) -> Any:
    """pyarrow.BooleanArray for a StringArray; null stays null. The pattern has passed `check_regex`."""
    return pc.match_substring_regex(texts, f"(?s){pattern}")


def pieces_of(pattern: str) -> list[str]:
    """Texts that every match has in it, none of them empty; perhaps not all such texts. Groups are skipped."""
    pieces, depth = [""], 0
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            if pattern.startswith("?", token.end()):
                return []  # flags may change what all later characters match
            depth += 1
        elif token["close"]:
            depth -= 1
        elif depth:
            if token["kind"] and token["kind"] not in _KINDS:
                return []
            continue
        elif token["or"] or (token["kind"] and token["kind"] not in _KINDS):
            return []
        text = token["escaped"] or token["literal"]
        if text:
            pieces[-1] += text
            continue
        if token["repeat"] and token["repeat"] != "+":
            pieces[-1] = pieces[-1][:-1]
        pieces.append("")
    return [piece for piece in pieces if piece]


def as_like(pattern: str) -> str | None:
    """The LIKE pattern that matches the same, if the pattern is a text with `^` before it or `$` after it."""
    plain = _PLAIN.fullmatch(pattern)
    if plain is None or not (plain[1] or plain[3]):
        return None
    text = like_text(_ESCAPED.sub(r"\1", plain[2]))
    return f"{'' if plain[1] else '%'}{text}{'' if plain[3] else '%'}"


def like_text(text: str) -> str:
    """The LIKE pattern of the text itself."""
    return _LIKE_SPECIAL.sub(r"\\\g<0>", text)
