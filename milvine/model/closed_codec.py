"""Values of a closed set of classes as bytes, and back: MessagePack, with Arrow IPC streams for columns.

Only the named classes can be encoded or decoded, so bytes from another process make nothing but plain records. Both
processes must have the same classes with the same fields; `fingerprint` tells.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

Form = tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]
"""What of an object is encoded, and the object from that."""
_VERSION = 1
_PLAIN = frozenset({type(None), bool, float, bytes})
_LEAST, _BEYOND = -(2**63), 2**64
_TUPLE, _LIST, _SET, _DICT, _NUMBERS, _NUMBER, _ARROW, _TABLE, _RECORD, _ENUM, _LONG, _TEXT = range(12)
"""The first item of each encoded list says what it is."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


_MANY = 16
"""Longer tuples are looked at as a whole first."""


class NotDecodable(Exception):
    """Bytes that are not of this codec."""


def _ipc(batch: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _table(content: bytes) -> Any:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


def _array(content: bytes) -> Any:
    column = _table(content).column(0)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _numbers(dtype: str, shape: Iterable[int], content: bytes) -> Any:
    # Copied, since what arrives may be changed in place.
    return np.frombuffer(content, np.dtype(dtype)).reshape(tuple(shape)).copy()


class ClosedCodec:
    """`classes` are dataclasses and enumerations; `forms` are for objects with other contents."""

    def __init__(self, classes: Iterable[type], forms: Mapping[type, Form]) -> None:
        self._forms = dict(forms)
        # Subclasses that are encoded as their base class have its name.
        names = {one: f"{one.__module__.rpartition('.')[2]}.{one.__qualname__}" for one in (*classes, *forms)}
        self._names = names
        self._classes = {name: one for one, name in names.items()}
        assert len(self._classes) == len(names), "two classes have the same name"
        self._fields: dict[type, tuple[str, ...]] = {
            one: tuple(f.name for f in dataclasses.fields(one) if f.init)
            for one in names
            if dataclasses.is_dataclass(one) and one not in self._forms
        }
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        parts = [f"{_VERSION} {pa.__version__.partition('.')[0]}"]
        for name, one in sorted(self._classes.items()):
            members = [str(m.value) for m in one] if issubclass(one, Enum) else self._fields.get(one, ())
            parts.append(f"{name} {','.join(members)}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def encode(self, value: Any) -> bytes:
        """Raises TypeError for an object of another class."""
        return _encode(self._tree(value))

    def decode(self, content: bytes) -> Any:
        """Raises NotDecodable."""
        try:
            return self._value(_decode(content))
        except (msgspec.MsgspecError, pa.ArrowException, KeyError, IndexError, ValueError, TypeError) as error:
            raise NotDecodable(f"{type(error).__name__}: {error}") from error

    def _tree(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return value if _LEAST <= value < _BEYOND else [_LONG, str(value)]
        if kind is str:
            return value if value.isascii() else _text(value)
        if kind is tuple:
            if len(value) > _MANY and _are_small_integers(value):
                return [_TUPLE, *value]
            return [_TUPLE, *map(self._tree, value)]
        name = self._names.get(kind)
        if name is not None:
            return self._object(name, kind, value)
        if kind is np.ndarray:
            if value.dtype.hasobject:
                raise TypeError("an array of objects cannot be sent")
            return [_NUMBERS, value.dtype.str, value.shape, value.tobytes()]
        return self._container(kind, value)

    def _object(self, name: str, kind: type, value: Any) -> Any:
        if isinstance(value, Enum):
            return [_ENUM, name, value.value]
        form = self._forms.get(kind)
        if form is not None:
            return [_RECORD, name, *map(self._tree, form[0](value))]
        return [_RECORD, name, *(self._tree(getattr(value, field)) for field in self._fields[kind])]

    def _container(self, kind: type, value: Any) -> Any:
        if issubclass(kind, list):
            return [_LIST, *map(self._tree, value)]
        if issubclass(kind, Mapping):
            return [_DICT, *(self._tree(part) for pair in value.items() for part in pair)]
        if issubclass(kind, frozenset | set):
            return [_SET, *map(self._tree, value)]
        if issubclass(kind, np.generic):
            return [_NUMBER, value.dtype.str, value.tobytes()]
        if issubclass(kind, pa.ChunkedArray):
            value = value.combine_chunks()
        if isinstance(value, pa.Array):
            return [_ARROW, _ipc(pa.record_batch([value], names=["value"]))]
        if issubclass(kind, pa.Table):
            return [_TABLE, _ipc(value)]
        raise TypeError(f"an object of {kind.__module__}.{kind.__qualname__} cannot be sent")

    def _value(self, tree: Any) -> Any:
        if type(tree) is not list:
            return tree
        tag = tree[0]
        if tag == _TUPLE:
            if len(tree) > _MANY and list not in set(map(type, tree)):
                return tuple(tree[1:])
            return tuple([self._value(one) for one in tree[1:]])
        if tag == _RECORD:
            kind = self._classes[tree[1]]
            parts = [self._value(one) for one in tree[2:]]
            form = self._forms.get(kind)
            if form is None and len(parts) != len(self._fields[kind]):
                raise ValueError(f"{tree[1]} has other fields")
            return kind(*parts) if form is None else form[1](*parts)
        if tag == _ENUM:
            return self._classes[tree[1]](tree[2])
        if tag == _DICT:
            parts = [self._value(one) for one in tree[1:]]
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if tag in (_LIST, _SET):
            items = [self._value(one) for one in tree[1:]]
            return items if tag == _LIST else frozenset(items)
        return _LEAVES[tag](*tree[1:])


def _are_small_integers(values: tuple[Any, ...]) -> bool:
    """Such as the ids of a thousand segments, which need not be looked at one by one."""
    return set(map(type, values)) == {int} and min(values) >= _LEAST and max(values) < _BEYOND


def _text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return [_TEXT, value.encode("utf-8", "surrogatepass")]
    return value


_LEAVES: dict[int, Callable[..., Any]] = {
    _NUMBERS: _numbers,
    _NUMBER: lambda dtype, content: np.frombuffer(content, np.dtype(dtype))[0],
    _ARROW: _array,
    _TABLE: _table,
    _LONG: int,
    _TEXT: lambda content: content.decode("utf-8", "surrogatepass"),
}
