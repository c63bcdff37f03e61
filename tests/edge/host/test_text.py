"""Text from outside: what `one_line` returns can be sent, stored and shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.host.text import CUT, is_valid, lines, one_line

ANY = st.text(st.characters(), max_size=200)  # half characters included


@pytest.mark.parametrize(
    ("raw", "valid"),
    [
        ("Prüfung 7.png", "Prüfung 7.png"),
        (b"Pr\xfcfung.png", "Pr\\xfcfung.png"),
        ("Pr\udcfcfung.png", "Pr\\xfcfung.png"),
        ("\ud83d", "\\ud83d"),
        ("a\nb\x00\x1b[31m", "a\\nb\\x00\\x1b[31m"),
        ("gnp.\u202ephoto", "gnp.\\u202ephoto"),
        ("פלדה", "פלדה"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_unsafe_characters_become_escapes_and_letters_stay(raw, valid):
    """Letters of any script stay; bytes that are not UTF-8, controls and turns of direction become readable."""
    assert one_line(raw) == valid


def test_long_text_is_cut_at_the_end_or_at_the_start():
    """A message keeps its start, a path its end; the limit includes the mark."""
    assert one_line("a" * 65_536, 10) == "aaaaaaa" + CUT
    assert one_line("/folder/" + "b" * 65_536 + ".png", 10, keep_end=True) == CUT + "bbb.png"
    assert len(one_line("\x00" * 65_536, 100)) == 100


def test_lines_keeps_the_ends_of_lines_only():
    """A message of several lines stays one; nothing else moves the cursor."""
    assert lines("a: 2 problems\n  b\r\x1b[2J") == "a: 2 problems\n  b\\r\\x1b[2J"


@given(ANY, st.integers(3, 50), st.booleans())
def test_result_is_valid_everywhere_and_stays_as_it_is(raw, limit, keep_end):
    """Any text becomes UTF-8 without controls, within the limit, and a second pass changes nothing."""
    safe = one_line(raw, limit, keep_end=keep_end)
    assert len(safe) <= limit
    assert is_valid(safe)
    assert json.loads(json.dumps(safe, ensure_ascii=False).encode("utf-8")) == safe
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in safe)
    assert one_line(safe, limit, keep_end=keep_end) == safe
