"""Grades of coils: the first grade whose rules all hold, and never a better one for less knowledge."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import config
from edge.coverage.grading import (
    NOT_GRADED,
    REJECT,
    CoilDefect,
    CoilFacts,
    CoilRun,
    CoilWidth,
    grade_of,
    most_in_window,
)

LENGTH_M = 300.0


def products(*grades, **keys):
    """The section `grading` as JSON, with every key."""
    section = {"product": "exposed", "grades": list(grades), **keys}
    return [config.Product.model_validate(section).model_dump(mode="json")]


A = {
    "grade": "A",
    "critical": 0,
    "major_in_100m": 1,
    "in_10m": 4,
    "longest_mm": 80,
    "roll_marks": 0,
    "missed_share": 0.01,
}
B = {"grade": "B", "critical": 0, "major_in_100m": 4, "missed_share": 0.03}
RULES = products(A, B, ignore={"head_m": 5, "tail_m": 5})


def facts(*defects, **keys):
    """A coil that one camera inspected as a whole."""
    known = {
        "runs": (CoilRun("top", 0.0, LENGTH_M, "whole"),),
        "cameras": {"top": "top"},
        "roll_marks": (),
        "widths": (CoilWidth(100.0, 999.0, 1001.0),),
        **keys,
    }
    return CoilFacts("A4711", LENGTH_M, defects, **known)


def major(at_m, length_mm=10.0, surface="top"):
    return CoilDefect("scratches", "major", at_m, length_mm, surface)


def test_first_grade_whose_rules_all_hold():
    """A coil without defects has the best grade, and says that all its rules hold."""
    graded = grade_of(facts(), RULES)
    assert (graded.grade, graded.reasons) == ("A", ("all rules of A hold",))
    assert {rule.holds for rule in graded.rules if rule.grade == "A"} == {True}


def test_worse_grade_says_what_rules_out_the_better_one():
    """Two major defects within 100 m cost the grade A, and the reason names limit, value and place."""
    graded = grade_of(facts(major(120.0), major(210.0)), RULES)
    assert graded.grade == "B"
    assert graded.reasons == ("A: major_in_100m is 2 at 120.0 m, limit 1",)


def test_no_grade_is_reject():
    """A critical defect rules out each grade."""
    graded = grade_of(facts(CoilDefect("patches", "critical", 50.0, 10.0, "top")), RULES)
    assert graded.grade == REJECT


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"length_m": None}, "its length is not known"),
        ({"is_complete": False}, "events of the coil are missing"),
        ({"defects": (CoilDefect("scratches", "minor", None, 10.0),)}, "the place of 1 defects is not known"),
        ({"runs": (CoilRun("top", 0.0, 270.0, "whole"),)}, "was not inspected"),
        ({"runs": ()}, "100.00% of it was not inspected"),
        ({"cameras": {}}, "100.00% of it was not inspected"),
    ],
)
def test_lack_of_knowledge_is_not_graded(changed, words):
    """Unknown places, missing events and too much unseen strip: no grade, and the reason says which."""
    graded = grade_of(replace(facts(), **changed), RULES)
    assert graded.grade == NOT_GRADED
    assert any(words in reason for reason in graded.reasons), graded.reasons


def test_defects_rule_out_grades_although_something_is_unknown():
    """A coil with a critical defect is rejected even if events are missing."""
    critical = CoilDefect("patches", "critical", 50.0, 10.0, "top")
    assert grade_of(facts(critical, is_complete=False), RULES).grade == REJECT


def test_head_and_tail_do_not_count():
    """A defect counts unless it lies within the ends as a whole; so far, nobody knows where the tail is."""
    critical = CoilDefect("patches", "critical", 2.0, 100.0, "top")
    assert grade_of(facts(critical), RULES).grade == "A"
    assert grade_of(facts(replace(critical, at_m=4.95)), RULES).grade == REJECT
    assert grade_of(facts(replace(critical, length_mm=None)), RULES).grade == REJECT
    assert grade_of(facts(replace(critical, at_m=296.0)), RULES).grade == "A"
    assert grade_of(facts(replace(critical, at_m=296.0), has_ended=False), RULES).grade == REJECT


def test_rules_of_one_surface():
    """A rule of a surface counts its defects, and those whose surface is unknown count as possible."""
    rules = products({"grade": "A", "surface": "top", "major": 0}, {"grade": "A", "surface": "bottom", "major": 5})
    both = facts(
        runs=(CoilRun("t", 0, 300, "whole"), CoilRun("b", 0, 300, "whole")), cameras={"t": "top", "b": "bottom"}
    )
    assert grade_of(replace(both, defects=(major(10.0, surface="bottom"),)), rules).grade == "A"
    assert grade_of(replace(both, defects=(major(10.0, surface="top"),)), rules).grade == REJECT
    assert grade_of(replace(both, defects=(major(10.0, surface=None),)), rules).grade == NOT_GRADED


def test_surface_without_a_camera_was_missed():
    """A rule about the share that was missed fails for a surface that no camera sees."""
    rules = products({"grade": "A", "surface": "bottom", "missed_share": 0.5})
    graded = grade_of(facts(), rules)
    assert (graded.grade, graded.rules[0].found) == (NOT_GRADED, 1.0)


def test_share_counts_what_any_camera_missed():
    """Meters that one of two cameras missed were missed; meters in part count only for partial_share."""
    runs = (
        CoilRun("left", 0.0, 150.0, "whole"),
        CoilRun("left", 150.0, 153.0, "missed"),
        CoilRun("left", 153.0, 300.0, "whole"),
        CoilRun("right", 0.0, 152.0, "whole"),
        CoilRun("right", 152.0, 158.0, "partial"),
        CoilRun("right", 158.0, 300.0, "whole"),
    )
    rules = products({"grade": "A", "missed_share": 0.02, "partial_share": 0.02})
    graded = grade_of(facts(runs=runs, cameras={"left": None, "right": None}), rules)
    missed, partial = graded.rules
    assert (missed.found, missed.at_m, missed.holds) == (pytest.approx(3 / 300), 150.0, True)
    assert (partial.found, partial.holds) == (pytest.approx(8 / 300), False)
    assert graded.grade == NOT_GRADED


def test_width_within_limits():
    """The width rule names the place that is too narrow or too wide; without a measurement it cannot hold."""
    rules = products({"grade": "A", "width_mm": [998, 1002]})
    assert grade_of(facts(), rules).grade == "A"
    out = grade_of(facts(widths=(CoilWidth(10.0, 999.0, 1001.0), CoilWidth(20.0, 997.0, 1001.0))), rules)
    assert (out.grade, out.rules[0].found, out.rules[0].at_m) == (REJECT, 997.0, 20.0)
    assert grade_of(facts(widths=()), rules).grade == NOT_GRADED


def test_window_of_any_length_and_class():
    """Further windows count one class within their length."""
    row = {"grade": "A", "windows": [{"length_m": 2.0, "max": 1, "severity": "major", "classes": ["scratches"]}]}
    assert grade_of(facts(major(10.0), major(12.1)), products(row)).grade == "A"
    assert grade_of(facts(major(10.0), major(12.0)), products(row)).grade == REJECT


def test_product_is_chosen_by_the_name_of_the_coil():
    """The first product with a fitting pattern counts; a coil of no product is not graded."""
    two = [*products({"grade": "A"}, coils=["EX*"]), *products({"grade": "U"}, coils=["4?"], product="plain")]
    assert grade_of(replace(facts(), coil="EX-17"), two).product == "exposed"
    assert grade_of(replace(facts(), coil="42"), two).grade == "U"
    assert grade_of(replace(facts(), coil="X"), two).grade == NOT_GRADED


def test_most_in_window_is_exact():
    """Both ends of a window count, and its first place is returned."""
    assert most_in_window([0.0, 10.0, 10.5, 20.0], 10.0) == (3, 10.0)
    assert most_in_window([], 10.0) == (0, None)


# ---- properties ----------------------------------------------------------------------------------------

places = st.none() | st.floats(0, LENGTH_M)
defects = st.builds(
    CoilDefect,
    st.sampled_from(["scratches", "patches"]),
    st.sampled_from(["minor", "minor", "major", "critical"]),
    st.floats(0, LENGTH_M) | places,
    st.none() | st.floats(0, 200) | st.just(10.0),
    st.sampled_from(["top", "bottom", None]),
)
runs = st.builds(
    lambda camera, start, length, kind: CoilRun(camera, start, start + length, kind),
    st.sampled_from(["t", "b"]),
    st.floats(0, 290) | st.just(0.0),
    st.floats(0.1, 20) | st.just(LENGTH_M),
    st.sampled_from(["whole", "whole", "partial", "missed"]),
)
coils = st.builds(
    CoilFacts,
    st.just("A4711"),
    st.just(LENGTH_M) | st.none(),
    st.lists(defects, max_size=6).map(tuple),
    st.lists(runs, max_size=5).map(
        lambda found: (*found, CoilRun("t", 0, 297, "whole"), CoilRun("b", 0, 300, "whole"))
    ),
    st.just({"t": "top", "b": "bottom"}),
    st.none() | st.lists(st.sampled_from(["top", None]), max_size=2).map(tuple),
    st.lists(st.builds(CoilWidth, places, st.floats(995, 1000), st.floats(1000, 1005)), max_size=3).map(tuple),
    st.booleans() | st.just(True),
    st.booleans() | st.just(True),
)
MANY = products(
    {"grade": "A", "surface": "top", "critical": 0, "major_in_100m": 0, "in_10m": 1, "missed_share": 0.01},
    {"grade": "A", "surface": "bottom", "critical": 0, "major": 1, "longest_mm": 100, "partial_share": 0.05},
    {"grade": "A", "roll_marks": 0, "width_mm": [997, 1003]},
    {"grade": "B", "critical": 0, "minor": 4, "windows": [{"length_m": 30, "max": 1, "classes": ["patches"]}]},
    {"grade": "C", "critical": 1, "roll_marks": 1},
    ignore={"head_m": 5, "tail_m": 8},
)
RANKS = {"A": 0, "B": 1, "C": 2, REJECT: 3, NOT_GRADED: 3}


def rank(coil):
    return RANKS[grade_of(coil, MANY).grade]


@given(coils, st.data())
@settings(max_examples=80, deadline=None)
def test_less_knowledge_never_improves_a_grade(coil, data):
    """A run that was missed, a place, a length, a surface, the width, marks or an event less: never a better grade."""
    worse = [
        replace(coil, length_m=None),
        replace(coil, is_complete=False),
        replace(coil, roll_marks=None),
        replace(coil, widths=()),
        replace(coil, cameras={}),
    ]
    if coil.runs:
        k = data.draw(st.integers(0, len(coil.runs) - 1))
        missed = replace(coil.runs[k], kind=data.draw(st.sampled_from(["missed", "unknown"])))
        worse += [replace(coil, runs=(*coil.runs[:k], *more, *coil.runs[k + 1 :])) for more in ((), (missed,))]
    if coil.defects:
        k = data.draw(st.integers(0, len(coil.defects) - 1))
        for key in ("at_m", "length_mm", "surface"):
            less = replace(coil.defects[k], **{key: None})
            worse.append(replace(coil, defects=(*coil.defects[:k], less, *coil.defects[k + 1 :])))
    before = rank(coil)
    assert all(rank(less) >= before for less in worse)


@given(coils, defects, st.data())
@settings(max_examples=80, deadline=None)
def test_a_further_defect_never_improves_a_grade_and_their_order_does_not_matter(coil, defect, data):
    """One defect more gives the same grade or a worse one; shuffled defects and runs give the same grade."""
    assert rank(replace(coil, defects=(*coil.defects, defect))) >= rank(coil)
    shuffled = replace(
        coil,
        defects=tuple(data.draw(st.permutations(coil.defects))),
        runs=tuple(data.draw(st.permutations(coil.runs))),
    )
    assert grade_of(shuffled, MANY) == grade_of(coil, MANY)


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(0.1, 50))
@settings(max_examples=60, deadline=None)
def test_window_count_is_that_of_all_windows(at, length_m):
    """The sliding window finds what trying a window at each place finds."""
    tried = max((sum(start <= place and place - start <= length_m for place in at) for start in at), default=0)
    assert most_in_window(at, length_m)[0] == tried
