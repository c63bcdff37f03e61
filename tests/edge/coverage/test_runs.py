"""Runs of coverage: they agree with the meters, they are bounded, and what is lost only gets worse."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.accounting import Coverage
from edge.coverage.runs import WORSE, Run, RunLog, coarsened, complement
from edge.coverage.strip_position import StripPosition

S = 1_000_000_000
VIEW_M = 0.5
KINDS = st.sampled_from(["whole", "partial", "missed", "unknown"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["whole", "partial", "bad_image", "overload", "paused", "away", "back", "lost"]),
        st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 2.0, -0.1]),
    ),
    max_size=60,
)


def played(steps: list[tuple[str, float]]) -> tuple[dict[str, float], list[Run]]:
    """Meters of the coverage message, and the runs, of frames that were taken this far apart."""
    account, m, segment, runs = Coverage(0), 0.0, 0, []
    account.signal(present=True, now_ns=0)
    for second, (what, step_m) in enumerate(steps, 1):
        m += step_m
        if what == "lost":
            segment += 1
        position = StripPosition(segment, m)
        if what in ("away", "back"):
            account.signal(present=what == "back", now_ns=second * S)
            if what == "away":
                account.advance_to(position)
            continue
        account.locate_frame(position)
        if what in ("whole", "partial"):
            account.add_inspected(position, VIEW_M, whole=what == "whole")
        elif what != "lost":
            account.lose(what, position, VIEW_M)
        if second % 7 == 0:
            runs.extend(account.take_runs())
    runs.extend(account.take_runs())
    return account.total()["strip"] or {}, runs


@given(STEPS)
def test_runs_add_up_to_the_meters_of_the_coverage_message(steps: list[tuple[str, float]]) -> None:
    """For any frames, speeds, stops, outages and pauses; runs of a segment never overlap and leave no hole."""
    meters, runs = played(steps)
    if not meters:
        return
    sums = dict.fromkeys(WORSE, 0.0)
    for run in runs:
        assert run.to_m > run.from_m
        assert (run.cause is None) == (run.kind == "whole")
        sums[run.kind] += run.length_m
    for kind, name in (("whole", "inspected_m"), ("partial", "partial_m"), ("missed", "missed_m")):
        assert abs(sums[kind] - meters[name]) < 0.003, kind
    for one, other in pairwise(runs):
        assert one.segment != other.segment or abs(one.to_m - other.from_m) < 1e-9


def test_cause_of_missed_meters_is_that_of_their_frames() -> None:
    """Bad pictures, a pause, an outage, and strip that ran past between two frames."""
    _, runs = played(
        [
            ("whole", 0.1),
            ("bad_image", 0.5),
            ("bad_image", 0.5),
            ("paused", 0.5),
            ("overload", 0.5),
            ("whole", 0.5),
            ("away", 0.5),
            ("back", 0.5),
            ("whole", 0.1),
            ("whole", 2.0),
            ("partial", 0.5),
            ("whole", 0.5),
        ]
    )
    assert [(round(run.length_m, 3), run.kind, run.cause) for run in runs] == [
        (0.5, "whole", None),
        (1.0, "missed", "bad_image"),
        (0.5, "missed", "paused"),
        (0.5, "missed", "overload"),
        (0.5, "whole", None),
        (0.6, "missed", "no_signal"),
        (0.5, "whole", None),
        (1.5, "missed", "unseen"),
        (0.5, "whole", None),
        (0.5, "partial", "overload"),
    ]


LENGTHS = st.lists(st.tuples(st.integers(1, 500), KINDS), min_size=1, max_size=120)


def laid(lengths: list[tuple[int, str]]) -> list[Run]:
    at, runs = 0.0, []
    for cm, kind in lengths:
        runs.append(Run(at, at + cm / 100, kind, None if kind == "whole" else "overload"))  # type: ignore[arg-type]
        at += cm / 100
    return runs


@given(LENGTHS, st.integers(1, 20))
def test_coarser_runs_never_know_better(lengths: list[tuple[int, str]], limit: int) -> None:
    """Each place is at least as bad as before; nothing is added, and the number is bounded."""
    fine = laid(lengths)
    coarse = coarsened(fine, limit)
    assert len(coarse) <= limit
    assert (coarse[0].from_m, coarse[-1].to_m) == (fine[0].from_m, fine[-1].to_m)
    for run in fine:
        middle = (run.from_m + run.to_m) / 2
        over = next(each for each in coarse if each.from_m <= middle <= each.to_m)
        assert WORSE.index(over.kind) >= WORSE.index(run.kind)


def test_log_is_bounded_and_joins_equal_neighbours() -> None:
    """A million equal frames are one run; ever changing ones are at most as many as the limit."""
    log = RunLog(64)
    for n in range(10_000):
        log.add(Run(n, n + 1, "whole"))
    assert log.take() == (Run(0, 10_000, "whole"),)
    for n in range(10_000):
        log.add(Run(n, n + 1, ("whole", "missed")[n % 2], (None, "overload")[n % 2]))  # type: ignore[arg-type]
    runs = log.take()
    assert len(runs) <= 64
    assert sum(run.length_m for run in runs) == 10_000
    assert log.take() == ()


@given(LENGTHS, st.sets(st.integers(0, 119)), st.floats(0, 20), st.floats(0, 50))
def test_complement_leaves_no_hole(
    lengths: list[tuple[int, str]], lost: set[int], from_m: float, length_m: float
) -> None:
    """What no run covers is unknown; the runs cover each meter once."""
    runs = [run for n, run in enumerate(laid(lengths)) if n not in lost]
    whole = complement(reversed(runs), from_m, from_m + length_m)
    assert abs(sum(run.length_m for run in whole) - length_m) < 1e-4
    for run in whole:
        middle = (run.from_m + run.to_m) / 2
        under = [each for each in runs if each.from_m <= middle < each.to_m]
        assert run.kind == (under[-1].kind if under else "unknown") or run.length_m < 1e-5
