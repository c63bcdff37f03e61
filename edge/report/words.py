"""Numbers, rules and reasons in words, the same in every file of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from edge.coverage.grading import NOT_GRADED, REJECT

RULES: Final[Mapping[str, str]] = {
    "critical": "critical defects",
    "major": "major or critical defects",
    "minor": "defects",
    "major_in_100m": "major in any 100 m",
    "in_10m": "defects in any 10 m",
    "longest_mm": "longest defect",
    "roll_marks": "roll marks",
    "missed_share": "not inspected",
    "partial_share": "not inspected as a whole",
    "width_mm": "width",
}
CAUSES: Final[Mapping[str | None, str]] = {
    "overload": "overload",
    "bad_image": "bad image",
    "no_signal": "no signal",
    "paused": "paused",
    "unseen": "no frame showed it",
    "record": "the record has nothing",
    None: "unknown",
}
MAX_SHOWN: Final = 80
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def number(value: float | None, digits: int = 0) -> str:
    """1,043.2; unknown for None."""
    return "unknown" if value is None else f"{value:,.{digits}f}"


def meters(value: float | None, digits: int = 1) -> str:
    return "unknown" if value is None else f"{number(value, digits)} m"


def millimeters(value: float | None) -> str:
    return "unknown" if value is None else f"{number(value)} mm"


def percent(share: float | None) -> str:
    """Never rounded to 0 % or to 100 %."""
    if share is None:
        return "unknown"
    value = share * 100
    if 0 < value < 0.01:
        return "< 0.01 %"
    return "> 99.99 %" if 99.99 < value < 100 else f"{value:.2f} %"


def count(value: int, one: str) -> str:
    """1 defect, 2 defects."""
    return f"{value:,} {one}" if value == 1 else f"{value:,} {one}s"


def class_name(name: str) -> str:
    return name.replace("_", " ") or "unknown class"


def shortened(text: str, most: int = MAX_SHOWN) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def date_time(stamp: str) -> str:
    """22 Nov 2026, 14:37:21, of a UTC stamp; another text as it is."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M:%S}"


def times(started: str, ended: str | None) -> str:
    """22 Nov 2026, 14:37:21 to 14:52:08 UTC."""
    first = date_time(started)
    if ended is None:
        return f"since {first} UTC"
    last = date_time(ended)
    return f"{first} to {last[-8:] if last[:-8] == first[:-8] else last} UTC"


def rule_name(rule: Mapping[str, Any]) -> str:
    name = RULES.get(rule["rule"], str(rule["rule"]))
    return f"{name}, {rule['surface']}" if rule["surface"] else name


def rule_limit(rule: Mapping[str, Any]) -> str:
    limit = rule["limit"]
    if isinstance(limit, list | tuple):
        return f"{limit[0]:g} to {limit[1]:g} mm"
    return _value(rule["rule"], limit)


def rule_found(rule: Mapping[str, Any]) -> str:
    """What was found, and where: 3 at 702.1 m."""
    if rule["found"] is None:
        return "unknown"
    place = "" if rule["at_m"] is None else f" at {meters(rule['at_m'])}"
    return _value(rule["rule"], rule["found"]) + place


def _value(rule: str, value: float) -> str:
    if rule in ("missed_share", "partial_share"):
        return percent(value)
    if rule == "width_mm":
        return f"{value:,.1f} mm"
    return f"{value:,.0f} mm" if rule == "longest_mm" else f"{value:,.4g}"


def reasons(judgement: Mapping[str, Any]) -> list[str]:
    """Why the coil has no better grade.  Places are those of the rules: they count from where the report counts."""
    rules = judgement["rules"]
    starts = tuple(f"{rule['grade']}: {rule['rule']}" for rule in rules)
    other = [text for text in judgement["reasons"] if not (starts and text.startswith(starts))]
    names = list(dict.fromkeys(rule["grade"] for rule in rules))
    grade = judgement["grade"]
    better = names[: names.index(grade)] if grade in names else names
    against = [
        f"not {rule['grade']}: {rule_name(rule)}: {rule_found(rule)}, limit {rule_limit(rule)}"
        + (f" ({rule['why']})" if rule["holds"] is None and rule["why"] else "")
        for rule in rules
        if rule["grade"] in better and not rule["holds"]
    ]
    return [*other, *against]


def is_bad(grade: str) -> bool:
    return grade in (REJECT, NOT_GRADED)


def is_best(judgement: Mapping[str, Any]) -> bool:
    rules: Sequence[Mapping[str, Any]] = judgement["rules"]
    return bool(rules) and rules[0]["grade"] == judgement["grade"]


def mark_line(mark: Mapping[str, Any]) -> str:
    """The figures of a roll mark in one sentence."""
    rolls = f"Fits {', '.join(mark['rolls'])}." if mark["rolls"] else "No roll of the table fits."
    unseen = mark["uninspected"]
    blind = f" {unseen} turns fell on uninspected surface and are not counted." if unseen else ""
    error = f"\u00b1 {mark['period_error_m'] * 1000:.1f} mm. "
    return f"Period {error}{rolls}{blind} Chance in one coil: 1 in 10^{max(0, round(-mark['log10_chance']))}."
