"""One pass over the record of a coil: what its report needs, in memory that hardly grows with the coil."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from edge.coverage import coil_lines
from edge.coverage.coil_lines import CameraView, Defect, Header, Item, Note, Resumed, Runs, Setup, Speed, Width
from edge.coverage.coil_map import thinned
from edge.coverage.coil_record import CoilSummary, Totals
from edge.coverage.runs import Run, RunLog, coarsened, complement
from edge.report.coil_report import TrialNote
from edge.report.defect_table import DefectTable

MAX_RUNS: Final = 20_000
"""Runs of one camera; more become fewer, of the worse kind."""
MAX_WIDTHS: Final = 4_000
MAX_NOTES: Final = 200


class RecordContent:
    """Takes in the lines of one record.  Call `add` for each, then read."""

    def __init__(self) -> None:
        self._totals = Totals()
        self.defects = DefectTable()
        self.cameras: dict[str, CameraView] = {}
        self.widths: dict[str, list[Width]] = {}
        self.notes: list[TrialNote] = []
        self.notes_left_out = 0
        self.speeds: tuple[float, float] | None = None
        self.model: Mapping[str, str] = {}
        self.config_sha256 = ""
        self._runs: dict[str, list[Run]] = {}

    @classmethod
    def of(cls, items: Iterable[Item]) -> RecordContent:
        content = cls()
        for item in items:
            content.add(item)
        return content

    @property
    def header(self) -> Header | None:
        return self._totals.header

    @property
    def ended(self) -> coil_lines.Ended | None:
        return self._totals.ended

    def summary(self) -> CoilSummary:
        """Raises ValueError for a record without a header."""
        return self._totals.summary()

    def add(self, item: Item) -> None:  # noqa: C901 (a table)
        """Lines before the header are left out."""
        if self.header is None and not isinstance(item, Header):
            return
        self._totals.add(item)
        match item:
            case Header():
                self.model, self.config_sha256 = item.model, item.config_sha256
                self._know(item.cameras)
            case Resumed():
                self._know(item.cameras)
                self._note(item.time, "the record goes on after a start or a reload")
            case Defect():
                if self.header is not None and item.coil == self.header.coil:
                    self.defects.add(item)
            case Runs(camera, runs):
                self._add_runs(camera, runs)
            case Width():
                known = self.widths.setdefault(item.camera, [])
                known.append(item)
                if len(known) >= 2 * MAX_WIDTHS:
                    self.widths[item.camera] = thinned(known, MAX_WIDTHS)
            case Speed(_, speed) if speed is not None:
                least, most = self.speeds or (speed, speed)
                self.speeds = min(least, speed), max(most, speed)
            case Setup():
                self._add_setup(item)
            case Note():
                place = "" if item.camera == "node" else f" ({item.camera})"
                self._note(item.time, f"{item.type}{place}" + ("" if item.reason is None else f": {item.reason}"))
            case _:
                pass

    def runs(self) -> dict[str, list[Run]]:
        """By camera, from the start of the coil to its end without a hole: what no run covers is unknown."""
        summary = self.summary()
        length_m = summary.length_m if summary.ended is not None else None
        reach_m = max((runs[-1].to_m for runs in self._runs.values()), default=0.0)
        end_m = reach_m if length_m is None else length_m
        found = {}
        for camera in sorted({*self._runs, *self.cameras}):
            known = self._runs.get(camera, [])
            start_m = 0.0 if summary.coil is not None else min((run.from_m for run in known), default=0.0)
            found[camera] = list(complement(known, start_m, max(end_m, start_m)))
        return found

    def _know(self, cameras: Iterable[CameraView]) -> None:
        self.cameras.update((camera.name, camera) for camera in cameras)

    def _add_runs(self, camera: str, runs: tuple[Run, ...]) -> None:
        known = self._runs.setdefault(camera, [])
        log = RunLog()
        for run in (*known[-1:], *runs):
            log.add(run)
        known[-1:] = log.take()
        if len(known) > 2 * MAX_RUNS:
            self._runs[camera] = coarsened(known, MAX_RUNS)

    def _add_setup(self, setup: Setup) -> None:
        if not self.config_sha256:  # the first record of a node starts before its first event
            self.model, self.config_sha256 = setup.model, setup.config_sha256
            return
        if dict(setup.model) != dict(self.model):
            self._note(setup.time, f"the model changed to {setup.model.get('name')} {setup.model.get('version')}")
        if setup.config_sha256 != self.config_sha256:
            self._note(setup.time, f"the configuration changed to {setup.config_sha256[:12]}")
        self.model, self.config_sha256 = setup.model, setup.config_sha256

    def _note(self, time: str, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(TrialNote(time, text))
        else:
            self.notes_left_out += 1
