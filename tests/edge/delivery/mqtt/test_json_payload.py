"""JSON of foreign clients is parsed within limits."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.mqtt.json_payload import MAX_DEPTH, json_value, steps
from edge.errors import CommandError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def refusal(payload: bytes) -> tuple[str, str]:
    with pytest.raises(CommandError) as caught:
        json_value(payload)
    return caught.value.code, str(caught.value)


@given(values)
def test_json_within_the_limits_is_parsed(value: object) -> None:
    """The parsed value equals the written one."""
    text = json.dumps(value)
    if max(text.count("["), text.count("{")) < MAX_DEPTH // 2:
        assert json_value(text.encode()) == value


@given(st.binary(max_size=200))
def test_other_bytes_raise_command_errors_only(payload: bytes) -> None:
    """No other exception escapes, whatever the bytes."""
    with suppress(CommandError):
        json_value(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (b"[NaN]", "NaN is not a number"),
        (b"-Infinity", "-Infinity is not a number"),
        (b"1e400", "a number is too large"),
        (b"1" * 21, "a number is too large"),
        (b"\xff", "not UTF-8"),
        (b'"\\ud800"', "not UTF-8"),
        (b"{", "cannot be parsed"),
        (b"", "cannot be parsed"),
    ],
)
def test_json_that_could_harm_a_reader_is_refused(payload: bytes, reason: str) -> None:
    """Duplicate keys, numbers beyond a float and invalid text are refused."""
    code, words = refusal(payload)
    assert (code, reason in words) == ("bad_json", True)


def test_nesting_is_limited_before_the_text_is_parsed() -> None:
    """Brackets in strings do not count, not even in a string without an end."""
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert json_value(deepest) == json.loads(deepest)
    assert refusal(b"[" + deepest + b"]")[0] == "too_deep"
    assert refusal(b"[" * 1_000_000)[0] == "too_deep"
    assert json_value(b'["' + b"[" * 100 + b'"]') == ["[" * 100]
    assert refusal(b'["' + b"[" * 100)[0] == "bad_json"


def test_a_path_is_a_sequence_of_names_and_indices() -> None:
    """The parser accepts the forms of the configuration."""
    assert list(steps("$.a.b[2]['c d']")) == ["a", "b", 2, "c d"]
    assert list(steps("$")) == []
