"""A second encoder of Sparkplug payloads, by hand from the wire format, without protobuf: must give equal bytes."""

from __future__ import annotations

import struct

from edge.delivery.sparkplug.payload import DataType, Metric, Payload

VALUE_FIELDS = {
    **dict.fromkeys(("INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32"), 10),
    **dict.fromkeys(("INT64", "UINT64", "DATETIME"), 11),
    "FLOAT": 12,
    "DOUBLE": 13,
    "BOOLEAN": 14,
    **dict.fromkeys(("STRING", "TEXT", "UUID"), 15),
    **dict.fromkeys(("BYTES", "FILE"), 16),
}


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | bytes, wire: int | None = None) -> bytes:
    """wire: 0 varint, 2 length-delimited, 1 and 5 fixed; by the value's type when None."""
    kind = wire if wire is not None else 2 if isinstance(value, bytes) else 0
    body = varint(value) if isinstance(value, int) else varint(len(value)) + value if kind == 2 else value
    return varint(number << 3 | kind) + body


def one_metric(metric: Metric, *, datatypes: bool) -> bytes:
    out = b"" if metric.name is None else field(1, metric.name.encode("utf-8", "replace"))
    pairs = ((2, metric.alias), (3, metric.timestamp_ms), (4, metric.datatype if datatypes else None))
    out += b"".join(field(number, int(value)) for number, value in pairs if value is not None)
    out += field(5, 1) if metric.is_historical else b""
    out += field(7, 1) if metric.value is None else b""
    if metric.quality is not None:
        out += field(9, field(1, b"Quality") + field(2, field(1, 3) + field(3, metric.quality)))
    kind, value = metric.datatype, metric.value
    if value is None or kind is None:
        return out
    if kind in (DataType.FLOAT, DataType.DOUBLE):
        packed = struct.pack("<f" if kind == DataType.FLOAT else "<d", value)
        return out + field(VALUE_FIELDS[kind.name], packed, 5 if kind == DataType.FLOAT else 1)
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    elif not isinstance(value, bytes):
        value = int(value) & (1 << (64 if VALUE_FIELDS[kind.name] == 11 else 32)) - 1
    return out + field(VALUE_FIELDS[kind.name], value)


def twin(payload: Payload, *, datatypes: bool = True) -> bytes:
    out = b"" if payload.timestamp_ms is None else field(1, payload.timestamp_ms)
    out += b"".join(field(2, one_metric(metric, datatypes=datatypes)) for metric in payload.metrics)
    return out if payload.seq is None else out + field(3, payload.seq)
