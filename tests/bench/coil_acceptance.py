"""Whether a coil's record, marks and grade are what passed the cameras: generated coils with known truth.

    PYTHONPATH=.:tests python tests/bench/coil_acceptance.py [COILS] [METERS]

Each coil: three cameras, two of which overlap, a roll mark with jitter and missing turns, wandering and tapering edges,
speed changes and a stop, a camera without frames and a dark one.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from fakes.coil_run import MM_PER_PX, PERIOD_M, CoilRun, Hole

from edge.camera.sources.simulator import StripDefect
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_map import MergedDefect, merged
from edge.coverage.coil_record import CoilRecord

NEAR_MM = 40.0


def matched(run: CoilRun, found: list[MergedDefect], cameras: tuple[str, ...]):
    """Pairs of truth and finds, truths that were missed, and finds without truth.

    Truths nearer than a find reaches share it.
    """
    truths = {defect.box: defect for camera in cameras for defect in run.truth(camera)}
    rest, pairs, missed = list(found), [], []
    for truth in truths.values():
        x, start_mm, w, h = place_mm(run, truth, cameras)
        hits = [
            one
            for one in found
            if one.from_m is not None
            and one.across_mm is not None
            and one.from_m * 1000 - NEAR_MM <= start_mm + h
            and (one.to_m or one.from_m) * 1000 + NEAR_MM >= start_mm
            and one.across_mm[0] - NEAR_MM <= x + w
            and one.across_mm[1] + NEAR_MM >= x
        ]
        if hits:
            pairs.append((truth, hits))
            rest = [one for one in rest if all(one is not hit for hit in hits)]
        elif any(run.shows(camera, truth) and truth in run.truth(camera) for camera in cameras):
            missed.append(truth)
    # At the ends of the coil and of holes a defect is seen in part; such a find is a find.
    near = [place_mm(run, one, cameras) for camera in cameras for one in run.all_near(camera)]
    rest = [one for one in rest if not any(_touches(one, place) for place in near)]
    return pairs, missed, rest


def _touches(one: MergedDefect, place: tuple[float, float, float, float]) -> bool:
    x, start_mm, w, h = place
    if one.from_m is None or one.across_mm is None:
        return False
    along = one.from_m * 1000 - NEAR_MM <= start_mm + h and (one.to_m or one.from_m) * 1000 + NEAR_MM >= start_mm
    return along and one.across_mm[0] - NEAR_MM <= x + w and one.across_mm[1] + NEAR_MM >= x


def place_mm(run: CoilRun, truth: StripDefect, cameras: tuple[str, ...]) -> tuple[float, float, float, float]:
    """x, along, width, length: from the operator side as the cameras count, and from the start of the coil."""
    x, y, w, h = truth.box
    edge = run.strips["below"].edges(np.array([y + h / 2]))[0][0] if "below" in cameras else 0.0
    return (x - edge) * MM_PER_PX, y * MM_PER_PX - run.start_m * 1000, w * MM_PER_PX, h * MM_PER_PX


def expected_grade(run: CoilRun) -> str:
    """What the rules of `fakes.coil_run` make of the truth."""
    seen = {(one.box, "top") for camera in ("left", "right") for one in run.truth(camera) if run.shows(camera, one)}
    seen |= {(one.box, "bottom") for one in run.truth("below") if run.shows("below", one)}
    missed_m = sum(end - start for camera in run.strips for start, end in run.holes_m(camera))
    has_mark = bool(run.strips["left"].mark_px)
    return "A" if len(seen) <= 5 and not has_mark and missed_m <= 0.01 * run.length_m else "B"


def quantiles(values: list[float]) -> str:
    if not values:
        return "none"
    p50, p95 = np.percentile(np.abs(values), [50, 95])
    return f"p50 {p50:.1f}, p95 {p95:.1f}, bias {np.mean(values):+.1f} (n = {len(values)})"


class Sums:
    """Over all coils."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: defaultdict[str, list[float]] = defaultdict(list)
        """mm, but for `turn`."""

    def add(self, run: CoilRun, record: CoilRecord, judgement: CoilJudgement) -> None:
        self.counts["coils"] += 1
        self.counts["complete"] += record.summary.is_complete
        self.errors["length of the coil"].append(((record.summary.length_m or 0.0) - run.length_m) * 1000)
        for cameras, surface in ((("left", "right"), "top"), (("below",), "bottom")):
            self._add_defects(run, record, cameras, surface)
        for camera in ("left", "below"):
            self._add_holes(run, record, camera)
        for sample in record.width.get("below", ()):
            if sample.at_m is not None:
                row = (run.start_m + sample.at_m + 0.5) * 1000 / MM_PER_PX
                left, right = run.strips["below"].edges(np.array([row]))
                self.errors["width"].append(sample.median_mm - float(right[0] - left[0]) * MM_PER_PX)
        self._add_marks(run, judgement)
        grade, expected = (judgement.grade or {})["grade"], expected_grade(run)
        self.counts[f"grade {grade}, by the truth {expected}"] += 1

    def _add_defects(self, run: CoilRun, record: CoilRecord, cameras: tuple[str, ...], surface: str) -> None:
        found = [one for one in merged(record.defects) if one.main.surface == surface]
        pairs, missed, false = matched(run, found, cameras)
        shared = Counter(id(hit) for _, hits in pairs for hit in hits)
        self.counts.update(
            {
                f"{surface}: found": len(pairs),
                f"{surface}: missed": len(missed),
                f"{surface}: without truth": len(false),
                f"{surface}: seen as two or more": sum(len(hits) > 1 for _, hits in pairs),
                f"{surface}: by both cameras, one on the map": sum(len(hits[0].defects) > 1 for _, hits in pairs),
                f"{surface}: joined with a neighbour": sum(shared[id(hits[0])] > 1 for _, hits in pairs),
            }
        )
        for truth, hits in pairs:
            if len(hits) > 1 or shared[id(hits[0])] > 1 or not any(run.shows(each, truth) for each in cameras):
                continue
            one = hits[0]
            assert one.from_m is not None
            assert one.across_mm is not None
            x, start_mm, w, h = place_mm(run, truth, cameras)
            self.counts["class right" if one.main.class_name == truth.class_name else "class wrong"] += 1
            self.errors["along"].append(one.from_m * 1000 - start_mm)
            self.errors["across"].append(sum(one.across_mm) / 2 - (x + w / 2))
            if one.main.length_mm is not None:
                self.errors["length"].append(one.main.length_mm - h)

    def _add_holes(self, run: CoilRun, record: CoilRecord, camera: str) -> None:
        holes, runs = run.holes_m(camera), [one for one in record.runs[camera] if one.kind != "whole"]
        self.counts["holes"] += len(holes)
        self.counts["holes in the record"] += len(runs)
        for (start, end), one in zip(holes, runs, strict=False):
            self.errors["hole, too long"] += [(start - one.from_m) * 1000, (one.to_m - end) * 1000]

    def _add_marks(self, run: CoilRun, judgement: CoilJudgement) -> None:
        if not run.strips["left"].mark_px:
            self.counts["coils without a mark"] += 1
            self.counts["false roll marks"] += len(judgement.roll_marks)
            return
        right = [mark for mark in judgement.roll_marks if abs(mark["period_m"] / PERIOD_M - 1) < 0.01]
        self.counts["roll marks found"] += bool(right)
        self.counts["false roll marks"] += len(judgement.roll_marks) - len(right)
        self.errors["period"] += [(mark["period_m"] - PERIOD_M) * 1000 for mark in right[:1]]
        alarms = [event.detail or {} for event in run.events if event.type == "roll_mark.suspected"]
        live = [alarm for alarm in alarms if abs(alarm["period_m"] / PERIOD_M - 1) < 0.01]
        self.counts["live alarms"] += bool(live)
        self.counts["false live alarms"] += len(alarms) - len(live)
        self.errors["turn"] += [(alarm["to_m"] - alarm["from_m"]) / PERIOD_M + 1 for alarm in live[:1]]


def main(coils: int, length_m: float) -> None:
    """Every third coil has no defects at all; half of these were inspected without a hole."""
    sums = Sums()
    dark, silent = 0.6 * length_m, 0.3 * length_m
    both = Hole("left", silent, silent + 2.0, is_dark=False), Hole("below", dark, dark + 1.5, is_dark=True)
    for seed in range(1, coils + 1):
        clean, holes = seed % 3 == 0, () if seed % 6 == 3 else both
        with (
            tempfile.TemporaryDirectory() as folder,
            CoilRun(Path(folder), seed, length_m, holes=holes, clean=clean) as run,
        ):
            sums.add(run, *run.run())
        sys.stderr.write(f"{seed} of {coils}\n")
    for key, count in sorted(sums.counts.items()):
        sys.stdout.write(f"{key}: {count}\n")
    for key, values in sums.errors.items():
        sys.stdout.write(f"{key}, {'turns' if key == 'turn' else 'mm'}: {quantiles(values)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12, float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
