"""Coverage: delivered frames, gaps, meters and silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.accounting import FRAME_STATES, Coverage, Gaps
from edge.coverage.strip_position import StripPosition
from edge.host.clock import NS_PER_S

S = 1_000_000_000


def test_report_sums_add_up():
    """`delivered` is the sum of all states, in the window and since the start."""
    account = Coverage(0)
    for n, state in enumerate(FRAME_STATES):
        account.count(state, n + 1)
    message = account.report(10 * S)
    assert message["delivered"] == sum(message["frames"].values()) == 21
    assert message["since_start"]["delivered"] == 21 == account.delivered()
    assert set(message["frames"]) == set(FRAME_STATES)


def test_report_starts_a_new_window():
    """The next window is empty, the total is not."""
    account = Coverage(0)
    account.count("ok", 3)
    account.count_tiles(30, 2)
    account.report(10 * S)
    message = account.report(15 * S)
    assert (message["delivered"], message["window_s"]) == (0, 5.0)
    assert message["tiles"] == {"inspected": 0, "skipped": 0}
    assert message["since_start"]["frames"]["ok"] == 3
    assert message["since_start"]["tiles"] == {"inspected": 30, "skipped": 2}


def test_report_is_a_value():
    """A message does not change with later counts."""
    account = Coverage(0)
    message = account.report(S)
    account.count("late")
    assert message["since_start"]["frames"]["late"] == 0


def test_unknown_state_is_refused_and_counts_nothing():
    """A wrong state cannot break the sums."""
    account = Coverage(0)
    with pytest.raises(KeyError):
        account.count("okay")
    assert account.delivered() == 0


def test_camera_starts_without_signal():
    """The time before the first signal is silence."""
    assert Coverage(0).report(4 * S)["no_signal_s"] == 4.0


def test_silence_counts_in_the_windows_that_it_covers():
    """A silence across a report is divided between the two windows."""
    account = Coverage(0)
    account.signal(present=True, now_ns=0)
    account.signal(present=False, now_ns=8 * S)
    first = account.report(10 * S)
    account.signal(present=True, now_ns=13 * S)
    second = account.report(20 * S)
    assert (first["no_signal_s"], second["no_signal_s"]) == (2.0, 3.0)
    assert second["since_start"]["no_signal_s"] == 5.0


def test_repeated_signal_changes_nothing():
    """Repeated notices neither restart nor double a silence."""
    account = Coverage(0)
    account.signal(present=False, now_ns=S)
    account.signal(present=False, now_ns=2 * S)
    account.signal(present=True, now_ns=3 * S)
    account.signal(present=True, now_ns=4 * S)
    assert account.report(5 * S)["no_signal_s"] == 3.0


def test_notice_older_than_the_last_report_gives_no_negative_silence():
    """A notice may arrive after a report that is newer; the silence of the window stays at 0."""
    account = Coverage(0)
    account.report(10 * S)
    account.signal(present=True, now_ns=int(9.9 * S))
    assert account.report(20 * S)["no_signal_s"] == 0.0


def test_gaps_give_cause_time_range_and_counts():
    """There is one gap per cause, with its first and last frame; `take` empties them."""
    gaps = Gaps()
    gaps.miss("overload", 3 * NS_PER_S, "late")
    gaps.miss("overload", 1 * NS_PER_S, "dropped", 4)
    gaps.skip(5 * NS_PER_S, 7)
    gaps.skip(4 * NS_PER_S, 2)
    gaps.miss("bad_image", 2 * NS_PER_S, "bad_image", reason="dark")
    overload, bad = (gap.as_json(1_790_000_010 * NS_PER_S, 10 * NS_PER_S) for gap in gaps.take())
    assert overload == {
        "cause": "overload",
        "from": "2026-09-21T14:13:21.000Z",
        "to": "2026-09-21T14:13:25.000Z",
        "seconds": 4.0,
        "frames": {"late": 1, "dropped": 4},
        "partial": 2,
        "tiles_skipped": 9,
    }
    assert (bad["cause"], bad["frames"], bad["reasons"]) == ("bad_image", {"bad_image": 1}, {"dark": 1})
    assert gaps.take() == ()


def test_gaps_bound_the_reasons_they_keep():
    """A folder of pictures of all sizes has many reasons; the count stays complete."""
    gaps = Gaps()
    for n in range(1000):
        gaps.miss("bad_image", n, "bad_image", reason=f"{n} px is too small")
    (gap,) = gaps.take()
    assert gap.frames == {"bad_image": 1000}
    assert len(gap.reasons) <= 20


def test_frame_with_skipped_tiles_is_partial():
    """Skipped tiles are counted, and so are the frames with skipped tiles."""
    account = Coverage(0)
    account.count_tiles(10, 0)
    account.count_tiles(6, 4)
    report = account.report(NS_PER_S)
    assert report["tiles"] == {"inspected": 16, "skipped": 4}
    assert report["partial"] == report["since_start"]["partial"] == 1


def test_late_notice_of_silence_adds_no_time_twice():
    """A notice that is older than the end of the last silence starts the new one at that end."""
    account = Coverage(0)
    account.signal(present=True, now_ns=2 * S)
    account.signal(present=False, now_ns=S)
    assert account.report(3 * S)["no_signal_s"] == 3.0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.sampled_from(FRAME_STATES), st.integers(0, 5)),
            st.tuples(st.just("signal"), st.booleans(), st.integers(-S, 3 * S)),
            st.tuples(st.just("report"), st.just(None), st.integers(0, 3 * S)),
        ),
        max_size=40,
    )
)
def test_windows_add_up_to_the_total(steps):
    """For any sequence, counts and silences of the windows add up to the total; silence never exceeds the time."""
    account, now, frames, silence = Coverage(0), 0, 0, 0.0
    for kind, what, number in steps:
        if kind == "count":
            account.count(what, number)
            continue
        if kind == "signal":
            account.signal(present=what, now_ns=max(0, now + min(number, 0)))
        now += abs(number)
        if kind == "report":
            message = account.report(now)
            assert message["no_signal_s"] >= 0
            frames += message["delivered"]
            silence += message["no_signal_s"]
    last = account.report(now)
    assert frames + last["delivered"] == last["since_start"]["delivered"]
    assert silence + last["no_signal_s"] == pytest.approx(last["since_start"]["no_signal_s"], abs=0.05)
    assert last["since_start"]["no_signal_s"] <= now / S + 0.001


def test_each_meter_is_inspected_or_partial_or_missed():
    """A meter that any complete frame showed is inspected; it is final when it has left the picture."""
    account = Coverage(0)
    frames = [(0.0, True), (0.5, True), (1.0, None), (3.0, False), (3.5, True), (6.0, True), (5.9, True), (7.0, None)]
    for m, whole in frames:
        account.locate_frame(StripPosition(0, m))
        if whole is not None:
            account.add_inspected(StripPosition(0, m), 1.0, whole=whole)
    # inspected 0 to 1.5, missed 1.5 to 3, part of 3 to 3.5, inspected to 4.5, missed to 6, inspected to 7
    strip = account.report(S)["strip"]
    assert strip == {"passed_m": 7.0, "inspected_m": 3.5, "partial_m": 0.5, "missed_m": 3.0, "unplaced_frames": 0}
    account.advance_to(StripPosition(0, 9.0))
    report = account.report(2 * S)
    assert (report["strip"]["missed_m"], report["since_start"]["strip"]["missed_m"]) == (2.0, 5.0)


def test_meters_at_unknown_speed_are_in_no_sum():
    """Frames without a position are counted; the next segment starts at its own position."""
    account = Coverage(0)
    account.locate_frame(StripPosition(0, 1.0))
    account.add_inspected(StripPosition(0, 1.0), 1.0, whole=True)
    account.locate_frame(None)
    account.locate_frame(StripPosition(1, 5.0))
    account.locate_frame(StripPosition(1, 5.5))
    strip = account.report(S)["strip"]
    assert strip == {"passed_m": 0.5, "inspected_m": 0.0, "partial_m": 0.0, "missed_m": 0.5, "unplaced_frames": 1}


def test_without_a_speed_there_are_no_meters():
    """The value is null, not 0."""
    assert Coverage(0).report(S)["strip"] is None


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["whole", "part", "not", "unplaced", "segment"])),
        min_size=1,
        max_size=40,
    )
)
def test_meters_add_up(steps):
    """For any sequence, passed_m is the sum of the others, and none is negative."""
    account, m, segment = Coverage(0), 0.0, 0
    account.locate_frame(StripPosition(0, 0.0))
    for run, what in steps:
        m += run
        if what == "unplaced":
            account.locate_frame(None)
            continue
        if what == "segment":
            segment += 1
        account.locate_frame(StripPosition(segment, m))
        if what in ("whole", "part"):
            account.add_inspected(StripPosition(segment, m), 1.0, whole=what == "whole")
    strip = account.report(S)["strip"]
    assert min(strip.values()) >= 0
    assert strip["passed_m"] == pytest.approx(strip["inspected_m"] + strip["partial_m"] + strip["missed_m"], abs=1e-9)
    assert strip["passed_m"] <= m + 0.01


def test_gap_gives_the_positions_of_its_ends():
    """They are those of the first and the last frame, in whatever order frames are added."""
    gaps = Gaps()
    for s in (3, 1, 5, 4):
        gaps.miss("overload", s * S, "late", position=StripPosition(0, float(s)))
    (gap,) = gaps.take()
    assert (gap.from_position, gap.to_position) == (StripPosition(0, 1.0), StripPosition(0, 5.0))
