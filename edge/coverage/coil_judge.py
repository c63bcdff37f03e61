"""Judges the coil that runs, and the one that has ended: roll marks, the grade so far, the grade at the end.

The thread `coil-judge` reads the records of coils as they grow, so that inspection never waits for it, and a start
goes on where the last run was. It is plain Python beside the inspection loop: it works in short pieces and rests
between them, because the interpreter runs one thread at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from edge import event
from edge.coverage import coil_judgement, coil_record, grading
from edge.coverage.coil_grading import CoilFactsBuilder, MarkOnSide, placed
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_lines import Defect
from edge.coverage.coil_record import PLAIN, Tail
from edge.coverage.roll_mark_watch import RollMarkWatch
from edge.coverage.rolls import Roll
from edge.errors import CommandError
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.worker import Worker

log = logging.getLogger(__name__)

TURN_S: Final = 1.0
"""Between two looks at the record."""
PIECE_NS: Final = 300_000
"""Work in one piece, before other threads get their turn."""
REST_S: Final = 0.002
ITEMS_A_PIECE: Final = 5
GRADE_EVERY_NS: Final = 5 * NS_PER_S
DUTY: Final = 300
"""The pause before the next grade so far, as a multiple of the time that the last one took: inspection must not
notice it."""
LATEST: Final = 5
"""Newest complete records that are looked at, and as many for each lane: one without a grade is graded."""
MAX_DETAIL: Final = 20
"""Roll marks, and members of each, that an event lists."""
MAX_LANES_KNOWN: Final = 500
MAX_PERIODS: Final = 10
"""Periods of the inspection itself that are excluded for one coil."""


class Sink(Protocol):
    """Where events go."""

    def put(self, event: event.Event) -> None: ...


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """products, rolls: the sections `grading` and `rolls` of the configuration, as JSON."""

    products: Sequence[Mapping[str, Any]] = ()
    rolls: tuple[Roll, ...] = ()

    @classmethod
    def of(cls, products: Sequence[Mapping[str, Any]], rolls: Sequence[Mapping[str, Any]]) -> JudgeRules:
        return cls(products, tuple(Roll.from_json(row) for row in rolls))


@dataclass(frozen=True, slots=True)
class JudgedNow:
    """The coil that runs, as far as it is known, in JSON values."""

    grade: Mapping[str, Any] | None = None
    roll_marks: tuple[Mapping[str, Any], ...] = ()
    lanes: Mapping[str, JudgedNow] = field(default_factory=dict)
    """The same for the coil of each lane."""


class _Running:
    """What is known of the record that is being written."""

    def __init__(self, path: Path, judgement: CoilJudgement | None, rules: JudgeRules) -> None:
        self.id = coil_record.record_id(path)
        self.now = JudgedNow()
        self.tail = Tail(path)
        self.builder = CoilFactsBuilder()
        self.judgement = judgement
        self.watch = RollMarkWatch(rules.rolls, f"{self.id[:4]}-{self.id[4:6]}-{self.id[6:8]}")
        self.periods_m: list[float] = []
        self.last_periods_m: tuple[float, ...] = ()
        self.is_changed = True
        self.graded_ns: int | None = None
        self.took_ns = 0


class CoilJudge:
    """The thread `coil-judge`.  Any thread may call `now`, `set_rules` and `release`."""

    def __init__(
        self,
        folder: Path,
        rules: JudgeRules,
        sink: Sink,
        clock: Clock,
        periods_m: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        """folder: of the records.  periods_m: at which faults of the inspection itself repeat, now."""
        self._folder = folder
        self._rules = rules
        self._sink = sink
        self._clock = clock
        self._periods_m = periods_m
        self._running: dict[str | None, _Running] = {}
        """By lane; None: the record of the strip."""
        self._lanes: dict[str, str | None] = {}
        """The lane of each record that is being written."""
        self._now = JudgedNow()
        self._since_ns = 0
        """When the present piece of work started."""
        self._lock = threading.Lock()
        """Held while a judgement is replaced."""
        self._has_tidied = False
        self._judged: deque[str] = deque(maxlen=MAX_LANES_KNOWN)
        """Ids of records that have their grade."""
        self._periods_of: dict[str, list[float]] = {}
        """Excluded periods of the last records."""
        self._throttle = LogThrottle(log)
        self._worker = Worker("coil-judge", self._run, clock)

    @property
    def now(self) -> JudgedNow:
        """The grade so far and the roll marks of the coil that runs."""
        return self._now

    def set_rules(self, rules: JudgeRules) -> None:
        """Grade by other rules, from the next turn on."""
        self._rules = rules

    def start(self) -> None:
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait.  A coil that ended is graded after the next start at the latest."""
        return self._worker.stop(timeout_s)

    def release(self, coil: str, by: str, grade: str | None, reason: str | None) -> dict[str, Any]:
        """A person releases a coil that has ended, with its grade or another one.  Returns the judgement.

        Raises CommandError.
        """
        path = coil_record.find(self._folder, coil)
        record_id = None if path is None else coil_record.record_id(path)
        with self._lock:
            judgement = None if record_id is None else coil_judgement.load(self._folder, record_id)
            if record_id is None or judgement is None or judgement.grade is None:
                why = "it runs, or it is not graded yet" if record_id is not None else "there is no record of it"
                raise CommandError("bad_value", f"coil {coil} cannot be released: {why}")
            found = str(judgement.grade["grade"])
            if grade not in (None, found) and not reason:
                raise CommandError("bad_value", f"the grade of coil {coil} is {found}: give a reason for {grade}")
            if grade is None and found in (grading.REJECT, grading.NOT_GRADED):
                raise CommandError("bad_value", f"coil {coil} is {found}: give a grade and a reason")
            release = {"by": by, "grade": grade or found, "reason": reason, "time": stamp(self._clock.wall_ns())}
            judgement = replace(judgement, release=release)
            try:
                coil_judgement.save(self._folder, judgement)
            except OSError as error:
                raise CommandError("failed", f"the release cannot be stored: {error.strerror or error}") from error
        self._emit("coil.released", {"coil": judgement.coil, "id": judgement.id, "graded": found, **release})
        return judgement.as_json()

    # ---- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._worker.is_stopping:
            self._worker.beat()
            try:
                self.turn()
            except Exception as error:  # whatever it is, the next coil has to be judged
                if self._throttle.ready(repr(error), self._clock.monotonic_ns()) is not None:
                    log.exception("the coil cannot be judged; it is tried again")
            self._worker.wait_for_stop(TURN_S)

    def turn(self) -> None:
        """Read what is new, and judge.  Raises OSError, ValueError for a record that cannot be read."""
        self._since_ns = self._clock.monotonic_ns()
        paths = coil_record.record_paths(self._folder)
        newest = {self._lane_of(path): path for path in paths if path.name.endswith(PLAIN)}
        for lane in self._running.keys() | newest.keys():
            self._follow(lane, newest.get(lane))
        for running in self._running.values():
            self._grade_so_far(running)
        self._now = self._judged_now()
        packed = [path for path in paths if not path.name.endswith(PLAIN)]
        for path in packed[-LATEST * max(1, len(self._running)) :]:
            self._judge_once(path)
        if not self._has_tidied:
            coil_judgement.remove_orphans(self._folder, {coil_record.record_id(path) for path in paths})
            self._has_tidied = True

    def _lane_of(self, path: Path) -> str | None:
        record_id = coil_record.record_id(path)
        if record_id not in self._lanes:
            header = coil_record.header_of(path)
            if header is None:
                return None  # it is being started
            self._lanes = {**dict([*self._lanes.items()][-MAX_LANES_KNOWN:]), record_id: header.lane}
        return self._lanes[record_id]

    def _judged_now(self) -> JudgedNow:
        lanes = {lane: running.now for lane, running in self._running.items() if lane is not None}
        strip = self._running.get(None)
        return replace(JudgedNow() if strip is None else strip.now, lanes=lanes)

    def _follow(self, lane: str | None, path: Path | None) -> None:
        """Read on in the newest record of a lane, or start with another one."""
        newest = None if path is None else coil_record.record_id(path)
        running = self._running.get(lane)
        if running is None or running.id != newest:
            if running is not None:
                self._periods_of = {**dict([*self._periods_of.items()][-LATEST:]), running.id: running.periods_m}
                self._running.pop(lane)
                running = None
            if path is not None:
                judgement = coil_judgement.load(self._folder, coil_record.record_id(path))
                running = self._running[lane] = _Running(path, judgement, self._rules)
        if running is not None:
            self._read(running)

    def _read(self, running: _Running) -> None:
        """Take in the new lines of a record that grows; one that is packed meanwhile is read at its end."""
        self._note_periods(running)
        while True:
            try:
                items = running.tail.read(1 << 18)
            except FileNotFoundError:
                return  # it was packed just now
            for number, item in enumerate(items):
                running.builder.add(item)
                running.is_changed = True
                if isinstance(item, Defect):
                    self._watch(running, item)
                if number % ITEMS_A_PIECE == 0:
                    self._breathe()
            if not items or self._worker.is_stopping:
                return

    def _note_periods(self, running: _Running) -> None:
        """Only what two looks in a row find: while the line changes its speed, nothing repeats at a period."""
        before, running.last_periods_m = running.last_periods_m, tuple(self._periods_m())
        for period_m in running.last_periods_m:
            if all(abs(period_m / last - 1) > 0.002 for last in before):
                continue
            if all(abs(period_m / known - 1) > 0.002 for known in running.periods_m):
                running.periods_m = [*running.periods_m[-MAX_PERIODS + 1 :], period_m]

    def _watch(self, running: _Running, defect: Defect) -> None:
        header = running.builder.header
        if defect.is_open or defect.from_m is None or defect.across_mm is None or header is None:
            return
        if defect.coil != header.coil:
            return
        suspected = running.watch.add(
            defect.surface,
            placed(defect.seq, defect.from_m, defect.across_mm, defect.class_name),
            lambda: running.builder.unseen(defect.surface),
            running.periods_m,
            self._breathe,
        )
        for mark in suspected:
            self._suspect(running, mark, header.coil)

    def _suspect(self, running: _Running, mark: MarkOnSide, coil: str | None) -> None:
        """Report a mark, once also over restarts."""
        found = mark.as_json()
        known = () if running.judgement is None else running.judgement.roll_marks
        if any(_is_known(found, other) for other in known):
            return
        before = running.judgement or CoilJudgement(running.id, coil or "")
        running.judgement = replace(before, roll_marks=(*before.roll_marks, found))
        try:
            coil_judgement.save(self._folder, running.judgement)
        except OSError as error:
            words = f"a suspected roll mark cannot be stored: {error.strerror or error}"
            self._throttle.write(logging.WARNING, words, self._clock.monotonic_ns())
        log.warning(
            "coil %s: a roll may mark the strip each %.3f m, %.0f mm across%s",
            coil,
            mark.mark.period_m,
            mark.mark.across_mm,
            f": {', '.join(mark.rolls)}" if mark.rolls else "",
        )
        lane = None if running.builder.header is None else running.builder.header.lane
        where = {} if lane is None else {"lane": lane}
        self._emit("roll_mark.suspected", {"coil": coil, **where, **_short(found)})

    def _grade_so_far(self, running: _Running) -> None:
        now_ns = self._clock.monotonic_ns()
        if running.builder.header is None or not running.is_changed:
            return
        wait_ns = max(GRADE_EVERY_NS, DUTY * running.took_ns)
        if running.graded_ns is not None and now_ns - running.graded_ns < wait_ns:
            return
        self._breathe()
        marks = running.watch.marks
        started_ns = self._clock.monotonic_ns()
        grade: Mapping[str, Any] | None = None
        if running.builder.header.coil is not None and self._rules.products:
            graded = grading.grade_of(running.builder.facts(marks, self._breathe), self._rules.products)
            grade = None if graded.product is None else graded.as_json()
        running.took_ns = self._clock.monotonic_ns() - started_ns
        running.graded_ns, running.is_changed = now_ns, False
        running.now = JudgedNow(grade, tuple(_short(mark.as_json()) for mark in marks[:MAX_DETAIL]))

    def _judge_once(self, path: Path) -> None:
        """Judge a packed record: all cameras have seen its end.  Also one that ended while no node ran."""
        record_id = coil_record.record_id(path)
        if record_id in self._judged:
            return
        known = coil_judgement.load(self._folder, record_id)
        if known is None or known.grade is None:
            self._judge(path, self._periods_of.get(record_id, ()))
        self._judged.append(record_id)

    def _judge(self, path: Path, periods_m: Sequence[float]) -> None:
        """Raises OSError, ValueError."""
        builder, record_id = CoilFactsBuilder(), coil_record.record_id(path)
        for number, item in enumerate(coil_record.items(path)):
            builder.add(item)
            if number % ITEMS_A_PIECE == 0:
                self._breathe()
        if builder.header is None or builder.header.coil is None:
            return
        coil = builder.header.coil
        marks, streaks = builder.search(self._rules.rolls, periods_m, self._breathe)
        facts = builder.facts(marks, self._breathe)
        if not facts.has_ended:
            return
        grade = grading.grade_of(facts, self._rules.products)
        with self._lock:
            known = coil_judgement.load(self._folder, record_id)
            if known is not None and known.grade is not None:
                return
            judgement = CoilJudgement(
                record_id,
                coil,
                tuple(mark.as_json() for mark in marks),
                tuple(streak.as_json() for streak in streaks[:MAX_DETAIL]),
                grade.as_json(),
                stamp(self._clock.wall_ns()),
            )
            coil_judgement.save(self._folder, judgement)
        if grade.product is None:
            return
        log.info("coil %s: %s; %s", coil, grade.grade, grade.reasons[0])
        detail = {
            "coil": coil,
            **({} if builder.header.lane is None else {"lane": builder.header.lane}),
            "id": record_id,
            "product": grade.product,
            "grade": grade.grade,
            "reasons": list(grade.reasons),
            "defects": len(facts.defects),
            "length_m": facts.length_m,
            "roll_marks": [_short(mark.as_json()) for mark in marks[:MAX_DETAIL]],
        }
        self._emit("coil.graded", detail)

    def _breathe(self) -> None:
        """Let other threads run, after each piece of work."""
        if self._clock.monotonic_ns() - self._since_ns >= PIECE_NS:
            self._worker.beat()
            self._worker.wait_for_stop(REST_S)
            self._since_ns = self._clock.monotonic_ns()

    def _emit(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        self._sink.put(event.Event.now(self._clock, event.NODE_CAMERA, kind, detail))


def _short(mark: dict[str, Any]) -> dict[str, Any]:
    """A mark for an event: the number of its members is in `seen`."""
    return {**mark, "members": mark["members"][:MAX_DETAIL]}


def _is_known(found: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two marks are one, at the same period, a multiple or a fraction of it."""
    if found["surface"] != other["surface"] or abs(found["across_mm"] - other["across_mm"]) > 36.0:
        return False
    ratio = found["period_m"] / other["period_m"]
    return any(abs(ratio * a / b - 1) <= 0.01 for a, b in ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1)))
