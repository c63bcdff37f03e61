"""What a report says in sentences, the same on paper and on the screen."""

from __future__ import annotations

from edge.report import words
from edge.report.coil_report import SCHEMA, CoilReport


def title(report: CoilReport) -> str:
    name = "Strip without a coil" if report.coil is None else f"Coil {report.coil}"
    return f"{name}, so far" if report.is_so_far else name


def grade_word(report: CoilReport) -> tuple[str, str]:
    """What is in the grade's frame, and how good that is: good, fair, bad or none."""
    judged = report.grade
    if judged is None:
        return "no grade", "none"
    grade = str(judged["grade"])
    if words.is_bad(grade):
        return grade, "bad" if judged["product"] is not None else "none"
    return grade, "good" if words.is_best(judged) else "fair"


def why_lines(report: CoilReport) -> list[str]:
    """The grade's reasons, what is missing, and who released the coil."""
    lines = []
    judged = report.grade
    if judged is not None:
        reasons = judged["reasons"] or [f"all rules of {judged['grade']} hold"]
        shown = "; ".join(reasons[:4]) + (f"; and {len(reasons) - 4} more" if len(reasons) > 4 else "")
        by = "" if judged["product"] is None else f' Decided by the rules of "{judged["product"]}".'
        lines.append(f"{judged['grade']}{' so far' if judged['so_far'] else ''}: {shown}.{by}")
    else:
        lines.append("No grade: this is strip without a coil.")
    if report.release is not None:
        release = report.release
        why = f": {release['reason']}" if release["reason"] else ""
        lines.append(f"Released as {release['grade']} by {release['by']}, {words.date_time(release['time'])} UTC{why}.")
    if not report.is_complete:
        lines.append(f"Not complete: {missing(report)}.")
    return lines


def missing(report: CoilReport) -> str:
    """What the record does not have."""
    seq, found = report.seq, list(report.losses)
    number = seq["last"] - seq["first"] + 1 - seq["seen"]
    if number > 0:
        ranges = ", ".join(f"{a} to {b}" for a, b in seq["missing"][:5])
        found.append(words.count(number, "event") + " missing" + (f" ({ranges})" if ranges else ""))
    if seq["lost"]:
        found.append(words.count(seq["lost"], "event") + " lost without a number")
    return "; ".join(found) or "it does not say what is missing"


def map_notes(report: CoilReport) -> list[str]:
    """How the map is to be read."""
    notes = []
    if report.map.cells is not None:
        notes.append("Too many defects to show each: a square stands for those around it, in the colour of the worst.")
    if report.unplaced:
        notes.append(f"{words.count(report.unplaced, 'defect')} at unknown places not shown.")
    return notes


def width_figures(report: CoilReport) -> str:
    """The figures of the width in one sentence."""
    width = report.width
    if width is None:
        return "The width was not measured."
    text = f"Camera {width.camera}: least {width.least:,.1f} mm, mean {width.mean:,.1f} mm, most {width.most:,.1f} mm."
    if width.nominal_mm is None or width.tolerance_mm is None:
        return text + " No limits are configured."
    text += f" Ordered {width.nominal_mm:g} mm \u00b1 {width.tolerance_mm:g} mm; "
    if not width.out:
        return text + "never beyond."
    places = ", ".join(f"{a:,.0f} to {b:,.0f} m" for a, b in width.out[:4])
    return text + f"beyond at {places}" + (f" and {len(width.out) - 4} more places." if len(width.out) > 4 else ".")


def across(across_mm: tuple[float, float] | None) -> str:
    return "across unknown" if across_mm is None else f"{across_mm[0]:,.0f} to {across_mm[1]:,.0f} mm from OS"


def length(length_mm: float | None) -> str:
    return "length unknown" if length_mm is None else f"{length_mm:,.0f} mm long"


def origin(report: CoilReport) -> str:
    """What it was made of: events, model, configuration."""
    seq = report.seq
    proof = "none missing" if report.is_complete else missing(report)
    model = report.model
    sha256 = model.get("sha256", "unknown")[:12]
    return (
        f"Events {seq['first']:,} to {seq['last']:,} of {report.node}, {proof}. "
        f"Model {model.get('name', 'unknown')} {model.get('version', '')} (sha256 {sha256}), "
        f"configuration {report.config_sha256[:12] or 'unknown'}. Record {report.id}, {SCHEMA}."
    )


def size(report: CoilReport) -> str:
    """1,043.2 m x 1,200 mm, 46 defects: 41 minor, 4 major, 1 critical."""
    counts = ", ".join(f"{n:,} {severity}" for severity, n in report.severities.items())
    length = "length unknown" if report.length_m is None else words.meters(report.length_m)
    if report.width is not None:
        length += f" x {words.millimeters(report.width.mean)}"
    return f"{length}, {words.count(report.defects, 'defect')}: {counts}"
