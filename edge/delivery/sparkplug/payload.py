"""Sparkplug B payloads as values and bytes, and the only module that imports protobuf.

This module builds the message descriptor when it is imported, from the field numbers of the specification (Sparkplug
3.0, section 6.4.1; `sparkplug_b.proto` shows them): no generated code, no compiler, and a pool of its own, so that
another library's descriptor of the same messages cannot clash. Data sets, templates and metadata are not described:
protobuf skips such fields of foreign messages, however deep they are nested.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from edge.errors import PayloadError

MAX_BYTES: Final = 256 * 1024
"""Longest foreign payload that is parsed; a command is a hundredth of it."""
MAX_METRICS: Final = 1024
MAX_PROPERTIES: Final = 64
BAD: Final = 0
GOOD: Final = 192
STALE: Final = 500
QUALITY: Final = "Quality"
SEQ_MODULUS: Final = 256


class DataType(enum.IntEnum):
    """Types of a metric's value by their number on the wire."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19


Value = bool | int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of one name at one time. None as a value means null.

    timestamp_ms: UTC, since 1970.  datatype: None only where a foreign message leaves it out; integers are then
    unsigned, as on the wire.  quality: the property of that name; None: left out, which means good.
    """

    name: str | None
    datatype: DataType | None
    value: Value
    timestamp_ms: int | None = None
    alias: int | None = None
    is_historical: bool = False
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """A message. seq: 0 to 255, absent in NDEATH and in commands.  timestamp_ms: when it was sent."""

    timestamp_ms: int | None
    metrics: tuple[Metric, ...]
    seq: int | None = None


_SIGNED: Final = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_UNSIGNED: Final = {
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
    DataType.DATETIME: 64,
}
_TEXTS: Final = {DataType.STRING, DataType.TEXT, DataType.UUID}
_BLOBS: Final = {DataType.BYTES, DataType.FILE}
_OPAQUE: Final = {DataType.DATASET, DataType.TEMPLATE}
_OTHERS: Final = {
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys(_TEXTS, "string_value"),
    **dict.fromkeys(_BLOBS, "bytes_value"),
}
_FLOAT_LIMIT: Final = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def encode(payload: Payload, *, datatypes: bool = True) -> bytes:
    """The bytes of a payload.

    datatypes: False leaves the types out, as DATA messages should (tck-id-payloads-metric-datatype-not-req).
    Raises ValueError for a value that its type cannot hold.
    """
    message = _PAYLOAD()
    if payload.timestamp_ms is not None:
        message.timestamp = payload.timestamp_ms
    if payload.seq is not None:
        if not 0 <= payload.seq < SEQ_MODULUS:
            raise ValueError(f"seq {payload.seq} is not between 0 and 255")
        message.seq = payload.seq
    for metric in payload.metrics:
        _fill(message.metrics.add(), metric, with_datatype=datatypes)
    encoded: bytes = message.SerializeToString()
    return encoded


def _fill(field: Any, metric: Metric, *, with_datatype: bool) -> None:
    if metric.name is not None:
        field.name = _text(metric.name)
    if metric.alias is not None:
        field.alias = metric.alias
    if metric.timestamp_ms is not None:
        field.timestamp = metric.timestamp_ms
    if with_datatype and metric.datatype is not None:
        field.datatype = metric.datatype
    if metric.is_historical:
        field.is_historical = True
    if metric.quality is not None:
        field.properties.keys.append(QUALITY)
        quality = field.properties.values.add()
        quality.type = DataType.INT32
        quality.int_value = metric.quality
    if metric.value is None:
        field.is_null = True
    else:
        _set_value(field, metric)


def _set_value(field: Any, metric: Metric) -> None:
    kind, value = metric.datatype, metric.value
    try:
        if kind in _SIGNED or kind in _UNSIGNED:
            bits = _SIGNED.get(kind) or _UNSIGNED[kind]
            least = -(1 << bits - 1) if kind in _SIGNED else 0
            if type(value) is not int or not least <= value < least + (1 << bits):
                raise ValueError("out of range")
            # Negative numbers are sent as two's complement in the unsigned field of 32 or 64 bits.
            if bits == 64:
                field.long_value = value & (1 << 64) - 1
            else:
                field.int_value = value & (1 << 32) - 1
        elif kind in _TEXTS and isinstance(value, str):
            field.string_value = _text(value)
        elif kind == DataType.FLOAT and isinstance(value, float) and _FLOAT_LIMIT < abs(value) < math.inf:
            raise ValueError("too large for 32 bits")
        elif kind in _OTHERS and kind not in _TEXTS and not (isinstance(value, bool) and kind != DataType.BOOLEAN):
            setattr(field, _OTHERS[kind], value)
        else:
            raise ValueError("does not fit its type")
    except (ValueError, TypeError) as error:
        kind_name = "no type" if kind is None else kind.name
        raise ValueError(f"{metric.name or metric.alias}: {value!r} as {kind_name}: {error}") from error


def _text(text: str) -> str:
    """UTF-8 cannot encode a lone surrogate; protobuf would raise."""
    return text.encode("utf-8", "replace").decode("utf-8")


def decode(data: bytes) -> Payload:
    """The payload of a foreign message.  Raises PayloadError, and nothing else, for invalid bytes."""
    if len(data) > MAX_BYTES:
        raise PayloadError(f"{len(data)} bytes; at most {MAX_BYTES} are read")
    message = _PAYLOAD()
    try:
        message.ParseFromString(data)
        if len(message.metrics) > MAX_METRICS:
            raise PayloadError(f"{len(message.metrics)} metrics; at most {MAX_METRICS} are read")
        return Payload(
            timestamp_ms=message.timestamp if message.HasField("timestamp") else None,
            metrics=tuple(_metric(field) for field in message.metrics),
            seq=message.seq if message.HasField("seq") else None,
        )
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"not a Sparkplug payload: {error}") from error


def _metric(field: Any) -> Metric:
    try:
        kind = DataType(field.datatype) if field.HasField("datatype") else None
    except ValueError:
        raise PayloadError(f"a metric of the unknown type {field.datatype}") from None
    return Metric(
        name=_read_text(field.name) if field.HasField("name") else None,
        datatype=kind,
        value=_value(field, kind),
        timestamp_ms=field.timestamp if field.HasField("timestamp") else None,
        alias=field.alias if field.HasField("alias") else None,
        is_historical=field.is_historical,
        quality=_quality(field.properties),
    )


def _value(field: Any, kind: DataType | None) -> Value:
    where = field.WhichOneof("value")
    if field.is_null or where is None or kind in _OPAQUE:
        return None
    value: Value = getattr(field, where)
    if where == "string_value":
        value = _read_text(value)
    if kind is None or where == _OTHERS.get(kind):
        return value
    if where not in ("int_value", "long_value") or (kind not in _SIGNED and kind not in _UNSIGNED):
        raise PayloadError(f"a metric of type {kind.name} carries {where}")
    assert isinstance(value, int)
    return _whole_number(value, kind)


def _read_text(text: Any) -> str:
    """Some versions of protobuf return invalid UTF-8 as bytes instead of raising."""
    if not isinstance(text, str):
        raise PayloadError("a text is not UTF-8")
    return text


def _whole_number(raw: int, kind: DataType) -> int:
    """Signed as its type requires; some hosts put 32 bits into the 64-bit field, with or without extending the sign."""
    bits = _SIGNED.get(kind) or _UNSIGNED[kind]
    low = raw & (1 << bits) - 1
    negative = kind in _SIGNED and low >> (bits - 1) == 1
    number = low - (1 << bits) if negative else low
    if raw not in (low, number & (1 << 32) - 1, number & (1 << 64) - 1):
        raise PayloadError(f"{raw} does not fit {kind.name}")
    return number


def _quality(properties: Any) -> int | None:
    if len(properties.keys) > MAX_PROPERTIES or len(properties.keys) != len(properties.values):
        raise PayloadError("the properties of a metric have unequal numbers of keys and values")
    for key, value in zip(properties.keys, properties.values, strict=True):
        if key == QUALITY and value.HasField("int_value"):
            quality: int = value.int_value
            return quality
    return None


# ---- the descriptor -------------------------------------------------------------------------------------------

_PACKAGE: Final = "defectd.sparkplug"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_MESSAGES: Final[dict[str, tuple[tuple[int, str, str], ...]]] = {
    # number, type, name; * before a type: repeated; = before a type: one of the values
    "PropertyValue": (
        (1, "uint32", "type"),
        (2, "bool", "is_null"),
        (3, "=uint32", "int_value"),
        (4, "=uint64", "long_value"),
        (5, "=float", "float_value"),
        (6, "=double", "double_value"),
        (7, "=bool", "boolean_value"),
        (8, "=string", "string_value"),
    ),
    "PropertySet": ((1, "*string", "keys"), (2, "*PropertyValue", "values")),
    "Metric": (
        (1, "string", "name"),
        (2, "uint64", "alias"),
        (3, "uint64", "timestamp"),
        (4, "uint32", "datatype"),
        (5, "bool", "is_historical"),
        (6, "bool", "is_transient"),
        (7, "bool", "is_null"),
        (9, "PropertySet", "properties"),
        (10, "=uint32", "int_value"),
        (11, "=uint64", "long_value"),
        (12, "=float", "float_value"),
        (13, "=double", "double_value"),
        (14, "=bool", "boolean_value"),
        (15, "=string", "string_value"),
        (16, "=bytes", "bytes_value"),
    ),
    "Payload": (
        (1, "uint64", "timestamp"),
        (2, "*Metric", "metrics"),
        (3, "uint64", "seq"),
        (4, "string", "uuid"),
        (5, "bytes", "body"),
    ),
}


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="defectd/sparkplug.proto", package=_PACKAGE, syntax="proto2")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        if any(kind.startswith("=") for _, kind, _ in fields):
            message.oneof_decl.add(name="value")
        for number, marked, name in fields:
            kind = marked.lstrip("*=")
            field = message.field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if marked.startswith("*") else _Field.LABEL_OPTIONAL
            if marked.startswith("="):
                field.oneof_index = 0
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


_PAYLOAD: Final = _payload_class()
