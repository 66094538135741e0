"""The parameters of MinHash functions, checked with Milvus's messages (internal/util/function/minhash_function.go)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from milvine.errors import ParameterInvalid
from milvine.model.functions import FunctionSchema
from milvine.model.records import record
from milvine.model.schema import FieldSchema

HASH_BITS = 32
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_LEAST, _MOST = -(2**63), 2**63 - 1
_LONGEST_SHINGLE = 2**31 - 1


@record
class MinHashParams:
    """`uses_bytes`: the tokens of a text are its bytes, not its terms. `uses_sha1`: SHA-1 hashes them, not XXH3."""

    hash_count: int
    shingle_size: int
    seed: int
    uses_bytes: bool
    uses_sha1: bool


def minhash_params(function: FunctionSchema, output: FieldSchema) -> MinHashParams:
    """Raises ParameterInvalid for a wrong parameter, and for an output whose bits are not those of the hashes."""
    found: dict[str, int] = {}
    for key, value in function.params.items():
        name = key.lower()
        if name in _PARAMS:
            found[name] = _PARAMS[name](name, value)
    dim = output.dim or 0
    count = found.get("num_hashes")
    where = f"minhash function output field '{output.name}' dim {dim}"
    if count is not None and dim != count * HASH_BITS:
        raise ParameterInvalid(
            f"{where} does not match expected dim {count * HASH_BITS} "
            f"(numHashes {count} * one minhash signature size of 32bit)"
        )
    if dim % HASH_BITS:
        raise ParameterInvalid(f"{where} is not multiple of {HASH_BITS} (one minhash signature size)")
    return MinHashParams(
        hash_count=dim // HASH_BITS,
        shingle_size=min(found.get("shingle_size", 3), _LONGEST_SHINGLE),
        seed=found.get("seed", 1234),
        uses_bytes=bool(found.get("token_level", False)),
        uses_sha1=bool(found.get("hash_function", False)),
    )


def _number(name: str, text: str) -> int:
    number = int(text) if _WHOLE.fullmatch(text) else _MOST + 1
    if not _LEAST <= number <= _MOST:
        raise ParameterInvalid(f"param {name}:{text} is not a number")
    return number


def _positive(name: str, text: str) -> int:
    number = _number(name, text)
    if number <= 0:
        raise ParameterInvalid(f"param {name}:{number} must be positive")
    return number


def _hash_function(name: str, text: str) -> int:
    if text.lower() not in ("xxhash", "xxhash64", "sha1"):
        raise ParameterInvalid(f"unknown hash function: {text} (expected 'xxhash64' or 'sha1')")
    return text.lower() == "sha1"


def _token_level(name: str, text: str) -> int:
    if text.lower() not in ("char", "character", "word"):
        raise ParameterInvalid(f"unknown {name}: {text} (expected 'char' or 'word')")
    return text.lower() != "word"


_PARAMS: Mapping[str, Callable[[str, str], int]] = {
    "num_hashes": _positive,
    "shingle_size": _positive,
    "hash_function": _hash_function,
    "token_level": _token_level,
    "seed": _number,
}
"""Other parameters are ignored, as in Milvus."""
