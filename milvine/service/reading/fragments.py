"""Pieces of a text around its marked words, as Milvus cuts them. All offsets are in characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from milvine.model.records import record

Span = tuple[int, int]
"""The start and the end of a marked piece of a text."""


@record
class FragmentOptions:
    """`size`: the least length of a fragment, if the text goes on. `offset`: how far before its first marked word it
    starts. `most`: how many fragments of a text there are at most. The tags are used in turn, from the first one in
    each fragment."""

    pre_tags: Sequence[str]
    post_tags: Sequence[str]
    size: int
    offset: int
    most: int


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; those that touch or overlap are one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and end <= found[-1][1]:
            continue
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def fragments(text: str, spans: Iterable[Span], options: FragmentOptions) -> list[str]:
    """The fragments of a text, with tags around its marked words."""
    found: list[str] = []
    group: list[Span] = []
    start = end = 0
    for span in merged(spans):
        if group and span[0] <= end:
            group.append(span)
            end = max(end, span[1])
            continue
        if group:
            found.append(_tagged(text, start, end, group, options))
        if len(found) >= options.most:
            return found
        start = max(0, span[0] - options.offset)
        end = min(max(span[1], start + options.size), len(text))
        group = [span]
    return [*found, _tagged(text, start, end, group, options)] if group else found


def _tagged(text: str, start: int, end: int, spans: Sequence[Span], options: FragmentOptions) -> str:
    pieces = []
    at = start
    for number, (first, last) in enumerate(spans):
        pre, post = (tags[number % len(tags)] for tags in (options.pre_tags, options.post_tags))
        pieces += [text[at:first], pre, text[first:last], post]
        at = last
    return "".join([*pieces, text[at:end]])
