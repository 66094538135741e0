"""What a filter does to the words of a stream. It sees each distinct word once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from milvine.analysis.terms import Int32, Int64, Places, Stream
from milvine.errors import ParameterTooLarge

MAX_TERMS = 1 << 24
"""So many terms may be made of one block of texts, which bounds the memory of long lists of synonyms."""


class Filter(ABC):
    @abstractmethod
    def apply(self, stream: Stream) -> Stream: ...


@dataclass(frozen=True)
class Renaming(Filter):
    """Another word for each word. `is_array_wide`: a kernel that is cheaper than finding the distinct words."""

    rename: Callable[[pa.StringArray], pa.StringArray]
    is_array_wide: bool = False

    def apply(self, stream: Stream) -> Stream:
        found = stream if self.is_array_wide else stream.encoded()
        return replace(found, words=self.rename(found.words))


@dataclass(frozen=True)
class Dropping(Filter):
    """Without the words for which `keeps` is false. The places of the others stay, as in Milvus."""

    keeps: Callable[[pa.StringArray], pa.BooleanArray]

    def apply(self, stream: Stream) -> Stream:
        found = stream.encoded()
        return found.kept(np.asarray(self.keeps(found.words).to_numpy(zero_copy_only=False), np.bool_))


class Expansion(NamedTuple):
    """For each word the number of new words, all new words in order, and for each its step: how many places it stands
    after the first place of its token, one place long, or -1 for the place of the whole token."""

    counts: Int64
    words: pa.StringArray
    steps: Int32


@dataclass(frozen=True)
class Expanding(Filter):
    """Several words, or none, for each word."""

    expand: Callable[[pa.StringArray], Expansion]

    def apply(self, stream: Stream) -> Stream:
        found = stream.encoded()
        assert found.ids is not None
        expansion = self.expand(found.words)
        counts = expansion.counts[found.ids]
        if counts.sum() > MAX_TERMS:
            raise ParameterTooLarge(f"a filter makes more than {MAX_TERMS} terms of a few megabytes of text")
        sources = np.repeat(np.arange(len(counts)), counts)
        firsts = np.cumsum(expansion.counts) - expansion.counts
        ordinals = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = (firsts[found.ids][sources] + ordinals).astype(np.int32)
        before = np.concatenate(([0], np.cumsum(counts)))
        places = None if found.places is None else _stepped(found.places.at(sources), expansion.steps[ids])
        return Stream(before[found.offsets], expansion.words, ids, places)


def _stepped(places: Places, steps: npt.NDArray[np.int32]) -> Places:
    """A step beyond the length of its token does not count, as in Milvus."""
    moved = np.where((steps > 0) & (steps <= places.lengths), steps, 0)
    lengths = np.where(steps >= 0, 1, places.lengths)
    return places._replace(positions=places.positions + moved, lengths=lengths.astype(np.int32))
