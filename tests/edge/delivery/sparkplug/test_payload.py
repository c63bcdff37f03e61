"""Sparkplug payloads: bytes as the specification defines them, and no foreign bytes do harm."""

from __future__ import annotations

import math

import pytest
from fakes.sparkplug_twin import field, twin
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.sparkplug.payload import (
    MAX_BYTES,
    MAX_METRICS,
    DataType,
    Metric,
    Payload,
    decode,
    encode,
)
from edge.errors import PayloadError

WHOLE = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.UINT64: (0, 2**64 - 1),
    DataType.DATETIME: (0, 2**64 - 1),
}


def typed_values() -> st.SearchStrategy[tuple[DataType, object]]:
    whole = [st.tuples(st.just(kind), st.integers(least, most)) for kind, (least, most) in WHOLE.items()]
    others = [
        st.tuples(st.just(DataType.FLOAT), st.floats(width=32, allow_nan=False)),
        st.tuples(st.just(DataType.DOUBLE), st.floats(allow_nan=False)),
        st.tuples(st.just(DataType.BOOLEAN), st.booleans()),
        st.tuples(st.sampled_from([DataType.STRING, DataType.TEXT, DataType.UUID]), st.text(max_size=50)),
        st.tuples(st.sampled_from([DataType.BYTES, DataType.FILE]), st.binary(max_size=50)),
        st.tuples(st.sampled_from(list(WHOLE)), st.none()),
    ]
    return st.one_of(*whole, *others)


numbers = st.none() | st.integers(0, 2**64 - 1)
metrics = st.builds(
    lambda typed, **more: Metric(datatype=typed[0], value=typed[1], **more),
    typed_values(),
    name=st.none() | st.text(max_size=30),
    timestamp_ms=numbers,
    alias=numbers,
    is_historical=st.booleans(),
    quality=st.sampled_from([None, 0, 192, 500]),
)
payloads = st.builds(
    Payload, timestamp_ms=numbers, metrics=st.lists(metrics, max_size=5).map(tuple), seq=st.none() | st.integers(0, 255)
)


@given(payload=payloads, datatypes=st.booleans())
def test_two_encoders_give_equal_bytes(*, payload: Payload, datatypes: bool) -> None:
    """The protobuf runtime and the one written by hand agree on every payload, byte for byte."""
    assert encode(payload, datatypes=datatypes) == twin(payload, datatypes=datatypes)


@given(payloads)
def test_encoding_and_decoding_are_inverse(payload: Payload) -> None:
    """All fields of all types survive the way out and in."""
    assert decode(encode(payload)) == payload


def test_known_bytes() -> None:
    """One metric of each field, worked out by hand from the field numbers of section 6.4.1."""
    payload = Payload(2, (Metric("a", DataType.INT32, -1, timestamp_ms=3, alias=4, quality=500),), 5)
    properties = bytes([10, 7]) + b"Quality" + bytes([18, 5, 8, 3, 24, 0xF4, 0x03])
    metric = bytes([10, 1]) + b"a" + bytes([16, 4, 24, 3, 32, 3, 74, len(properties)]) + properties
    metric += bytes([80, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F])
    assert encode(payload) == bytes([8, 2, 18, len(metric)]) + metric + bytes([24, 5])


@pytest.mark.parametrize(("kind", "bits"), [(DataType.INT8, 8), (DataType.INT16, 16), (DataType.INT32, 32)])
def test_negative_numbers_of_any_host_are_read(kind: DataType, bits: int) -> None:
    """-1 may come extended to 32 or to 64 bits, or in the width of its type, in either integer field."""
    for number, raw in ((10, (1 << 32) - 1), (10, (1 << bits) - 1), (11, (1 << 64) - 1)):
        data = field(2, field(4, kind) + field(number, raw))
        assert decode(data).metrics[0].value == -1, (number, raw)


