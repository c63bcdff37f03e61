"""The map of a coil: overlapping cameras, many defects, and the running coil followed within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.coil_lines import Defect, Ended, Header, Item, Progress, Runs, Width, decoded, encoded
from edge.coverage.coil_map import MAX_BINS, MAX_DEFECTS, SHOWN_DEFECTS, SHOWN_RUNS, CoilMap, CoilMaps, merged
from edge.coverage.runs import Run

HEADER = Header("20260101T000000000Z-A", "A", "line3", "2026-01-01T00:00:00.000Z", 1)


def defect(seq: int, at_m: float | None, **rest: Any) -> Defect:
    values: dict[str, Any] = {
        "is_open": False,
        "track_id": f"t{seq}",
        "time": "2026-01-01T00:00:00.000Z",
        "camera": "left",
        "surface": "top",
        "coil": "A",
        "class_name": "scratches",
        "severity": "minor",
        "confidence": 0.9,
        "from_m": at_m,
        "to_m": None if at_m is None else at_m + 0.02,
        "across_mm": (600.0, 620.0),
        "length_mm": 20.0,
        "evidence": None,
        **rest,
    }
    return Defect(seq=seq, **values)


@pytest.mark.parametrize(
    ("changes", "are_one"),
    [
        ({}, True),
        ({"from_m": 10.03, "to_m": 10.05}, True),
        ({"from_m": 10.04, "to_m": 10.05}, False),
        ({"class_name": "patches", "from_m": 10.021, "to_m": 10.05}, True),
        ({"class_name": "patches", "from_m": 10.03, "to_m": 10.05}, False),
        ({"across_mm": (634.0, 650.0)}, True),
        ({"across_mm": (640.0, 650.0)}, False),
        ({"camera": "left"}, False),
        ({"surface": "bottom"}, False),
        ({"surface": None}, False),
        ({"across_mm": None}, False),
        ({"from_m": None, "to_m": None}, False),
    ],
)
def test_defect_in_the_overlap_of_two_cameras_is_one(changes: dict[str, Any], are_one: Any) -> None:
    """Two cameras of one surface, within the tolerance along and across, whose limit depends on the class."""
    first = defect(1, 10.0, severity="major")
    second = defect(2, 10.0, **{"camera": "right", "across_mm": (600.0, 620.0), **changes})
    found = merged([second, first])
    assert (len(found) == 1) == are_one
    assert sum(len(each.defects) for each in found) == 2
    if are_one:
        (one,) = found
        assert one.severity == "major"
        assert one.main is first
        assert one.to_m == max(first.to_m or 0, second.to_m or 0)
        assert one.as_json()["seqs"] == [1, 2]


def test_long_defect_joins_its_pieces_of_the_other_camera() -> None:
    """One camera saw one scratch, the other two pieces of it: one defect; the worst severity and all extents hold."""
    whole = defect(1, 5.0, to_m=8.0)
    pieces = [defect(2, 5.1, camera="right", to_m=5.5), defect(3, 7.0, camera="right", to_m=8.3, severity="critical")]
    (one,) = merged([*pieces, whole])
    assert (one.from_m, one.to_m, one.severity) == (5.0, 8.3, "critical")


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(0, 20), st.sampled_from("abc")), max_size=60
    )
)
def test_merging_keeps_every_defect_once_and_never_lessens_one(places: list[tuple[int, int, int, str]]) -> None:
    """Whatever overlaps: each defect is in one group, and the group is as severe as its worst."""
    severities = ("minor", "major", "critical")
    all_of_them = [
        defect(
            n,
            at / 100,
            to_m=(at + length) / 100,
            across_mm=(wide * 10.0, wide * 10.0 + 5),
            camera=camera,
            severity=severities[n % 3],
        )
        for n, (at, length, wide, camera) in enumerate(places)
    ]
    found = merged(all_of_them)
    assert sorted(each.seq for one in found for each in one.defects) == list(range(len(places)))
    for one in found:
        assert severities.index(one.severity) == max(severities.index(each.severity) for each in one.defects)
        cameras = {each.camera for each in one.defects}
        assert len(one.defects) == 1 or len(cameras) > 1


@pytest.mark.parametrize(
    "item",
    [HEADER, defect(3, None), defect(4, 1.0), Runs("top", (Run(0.0, 1.0, "whole"), Run(1.0, 2.0, "missed", "paused")))],
)
def test_lines_come_back_as_they_were(item: Item) -> None:
    """What is written is what is read."""
    assert decoded(encoded(item)) == item


def test_map_counts_where_defects_are_many() -> None:
    """30,000 defects: memory and answer stay small, every defect is in a bin; a short view shows the newest ones."""
    coil = CoilMap()
    coil.take(HEADER)
    number, spread = 30_000, 0.1
    for n in range(number):
        coil.take(defect(n, n * spread, is_open=True, track_id=f"{n}"))
        coil.take(defect(n, n * spread, track_id=f"{n}"))
    coil.take(Runs("left", (Run(0.0, number * spread, "whole"),)))
    whole = coil.view(None, None)
    assert whole["defects"] is None
    assert sum(each["count"] for each in whole["bins"]["counts"]) == number
    assert len(whole["bins"]["counts"]) <= MAX_BINS
    assert len(coil._defects) == MAX_DEFECTS
    newest = coil.view(number * spread - 20, None)
    assert newest["defects"] is not None
    assert 190 < len(newest["defects"]) <= SHOWN_DEFECTS
    assert coil.view(0.0, 20.0)["defects"] is None, "only counted"
    summary = coil.summary()
    assert summary is not None
    assert summary.defects == number


def test_map_coarsens_runs_and_keeps_extremes_of_the_width() -> None:
    """What was not inspected stays visible, and so does the narrowest place."""
    coil = CoilMap()
    coil.take(HEADER)
    for n in range(30_000):
        kind: Any = "missed" if n % 50 == 0 else "whole"
        coil.take(Runs("left", (Run(n * 1.0, n + 1.0, kind, "overload" if kind == "missed" else None),)))
        coil.take(Width("left", n * 1.0, 1250.0, 1240.0 if n == 777 else 1249.0, 1251.0))
    view = coil.view(None, None)
    runs = view["runs"]["left"]
    assert len(runs) <= SHOWN_RUNS
    assert sum(to - start for start, to, kind, _ in runs if kind == "missed") >= 600
    assert min(least for _, _, least, _ in view["width"]["left"]) == 1240.0
    assert len(view["width"]["left"]) <= 400


def test_running_coil_is_followed(tmp_path: Path) -> None:
    """What is appended is taken once; a torn line waits for its end; the next coil starts an empty map."""
    path = tmp_path / f"{HEADER.id}.jsonl"
    path.write_bytes(encoded(HEADER) + encoded(defect(1, 1.0)) + encoded(Progress(1, 1)))
    maps = CoilMaps(tmp_path)

    def seqs() -> list[int]:
        coil, is_whole = maps.running(lambda: True)
        assert is_whole
        return [seq for each in coil.view(None, 100.0)["defects"] for seq in each["seqs"]]

    assert seqs() == [1]
    line = encoded(defect(2, 2.0))
    with path.open("ab") as file:
        file.write(line[:40])
        file.flush()
        assert seqs() == [1]
        file.write(line[40:])
        file.flush()
        assert seqs() == [1, 2]
    following = Header("20260101T010000000Z-B", "B", "line3", "2026-01-01T01:00:00.000Z", 3)
    (tmp_path / f"{following.id}.jsonl").write_bytes(encoded(following))
    path.unlink()
    assert seqs() == []
    assert maps.running(lambda: True)[0].view(None, None)["coil"] == "B"


def test_strip_without_a_coil_is_followed_over_its_records(tmp_path: Path) -> None:
    """The bounded records of a strip without coils follow each other; a restart of the node starts at 0 m again."""
    coil = CoilMap()

    def header(number: int) -> Header:
        return Header(f"{number}-no-coil", None, "line3", "2026-01-01T00:00:00.000Z", number)

    for item in (
        header(1),
        defect(1, 1.0, coil=None),
        Ended(1, "", None, "ring"),
        header(2),
        defect(2, 2.0, coil=None),
    ):
        coil.take(item)
    assert len(coil.view(None, 10.0)["defects"]) == 2
    coil.take(Ended(2, "", None, "restart"))
    coil.take(header(3))
    assert coil.view(None, 10.0)["defects"] == []
