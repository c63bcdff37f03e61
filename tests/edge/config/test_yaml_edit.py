"""A change in the text of a YAML file touches its own lines, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edge.config.new_file import NewBroker, NewCamera, NewConfig, text_of
from edge.config.yaml_edit import changed
from edge.errors import ConfigError

MANUAL = (Path(__file__).parents[3] / "config.yaml").read_text("utf-8")


def lines_between(before: str, after: str) -> tuple[list[str], list[str]]:
    """(lines that are gone, lines that are new)."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_only_the_changed_lines_of_the_manual_differ():
    """A node, a broker with a login, and a second camera: comments and all other keys stay."""
    broker = NewBroker("mqtts://b:8883", "u", "mqtt-password")
    new = NewConfig("plant-7", [NewCamera("side", "rtsp://u:${file:x}@h/s")], broker, kept=["top"])
    gone, made = lines_between(MANUAL, text_of(new, MANUAL))
    assert gone == ["node: line3", "  broker: embedded"]
    assert made[:2] == ["node: plant-7", "  broker: mqtts://b:8883"]
    assert made[-1] == "  - {name: side, source: 'rtsp://u:${file:x}@h/s'}"
    assert "  username: u" in text_of(new, MANUAL).splitlines()


def test_what_is_already_so_changes_nothing():
    """The same answers give the same text."""
    broker = NewBroker("embedded")
    assert text_of(NewConfig("line3", [], broker, kept=["top"]), MANUAL) == MANUAL
    assert text_of(NewConfig("line3", [], None, kept=["top"]), MANUAL) == MANUAL


@pytest.mark.parametrize(
    ("text", "place", "value", "wanted"),
    [
        ("a: 1 # one\nb: 2\n", ("a",), 7, "a: 7 # one\nb: 2\n"),
        ("a: 1", ("b",), 2, "a: 1\nb: 2\n"),
        ("", ("b", "c"), 2, "b: {c: 2}\n"),
        ("a:\n    # in\n    b: 1\n\n# end\n", ("a", "c"), 2, "a:\n    # in\n    c: 2\n    b: 1\n\n# end\n"),
        ("a: {b: 1}\n# end\n", ("a", "c"), 2, "a: {b: 1, c: 2}\n# end\n"),
        ("a:\n# end\n", ("a", "c"), 2, "a: {c: 2}\n# end\n"),
        ("l:\n- x\n# y follows\n- y\n# end\n", ("l",), ["y", "z"], "l:\n# y follows\n- y\n- z\n# end\n"),
        ("l: &l [x]\nm: *l\n", ("l",), ["y"], "l: [y]\nm: [x]\n"),
        ("a: 'x: y'\n", ("a",), "p: q # r", "a: 'p: q # r'\n"),
    ],
)
def test_value_is_changed_where_it_stands(text, place, value, wanted):
    """Comments stay beside what they explain; what cannot be edited is written anew."""
    found = changed(text, {place: value})
    assert yaml.safe_load(found) == yaml.safe_load(wanted)
    if "&" not in text and "# y" not in text:
        assert found == wanted


def test_text_that_is_no_yaml_is_refused():
    """Nothing is guessed into a file that cannot be read."""
    with pytest.raises(ConfigError, match="YAML"):
        changed("a: [", {("b",): 1})