def test_data_messages_leave_the_types_out() -> None:
    """tck-id-payloads-metric-datatype-not-req: a DATA metric has no datatype, and its value is still there."""
    data = encode(Payload(1, (Metric(None, DataType.BOOLEAN, value=True, alias=7),), 0), datatypes=False)
    metric = decode(data).metrics[0]
    assert metric.datatype is None
    assert metric.value is True


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DataType.INT8, 128),
        (DataType.INT32, -(2**31) - 1),
        (DataType.UINT64, -1),
        (DataType.UINT64, 2**64),
        (DataType.INT64, 1.5),
        (DataType.INT64, True),
        (DataType.DOUBLE, "1"),
        (DataType.DOUBLE, True),
        (DataType.FLOAT, 1e39),
        (DataType.STRING, 5),
        (DataType.STRING, b"x"),
        (DataType.BOOLEAN, "yes"),
        (DataType.BYTES, "text"),
        (DataType.DATASET, "anything"),
        (None, 1),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_refused(kind: DataType | None, value: object) -> None:
    """Rather an error here than a wrong number at the host."""
    with pytest.raises(ValueError, match="thing"):
        encode(Payload(1, (Metric("thing", kind, value),)))  # type: ignore[arg-type]


def test_seq_outside_a_byte_is_refused() -> None:
    """tck-id-payloads-sequence-num-incrementing: never above 255."""
    with pytest.raises(ValueError, match="256"):
        encode(Payload(1, (), 256))


def test_lone_surrogates_are_replaced() -> None:
    """A lone surrogate, as file names may have, becomes a question mark instead of an error."""
    assert decode(encode(Payload(1, (Metric("a", DataType.STRING, "x\udcff"),)))).metrics[0].value == "x?"


def test_infinite_and_tiny_numbers_survive() -> None:
    """Doubles are not rounded, and an infinite float is not too large for its type."""
    for value in (math.inf, 5e-324, -0.0):
        assert decode(encode(Payload(1, (Metric("a", DataType.DOUBLE, value),)))).metrics[0].value == value
    assert decode(encode(Payload(1, (Metric("a", DataType.FLOAT, -math.inf),)))).metrics[0].value == -math.inf


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_read_but_never_raises_anything_else(data: bytes) -> None:
    """Random bytes: a payload, or PayloadError."""
    try:
        decode(data)
    except PayloadError:
        pass


@given(payloads, st.data())
def test_a_damaged_payload_never_raises_anything_else(payload: Payload, data: st.DataObject) -> None:
    """A few bytes of a good message changed, cut off or added."""
    good = bytearray(encode(payload))
    for _ in range(data.draw(st.integers(1, 4))):
        if good:
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(good)))
    try:
        decode(bytes(good[:end]) + data.draw(st.binary(max_size=8)))
    except PayloadError:
        pass


def nested(depth: int) -> bytes:
    """A template in a template in a template."""
    inner = b""
    for _ in range(depth):
        inner = field(2, field(4, DataType.TEMPLATE) + field(18, inner))
    return inner


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x12" * (MAX_BYTES + 1), "at most"),
        (field(2, b"") * (MAX_METRICS + 1), "metrics"),
        (field(2, field(1, b"\xff\xfe")), "UTF-8|payload"),
        (field(2, field(4, DataType.STRING) + field(15, b"\xff")), "UTF-8|payload"),
        (field(2, field(4, DataType.BOOLEAN) + field(15, b"true")), "carries string_value"),
        (field(2, field(4, DataType.INT8) + field(10, 4711)), "does not fit"),
        (field(2, field(4, DataType.UINT32) + field(11, 2**40)), "does not fit"),
        (field(2, field(4, 99) + field(10, 1)), "unknown type"),
        (field(2, field(9, field(1, b"Quality"))), "unequal numbers"),
        (b"ONLINE", "not a Sparkplug payload"),
        (b'{"online": true}', "not a Sparkplug payload"),
    ],
)
def test_invalid_payloads_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    """Too long, too many, no UTF-8, a value of another type, half of a property: PayloadError."""
    with pytest.raises(PayloadError, match=reason):
        decode(data)


def test_deep_nesting_costs_nothing() -> None:
    """Templates are left unread, so that ten thousand levels are one level."""
    assert decode(nested(10_000)).metrics[0].value is None


def test_unknown_fields_are_skipped() -> None:
    """Extensions and fields of later versions do not hide what is known."""
    extra = field(77, b"later") + field(78, 5)
    payload = decode(extra + field(2, extra + field(1, b"a") + field(4, 11) + field(14, 1)) + field(3, 9) + extra)
    assert payload == Payload(None, (Metric("a", DataType.BOOLEAN, value=True),), 9)


def test_values_of_kinds_not_described_are_null() -> None:
    """A data set, a template and an extension are read as null."""
    for number, kind in ((17, DataType.DATASET), (18, DataType.TEMPLATE), (19, DataType.INT32)):
        assert decode(field(2, field(4, kind) + field(number, b"\x08\x01"))).metrics[0].value is None
