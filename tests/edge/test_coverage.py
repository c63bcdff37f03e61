"""The account of delivered frames and of silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.coverage import STATES, Coverage, Gaps

S = 1_000_000_000


def test_report_sums_add_up():
    """`delivered` is the sum of all states, in the window and since the start."""
    account = Coverage(0)
    for n, state in enumerate(STATES):
        account.count(state, n + 1)
    message = account.report(10 * S)
    assert message["delivered"] == sum(message["frames"].values()) == 21
    assert message["since_start"]["delivered"] == 21 == account.delivered()
    assert set(message["frames"]) == set(STATES)


def test_report_begins_a_new_window():
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


def test_report_hands_out_a_value():
    """A message that was reported does not change with what is counted later."""
    account = Coverage(0)
    message = account.report(S)
    account.count("late")
    assert message["since_start"]["frames"]["late"] == 0


def test_unknown_state_is_refused_and_counts_nothing():
    """A typing error in a state cannot break the sums."""
    account = Coverage(0)
    with pytest.raises(KeyError):
        account.count("okay")
    assert account.delivered() == 0


def test_camera_begins_without_signal():
    """Time before the first signal is silence."""
    assert Coverage(0).report(4 * S)["no_signal_s"] == 4.0


def test_silence_is_booked_into_the_windows_it_fell_into():
    """A silence over a report's border is split between the two windows."""
    account = Coverage(0)
    account.signal(present=True, now_ns=0)
    account.signal(present=False, now_ns=8 * S)
    first = account.report(10 * S)
    account.signal(present=True, now_ns=13 * S)
    second = account.report(20 * S)
    assert (first["no_signal_s"], second["no_signal_s"]) == (2.0, 3.0)
    assert second["since_start"]["no_signal_s"] == 5.0


def test_telling_a_signal_twice_changes_nothing():
    """Repeated notices neither restart nor double a silence."""
    account = Coverage(0)
    account.signal(present=False, now_ns=S)
    account.signal(present=False, now_ns=2 * S)
    account.signal(present=True, now_ns=3 * S)
    account.signal(present=True, now_ns=4 * S)
    assert account.report(5 * S)["no_signal_s"] == 3.0


def test_notice_older_than_the_last_report_takes_no_time_back():
    """A window's silence is never negative, though a notice was under way while the report was made."""
    account = Coverage(0)
    account.report(10 * S)
    account.signal(present=True, now_ns=int(9.9 * S))
    assert account.report(20 * S)["no_signal_s"] == 0.0


def test_gaps_say_what_nobody_looked_at_from_when_to_when_and_why():
    """One gap per cause with its first and last frame; asking takes them away."""
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
    """A folder of pictures of all sizes has many reasons; the count stays whole."""
    gaps = Gaps()
    for n in range(1000):
        gaps.miss("bad_image", n, "bad_image", reason=f"{n} px is too small")
    (gap,) = gaps.take()
    assert gap.frames == {"bad_image": 1000}
    assert len(gap.reasons) <= 20


def test_frame_with_skipped_tiles_is_partial():
    """Tiles left out are counted, and so are the frames that lack them."""
    account = Coverage(0)
    account.count_tiles(10, 0)
    account.count_tiles(6, 4)
    report = account.report(NS_PER_S)
    assert report["tiles"] == {"inspected": 16, "skipped": 4}
    assert report["partial"] == report["since_start"]["partial"] == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.sampled_from(STATES), st.integers(0, 5)),
            st.tuples(st.just("signal"), st.booleans(), st.integers(-S, 3 * S)),
            st.tuples(st.just("report"), st.just(None), st.integers(0, 3 * S)),
        ),
        max_size=40,
    )
)
def test_windows_add_up_to_the_total(steps):
    """Over any course, the windows' counts and silences sum up to the total, and silence never exceeds time."""
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
