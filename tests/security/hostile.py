"""Every hostile value of a message, worked out from what the message holds.

`changes` walks a message dataclass field by field, and the JSON inside its texts key by key, so
that a new field of a message or of a specification is covered by itself. A change is told by
name and applied to another message of the same class, in another run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from math import inf, nan
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from strategies import records
from twinweave.protocols import wire

Content = Callable[[Any], RecordDict | None]
Value = Callable[[Any], Any]

STRANGER = "x\x1b[2J\x07\n"
"""A name that no party has, with what a terminal would obey."""
DEEP = "[" * 100_000
NUMBERS = (-4, 0, 1, 2, 7, 10**8, 10**15, 2**63 - 1)
JSON_NUMBERS = (*NUMBERS, 0.5, 1e-300, 1e300, 10**400, nan, inf, -inf)
JUNK = (None, "", STRANGER, True, 7, [], {}, [[]], {"a": {}})  # type: ignore[var-annotated]


@dataclass(frozen=True)
class Change:
    """What becomes of a request. apply: None where it has nothing to change."""

    name: str
    apply: Content


def changes(message: Any) -> Iterator[Change]:
    """Every change of a message of this kind, as it may travel in any run."""
    for field in fields(message):
        value = getattr(message, field.name)
        for name, change in _values(value):
            yield Change(f"{field.name}{name}", _put(field.name, change))
    yield from _of_the_records(message)


def _put(name: str, change: Value) -> Content:
    def apply(message: Any) -> RecordDict | None:
        before = getattr(message, name)
        after = change(before)
        if after is _SAME or (type(after) is type(before) and _equal(after, before)):
            return None
        if isinstance(after, _Raw):
            content = records.pack(message)
            content["arrays"][name] = after.array  # type: ignore[assignment]
            return content
        if isinstance(after, dict) and any(isinstance(v, _Raw) for v in after.values()):
            raw = {k: v for k, v in after.items() if isinstance(v, _Raw)}
            rest = {k: v for k, v in after.items() if k not in raw}
            content = records.pack(replace(message, **{name: rest}))
            for key, value in raw.items():
                content["arrays"][f"{name}/{key}"] = value.array  # type: ignore[assignment]
            return content
        return records.pack(replace(message, **{name: after}))

    return apply


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


class _Same:
    pass


_SAME = _Same()


@dataclass(frozen=True)
class _Raw:
    array: Array


# --- by kind of value ----------------------------------------------------------------------


def _values(value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        yield from _dicts(value)
    elif isinstance(value, np.ndarray):
        yield from _arrays()
    elif isinstance(value, bytes):
        yield "=a number", _constant(7)
        yield from byte_changes()
    elif isinstance(value, str):
        yield from _texts(value)
    elif isinstance(value, bool):
        yield "=other", lambda v: not v
    else:
        for number in NUMBERS:
            yield f"={number}", _constant(number)
        for other in (nan, inf, True, "7", b"7"):
            yield f"={other!r}", _constant(other)


def _constant(value: Any) -> Value:
    return lambda _: value


def _texts(value: str) -> Iterator[tuple[str, Value]]:
    named = {"empty": "", "stranger": STRANGER, "deep": DEEP, "long": "a" * 10**6, "null": "null"}
    yield from ((f"={name}", _constant(text)) for name, text in named.items())
    yield "=a number", _constant(7)
    yield "=cut", lambda v: v[: len(v) // 2]
    yield "=doubled", lambda v: v + v
    yield "=path", _constant("../../../etc/passwd")
    yield from json_changes(value)


def json_changes(text: str) -> Iterator[tuple[str, Callable[[str], str]]]:
    """(name, change) of a text that is JSON. The same text: it has nothing to change."""
    try:
        tree = json.loads(text)
    except ValueError:
        return
    for name, change in _of_a_tree(tree):
        yield name, _in_json(change)


def _in_json(change: Value) -> Callable[[str], str]:
    def apply(text: str) -> str:
        try:
            changed = change(json.loads(text))
        except (ValueError, LookupError, TypeError):
            return text
        return json.dumps(changed)

    return apply


def byte_changes() -> Iterator[tuple[str, Value]]:
    yield "=empty", _constant(b"")
    yield "=cut", lambda v: v[: len(v) // 2]
    yield "=short by one", lambda v: v[:-1]
    yield "=doubled", lambda v: v + v
    yield "=zeros", lambda v: bytes(len(v))
    yield "=first flipped", lambda v: bytes([v[0] ^ 1]) + v[1:] if v else _SAME
    yield "=last flipped", lambda v: v[:-1] + bytes([v[-1] ^ 1]) if v else _SAME


def _dicts(value: dict[str, Any]) -> Iterator[tuple[str, Value]]:
    """Entries removed, added, renamed, exchanged; and every value of the first and the last."""
    yield "=none", lambda v: {}
    for key in ("", STRANGER, "a/b", "a.b", "0", "-1", "99999999999"):
        yield f"+{key!r}", lambda v, key=key: v | {key: next(iter(v.values()), b"x")}  # type: ignore[misc]
    if not value:
        return
    yield "-first", lambda v: dict(list(v.items())[1:])
    yield "-last", lambda v: dict(list(v.items())[:-1])
    yield "renamed", lambda v: {STRANGER if i == 0 else k: x for i, (k, x) in enumerate(v.items())}
    yield "turned", lambda v: dict(zip(v, list(v.values())[::-1], strict=True))
    yield "all the first", lambda v: dict.fromkeys(v, next(iter(v.values())))
    for place, label in ((0, "first"), (-1, "last")) if len(value) > 1 else ((0, "first"),):
        for name, change in _values(list(value.values())[place]):
            yield f"/{label}{name}", _at(place, change)


def _at(place: int, change: Value) -> Value:
    def apply(value: dict[str, Any]) -> Any:
        if not value:
            return _SAME
        key = list(value)[place]
        after = change(value[key])
        return _SAME if after is _SAME else value | {key: after}

    return apply


def _arrays() -> Iterator[tuple[str, Value]]:
    for dtype in ("i1", "<i4", "<i8", "u1", "<u4", "<u8", "<f2", "<f4", "<f8", "?", ">i8"):
        yield f" as {dtype}", lambda v, dtype=dtype: v.astype(dtype)  # type: ignore[misc]
    yield "=empty", lambda v: v[:0] if v.ndim else _SAME
    yield "=scalar", lambda v: v.reshape(-1)[0:1].reshape(()) if v.size else _SAME
    yield "=flat", lambda v: v.reshape(-1)
    yield "=deeper", lambda v: v[None]
    yield "=short by one", lambda v: v[:-1] if v.size else _SAME
    yield "=long by one", lambda v: np.concatenate([v, v[:1]]) if v.size else _SAME
    yield "=turned", lambda v: v[::-1].copy() if v.ndim else _SAME
    yield "=all the first", lambda v: np.full_like(v, v.flat[0]) if v.size else _SAME
    yield "=second is first", _second_is_first
    for name, value in (("least", "min"), ("most", "max")):
        yield f"={name}", lambda v, value=value: np.full_like(v, _limit(v, value))  # type: ignore[misc]
        yield f"=first {name}", lambda v, value=value: _first(v, _limit(v, value))  # type: ignore[misc]
    for number in (-1, 0, 1):
        yield f"=all {number}", lambda v, n=number: np.full(v.shape, n).astype(v.dtype)  # type: ignore[misc]
    for number in (nan, inf, -inf):  # type: ignore[assignment]
        yield f"=first {number}", lambda v, n=number: _first(v, n) if v.dtype.kind == "f" else _SAME  # type: ignore[misc]
        yield (
            f"=all {number}",
            (lambda v, n=number: np.full_like(v, n) if v.dtype.kind == "f" else _SAME),  # type: ignore[misc]
        )
    yield "=bytes", _constant(b"x")
    yield "=number", _constant(7)
    for name, array in RAW.items():
        yield f"={name}", _constant(_Raw(array))


def _second_is_first(value: NDArray[Any]) -> Any:
    if value.ndim == 0 or len(value) < 2:
        return _SAME
    changed = value.copy()
    changed[1] = changed[0]
    return changed


def _limit(value: NDArray[Any], which: str) -> Any:
    kind = np.finfo if value.dtype.kind == "f" else np.iinfo
    return getattr(kind(value.dtype), which)


def _first(value: NDArray[Any], number: Any) -> Any:
    if not value.size:
        return _SAME
    changed = value.copy()
    changed.flat[0] = number
    return changed


def _npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def _raw(dtype: str, shape: tuple[int, ...], data: bytes, stype: str = "numpy.ndarray") -> Array:
    return Array(dtype=dtype, shape=shape, stype=stype, data=data)


_HEADER = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }"
RAW = {
    "no array": _raw("int64", (3,), b"abc"),
    "no bytes": _raw("int64", (3,), b""),
    "a huge shape": _raw("int64", (1,), _npy(_HEADER % (b"<i8", b"(1000000000000,)"))),
    "a negative shape": _raw("int64", (1,), _npy(_HEADER % (b"<i8", b"(-1,)"), bytes(8))),
    "objects": _raw("object", (1,), _npy(_HEADER % (b"|O", b"(1,)"), b"\x80\x04N.")),
    "text": _raw("<U1", (1,), _npy(_HEADER % (b"<U1", b"(1,)"), bytes(4))),
    "complex": _raw("complex128", (1,), _npy(_HEADER % (b"<c16", b"(1,)"), bytes(16))),
    "dates": _raw("M8[ns]", (1,), _npy(_HEADER % (b"<M8[ns]", b"(1,)"), bytes(8))),
    "a deep header": _raw("int64", (1,), _npy(b"(" * 9000)),
    "another kind": _raw("int64", (1,), _npy(_HEADER % (b"<i8", b"(1,)"), bytes(8)), "torch"),
}
"""Arrays as bytes: what no numpy array of numbers turns into."""


# --- the record around the fields ----------------------------------------------------------


def _of_the_records(message: Any) -> Iterator[Change]:
    """What is no value of a field: fields missing, unknown, twice; records missing, unknown."""
    scalars, arrays = wire.flatten(message)
    for names, record in ((scalars, "scalars"), (arrays, "arrays")):
        for name in dict.fromkeys(key.partition("/")[0] for key in names):
            yield Change(f"{name} missing", _without(record, name))
    yield Change("no fields", lambda m: records.pack(_Nothing()))
    yield Change("unknown field", lambda m: _with(m, scalars={STRANGER: 1}))
    yield Change("unknown array", lambda m: _with(m, arrays={STRANGER: Array(np.zeros(1))}))
    yield Change("a field within a field", lambda m: _with(m, scalars={"run.x": "y"}))
    yield Change("a list", lambda m: _with(m, scalars={"run": [1, 2]}))
    yield Change("no scalars", lambda m: RecordDict({"arrays": records.pack(m)["arrays"]}))
    yield Change("no arrays", lambda m: RecordDict({"scalars": records.pack(m)["scalars"]}))
    yield Change("records exchanged", _exchanged)
    yield Change("a record too many", _one_more)
    yield Change("nothing", lambda m: RecordDict())
    for name, told in ERRORS.items():
        yield Change(name, lambda m, told=told: RecordDict({"error": ConfigRecord(dict(told))}))  # type: ignore[misc]


ERRORS: dict[str, dict[str, Any]] = {
    "an error": {"error": "AppError", "message": "x\x1b[2J"},
    "an unknown error": {"error": STRANGER, "message": "a"},
    "an error without its text": {"error": "AppError"},
    "an error that is none": {"error": 7, "message": 7},
    "a long error": {"error": "ConfigError", "message": "a" * 10**6},
}


@dataclass(frozen=True)
class _Nothing:
    pass


def _without(record: str, name: str) -> Content:
    def apply(message: Any) -> RecordDict | None:
        content = records.pack(message)
        left = {k: v for k, v in content[record].items() if k.partition("/")[0] != name}
        if len(left) == len(content[record]):
            return None
        content[record] = ConfigRecord(left) if record == "scalars" else ArrayRecord(left)  # type: ignore[arg-type]
        return content

    return apply


def _with(message: Any, scalars: Any = None, arrays: Any = None) -> RecordDict:
    content = records.pack(message)
    for name, value in (scalars or {}).items():
        content["scalars"][name] = value
    for name, value in (arrays or {}).items():
        content["arrays"][name] = value
    return content


def _exchanged(message: Any) -> RecordDict:
    return RecordDict({"scalars": ArrayRecord({}), "arrays": ConfigRecord({"a": 1})})


def _one_more(message: Any) -> RecordDict:
    content = records.pack(message)
    content["more"] = ConfigRecord({"a": 1})
    return content


# --- JSON ----------------------------------------------------------------------------------


def _of_a_tree(tree: Any) -> Iterator[tuple[str, Value]]:
    """(name, change of a whole tree): every value of it hostile, missing, or one too many.

    Of a list's entries that look alike the first stands for all.
    """
    for path, value in _paths(tree):
        where = "".join(f".{part}" for part in path)
        for name, change in _leaves(value):
            yield f"{where}{name}", _in_tree(path, change)
        if path:
            yield f"{where} missing", _in_tree(path, None)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _paths(entry, (*path, key))
    elif isinstance(value, list):
        alike: set[Any] = set()
        for i, entry in enumerate(value):
            if (looks := _looks(entry)) not in alike:
                alike.add(looks)
                yield from _paths(entry, (*path, i))


def _looks(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _looks(entry)) for key, entry in value.items())
    if isinstance(value, list):
        return tuple(sorted({repr(_looks(entry)) for entry in value}))
    return type(value).__name__


def _leaves(value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        yield "+a key", lambda v: v | {STRANGER: 1}
        others: tuple[Any, ...] = ([], {}, None, 7)
    elif isinstance(value, list):
        yield " doubled", lambda v: v + v
        yield " turned", lambda v: v[::-1]
        yield " nested", lambda v: [v]
        yield "+junk", lambda v: [*v, None]
        yield "+stranger", lambda v: [*v, STRANGER]
        others = ([], {}, None, 7)
    elif isinstance(value, bool):
        yield "=other", lambda v: not v
        others = (None, 7, "x")
    elif isinstance(value, (int, float)):
        yield " a thousandth", lambda v: v / 1000
        yield " thousandfold", lambda v: v * 1000
        others = (*JSON_NUMBERS, None, "7", [], True)
    elif isinstance(value, str):
        others = (*JUNK, "publisher", "advertiser")
    else:
        others = JUNK
    for other in others:
        yield f"={_short(other)}", _constant(other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 30 else f"{text[:10]}…"


def _in_tree(path: tuple[Any, ...], change: Value | None) -> Value:
    def apply(tree: Any) -> Any:
        if not path:
            assert change is not None
            return change(tree)
        changed = copy.deepcopy(tree)
        inner = changed
        for part in path[:-1]:
            inner = inner[part]
        if change is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = change(inner[path[-1]])
        return changed

    return apply
