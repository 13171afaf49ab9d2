"""The library's message dataclasses as Flower records, and back. The one module that knows both."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from twinweave.errors import BY_NAME, ProtocolError
from twinweave.protocols import wire
from twinweave.protocols.channel.messages import ErrorReply

M = TypeVar("M")
_SCALARS, _ARRAYS, _ERROR = "scalars", "arrays", "error"


def pack(message: Any) -> RecordDict:
    """Message dataclass -> records."""
    scalars, arrays = wire.flatten(message)
    packed = {name: Array(np.ascontiguousarray(array)) for name, array in arrays.items()}
    name = _ERROR if isinstance(message, ErrorReply) else _SCALARS
    return RecordDict({name: ConfigRecord(dict(scalars)), _ARRAYS: ArrayRecord(packed)})


def unpack(cls: type[M], content: RecordDict) -> M:
    """Records -> reply. Raises the AppError that the party reported, or ProtocolError."""
    if _ERROR in content:
        report = wire.build(ErrorReply, dict(content[_ERROR]), {})
        raise BY_NAME.get(report.error, ProtocolError).restore(report.message)
    return unpack_request(cls, content)


def unpack_request(cls: type[M], content: RecordDict) -> M:
    """Records -> message of that class and no other. Raises ProtocolError."""
    if set(content) != {_SCALARS, _ARRAYS}:
        raise ProtocolError(f"{cls.__name__}: not a message of this application.")
    scalars, arrays = content[_SCALARS], content[_ARRAYS]
    if not isinstance(scalars, ConfigRecord) or not isinstance(arrays, ArrayRecord):
        raise ProtocolError(f"{cls.__name__}: not a message of this application.")
    return wire.build(cls, dict(scalars), {name: _array(array) for name, array in arrays.items()})


def _array(array: Array) -> NDArray[Any]:
    """Raises ProtocolError where bytes, shape and dtype do not fit."""
    try:
        found: NDArray[Any] = array.numpy()
    except Exception:  # of numpy's, Python's own tokenizer's, or memory's: the bytes are hostile
        raise ProtocolError("an array is malformed. Run the same version everywhere.") from None
    if found.dtype.kind not in "biuf":
        raise ProtocolError("an array is not one of numbers. Run the same version everywhere.")
    return found


def text(value: str) -> ConfigRecord:
    """One string as a record, for a party's context."""
    return ConfigRecord({"value": value})


def read_text(record: Any) -> str:
    return str(record["value"])
