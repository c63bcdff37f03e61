"""Changes values in the text of a YAML file, and leaves its other lines and comments as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge.config import yaml_file
from edge.config.yaml_file import Span
from edge.errors import ConfigError

Place = tuple[str, ...]
"""Keys from the top of the file to a value: ("mqtt", "broker")."""
ORIGIN: Final = "the changed file"


def changed(text: str, values: Mapping[Place, Any]) -> str:
    """The text with these values at their places; a place that is missing is added.

    Where the text cannot be edited without harm (anchors, sections in braces), the whole file is written anew, without
    its comments.  Raises ConfigError when the text is not YAML.
    """
    content = yaml_file.parsed(text.encode(), ORIGIN)
    content, edited = (content, text) if isinstance(content, dict) else ({}, "")
    wanted: Mapping[str, Any] = content
    for place, value in values.items():
        wanted = _with(wanted, place, value)
    try:
        for place in values:
            edited = _edited(edited, place, content, wanted)
        is_sound = yaml_file.parsed(edited.encode(), ORIGIN) == wanted
    except ConfigError:
        is_sound = False
    return edited if is_sound else yaml_file.coded(wanted).decode()


def _with(content: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy of the content with this value."""
    head, rest = place[0], place[1:]
    inner = content.get(head)
    return {**content, head: _with(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def _edited(text: str, place: Place, content: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The text with the value at one place as in the wanted content; `changed` checks the result."""
    section: Mapping[str, Span] = yaml_file.spans(text)
    before: Any = content
    value: Any = wanted
    for depth, key in enumerate(place):
        before, value = before.get(key) if isinstance(before, dict) else None, value[key]
        span = section.get(key)
        if span is None:
            first = next(iter(section.values()), None)
            at = len(text) if depth == 0 or first is None else _line_start(text, first.key)
            ended = "" if text[:at].endswith("\n") or at == 0 else "\n"
            column = 0 if depth == 0 or first is None else first.column
            return text[:at] + ended + _lines(key, value, column) + text[at:]
        if span.inner and depth < len(place) - 1:
            section = span.inner
            continue
        if span.is_plain and not isinstance(value, dict | list):
            return text[: span.start] + _lines("k", value, 0).removeprefix("k: ").rstrip("\n") + text[span.end :]
        if span.items and isinstance(value, list) and value:
            lines = _list_lines(text, span, before, value)
        else:
            lines = _lines(key, value, span.column)
        return text[: _line_start(text, span.key)] + lines + text[_section_end(text, span.end) :]
    return text


def _list_lines(text: str, span: Span, before: list[Any], value: list[Any]) -> str:
    """A list whose items are as they stand in the text where they stay, and new otherwise."""
    starts = [_line_start(text, item) for item in span.items]
    ends = [*starts[1:], _section_end(text, span.end)]
    column = text.index("-", starts[0]) - starts[0]
    made = text[_line_start(text, span.key) : starts[0]]
    for item in value:
        if item in before:
            place = before.index(item)
            made += text[starts[place] : ends[place]]
        else:
            made += _lines("k", [item], column).partition("\n")[2]
    return made


def _lines(key: str, value: Any, column: int) -> str:
    return "".join(f"{' ' * column}{line}\n" for line in yaml_file.coded_key(key, value).splitlines())


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _section_end(text: str, index: int) -> int:
    """The end of the last line of a section: blank lines and comments before the next key belong to that."""
    lines = text[: text.find("\n", index) + 1 if "\n" in text[index:] else len(text)].splitlines(keepends=True)
    if text[:index].endswith("\n") or not text[_line_start(text, index) : index].strip():
        lines = text[: _line_start(text, index)].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return sum(map(len, lines))
