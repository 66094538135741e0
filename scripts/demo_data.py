"""The demo's rows: every disease and injury of ICD-10-CM, each with a sentence vector of its description.

Both halves come out of PyPI packages and nothing is fetched at run time:

* ``simple-icd-10-cm`` carries the classification as the US National Center for Health Statistics
  publishes it: some 46,900 entries from "Cholera" to "Forced landing of spacecraft injuring occupant";
* ``wordllama`` carries a table with one trained 256-dimensional vector for each of 32,000 word pieces.
  The mean over a text's word pieces, scaled to length one, is that text's vector.

Only the packages' data files are read; their code is never imported.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

DIM = 256

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DemoData:
    """One entry of the classification in each position of every column."""

    id: NDArray[np.int64]
    """Place in the classification's own order, from 1."""
    code: list[str]
    """The ICD-10-CM code, such as ``W54.0``."""
    title: list[str]
    chapter: NDArray[np.int64]
    """1 (infections) to 22 (codes for special purposes)."""
    rarity: NDArray[np.float64]
    """Mean surprise of the title's word pieces among all titles, in bits: high for unusual wording."""
    notes: list[dict[str, Any]]
    """``section``, ``about`` (the section's title), ``level`` (0 is a category) and ``also``: synonyms."""
    leaf: list[bool]
    """Whether the entry has no narrower one below it."""
    parent: list[str | None]
    """The next wider code; None for a category."""
    vectors: Floats
    """(rows, DIM), each of length one."""

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    title: str
    chapter: int
    notes: dict[str, Any]
    leaf: bool
    parent: str | None


def load(limit: int | None = None) -> DemoData:
    """Read the classification, or its first `limit` entries, and embed every entry."""
    entries = list(_classification())[:limit]
    titles = [entry.title for entry in entries]
    vectors, rarity = _embed_all(titles)
    return DemoData(
        id=np.arange(1, len(entries) + 1, dtype=np.int64),
        code=[entry.code for entry in entries],
        title=titles,
        chapter=np.array([entry.chapter for entry in entries], dtype=np.int64),
        rarity=rarity,
        notes=[entry.notes for entry in entries],
        leaf=[entry.leaf for entry in entries],
        parent=[entry.parent for entry in entries],
        vectors=vectors,
    )


def embed(text: str) -> Floats:
    """The vector of any text, comparable with `DemoData.vectors`."""
    vectors, _ = _embed_all([text])
    return np.ascontiguousarray(vectors[0], dtype=np.float32)


def _embed_all(texts: Sequence[str]) -> tuple[Floats, NDArray[np.float64]]:
    """Vectors of the texts, and how rare each text's words are among all of them."""
    tokenizer, table = _model()
    batch = tokenizer.encode_batch([text.lower() for text in texts], add_special_tokens=False)
    pieces = [encoding.ids or [0] for encoding in batch]
    lengths = np.array([len(ids) for ids in pieces])
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    flat = np.concatenate([np.array(ids, dtype=np.int64) for ids in pieces])

    vectors = np.add.reduceat(table[flat], starts, axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    surprise = -np.log2(np.bincount(flat)[flat] / len(flat))
    return vectors, np.add.reduceat(surprise, starts) / lengths


@cache
def _model() -> tuple[Tokenizer, Floats]:
    # Set in advance, since the tokenizer would otherwise warn on standard error when we start a process.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    home = _package("wordllama")
    tokenizer = Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tensors = load_file(home / "weights" / "l2_supercat_256.safetensors")
    return tokenizer, tensors["embedding.weight"].astype(np.float32)


def _classification() -> Iterator[_Entry]:
    (tabular,) = (_package("simple_icd_10_cm") / "data").glob("icd10c*tabular*.xml")
    for chapter in ET.parse(tabular).getroot().iterfind("chapter"):
        number = int(chapter.findtext("name", "0"))
        for section in chapter.iterfind("section"):
            about = section.findtext("desc", "").rpartition(" (")[0]
            base = {"section": section.get("id", ""), "about": about}
            for category in section.iterfind("diag"):
                yield from _walk(category, number, base, None)


def _walk(node: ET.Element, chapter: int, base: dict[str, Any], above: _Entry | None) -> Iterator[_Entry]:
    """The node and everything below it, in the order of the classification."""
    also = [note.text for note in node.iterfind("inclusionTerm/note") if note.text]
    entry = _Entry(
        code=node.findtext("name", ""),
        title=node.findtext("desc", ""),
        chapter=chapter,
        notes={**base, "level": above.notes["level"] + 1 if above else 0, "also": also},
        leaf=node.find("diag") is None,
        parent=above.code if above else None,
    )
    yield entry
    for narrower in node.iterfind("diag"):
        yield from _walk(narrower, chapter, base, entry)


def _package(name: str) -> Path:
    """The directory of an installed package, found without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the demo needs the package {name}; `make setup` installs it", name=name)
    return Path(spec.origin).parent
