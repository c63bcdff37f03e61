"""From a record to a grade where two cameras overlap: what both saw counts once; less knowledge improves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import Product
from edge.coverage import grading
from edge.coverage.coil_grading import CoilFactsBuilder
from edge.coverage.coil_lines import CameraView, Defect, Ended, Header, Progress, Runs
from edge.coverage.runs import Run

CAMERAS = (CameraView("left", "top"), CameraView("right", "top"))
PRODUCT = Product.model_validate(
    {
        "product": "any",
        "ignore": {"head_m": 2.0},
        "grades": [
            {"grade": "A", "minor": 1, "major": 0, "longest_mm": 50},
            {"grade": "B", "minor": 3, "in_10m": 2, "windows": [{"length_m": 5, "max": 1, "classes": ["patches"]}]},
            {"grade": "C", "minor": 6, "major": 2},
        ],
    }
).model_dump(mode="json")
ORDER = ("A", "B", "C", grading.NOT_GRADED, grading.REJECT)
NO_GRADE = 3


def defect(seq, camera, at_m, across_mm, **rest):
    values = {
        "seq": seq,
        "is_open": False,
        "track_id": f"t{seq}",
        "time": "",
        "camera": camera,
        "surface": "top",
        "coil": "A",
        "class_name": "scratches",
        "severity": "minor",
        "confidence": 0.9,
        "from_m": at_m,
        "to_m": None if at_m is None else at_m + 0.02,
        "across_mm": across_mm,
        "length_mm": 20.0,
        "evidence": None,
    }
    return Defect(**{**values, **rest})


def graded(defects):
    builder = CoilFactsBuilder()
    builder.add(Header("i", "A", "n", "2026-11-29T00:00:00.000Z", 1, cameras=CAMERAS))
    for one in defects:
        builder.add(one)
    for camera in CAMERAS:
        builder.add(Runs(camera.name, (Run(0.0, 100.0, "whole"),)))
    last = max((one.seq for one in defects), default=0)
    builder.add(Progress(last, last))
    builder.add(Ended(last, "", 100.0, "command"))
    return grading.grade_of(builder.facts(()), [PRODUCT])


def test_defect_in_the_overlap_counts_once():
    """Also where the cameras took it for two classes; the worse severity, the greater length and both classes count."""
    left = defect(1, "left", 10.0, (480.0, 500.0))
    right = defect(2, "right", 10.001, (482.0, 503.0), severity="major", class_name="patches", length_mm=30.0)
    assert graded([left, replace(right, severity="minor")]).grade == "A"
    grade = graded([left, right, defect(3, "left", 12.0, (10.0, 20.0), class_name="patches")])
    found = {rule.rule: rule.found for rule in grade.rules if rule.grade == "B"}
    assert (grade.grade, found["minor"]) == ("C", 2.0)
    assert found["minor of patches in 5 m"] == 2.0


@pytest.mark.parametrize("change", [{"surface": None}, {"across_mm": None}, {"length_mm": None}, {"is_open": True}])
def test_what_one_camera_does_not_know_makes_no_grade_better(change):
    """The pair falls apart, or its length is not known."""
    pair = [defect(1, "left", 10.0, (480.0, 500.0)), defect(2, "right", 10.0, (480.0, 500.0))]
    assert graded(pair).grade == "A"
    assert graded([pair[0], replace(pair[1], **change)]).grade != "A"


places = st.sampled_from([1.985, 1.99, 2.0, 10.0, 10.01, 10.03, 14.0, 50.0])
defects = st.lists(
    st.tuples(
        st.sampled_from(["left", "right"]),
        places,
        st.sampled_from([(480.0, 500.0), (490.0, 515.0), (10.0, 20.0)]),
        st.sampled_from(["scratches", "patches"]),
        st.sampled_from(["minor", "major"]),
        st.sampled_from([20.0, 49.0, 60.0]),
    ),
    max_size=6,
)


@given(defects, st.data())
@settings(deadline=None)
def test_less_knowledge_of_any_defect_improves_no_grade(drawn, data):
    """Whatever overlaps: without a place, a length, a surface or its end, a defect makes the grade no better."""
    known = [
        defect(
            n + 1, camera, at_m, across, class_name=name, severity=severity, length_mm=length, to_m=at_m + length / 1e3
        )
        for n, (camera, at_m, across, name, severity, length) in enumerate(drawn)
    ]
    if not known:
        return
    which = data.draw(st.integers(0, len(known) - 1))
    change = data.draw(
        st.sampled_from([{"surface": None}, {"across_mm": None}, {"length_mm": None, "to_m": None}, {"is_open": True}])
    )
    less = [replace(one, **change) if n == which else one for n, one in enumerate(known)]
    assert min(ORDER.index(graded(less).grade), NO_GRADE) >= min(ORDER.index(graded(known).grade), NO_GRADE)
