"""A coil's content as the report counts it: from the head or from the tail, by lanes, defects of two cameras as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge.coverage.coil_map import MergedDefect, merging
from edge.coverage.runs import Run
from edge.report.coil_report import From, Lane, ReportedDefect
from edge.report.record_content import RecordContent


class CoilView:
    """Reads the content of one record.  Raises ValueError where places shall count from a tail that is not known."""

    def __init__(self, content: RecordContent, counted_from: From) -> None:
        self.content = content
        self.counted_from = counted_from
        self.summary = summary = content.summary()
        self._turned_m: float | None = None
        """The length, where places count from the tail."""
        if counted_from == "tail":
            if summary.length_m is None or summary.ended is None:
                raise ValueError("places cannot count from the tail: the coil runs, or its length is not known")
            self._turned_m = summary.length_m
        self._lane_of = {name: view.surface or name for name, view in content.cameras.items()}

    def place(self, m: float) -> float:
        return m if self._turned_m is None else self._turned_m - m

    def stretch(self, from_m: float, to_m: float) -> tuple[float, float]:
        return (from_m, to_m) if self._turned_m is None else (self._turned_m - to_m, self._turned_m - from_m)

    def lane(self, camera: str, surface: str | None = None) -> str:
        """The lane of a defect, or of a camera."""
        return surface or self._lane_of.get(camera, camera)

    def lanes(self) -> tuple[Lane, ...]:
        """In the order of the cameras."""
        found: dict[str, list[str]] = {}
        for camera, lane in self._lane_of.items():
            found.setdefault(lane, []).append(camera)
        views = self.content.cameras
        return tuple(
            Lane(lane, tuple(cameras), any(views[name].operator_side is not None for name in cameras))
            for lane, cameras in found.items()
        )

    def runs(self) -> dict[str, list[Run]]:
        """By camera, along the coil as the report counts it."""
        found = {}
        for camera, runs in self.content.runs().items():
            turned = [Run(*self.stretch(run.from_m, run.to_m), run.kind, run.cause) for run in runs]
            found[camera] = turned if self._turned_m is None else turned[::-1]
        return found

    def defects(self) -> Iterator[ReportedDefect]:
        """All defects in the order of their places, unplaced ones last."""
        for merged in merging(self.content.defects.in_order(self._turned_m)):
            yield self._reported(merged)

    def judgement(self, values: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A judgement with its places as the report counts them."""
        if values is None or self._turned_m is None:
            return None if values is None else dict(values)
        rules = [{**rule, "at_m": self._turned(rule["at_m"])} for rule in values["rules"]]
        return {**values, "rules": rules}

    def stretched(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A roll mark or a streak with its ends as the report counts them, and its lane."""
        from_m, to_m = self.stretch(values["from_m"], values["to_m"])
        lane = values["surface"] or next(iter(self._lane_of.values()), "strip")
        return {**values, "from_m": round(from_m, 3), "to_m": round(to_m, 3), "lane": lane}

    def _turned(self, m: float | None) -> float | None:
        return None if m is None else round(self.place(m), 3)

    def _reported(self, merged: MergedDefect) -> ReportedDefect:
        main = merged.main
        return ReportedDefect(
            main.seq,
            self.lane(main.camera, main.surface),
            main.surface,
            main.class_name,
            merged.severity,
            main.confidence,
            merged.from_m,
            merged.to_m,
            merged.across_mm,
            max((one.length_mm for one in merged.defects if one.length_mm is not None), default=None),
            next((one.evidence for one in merged.defects if one.evidence is not None), None),
            any(one.is_open for one in merged.defects),
        )
