"""The events of the API: filters, pages in both directions, and a search that ends in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.outbox import open_outbox
from fakes.page import PageClient, served_page

from edge.delivery.outbox.reader import EventQuery, read_page
from edge.delivery.outbox.rows import Draft

EVENTS = 25


def draft(number: int) -> Draft:
    """Event 1 is of coil A, a scratch; 2 of coil B, a patch; and so on; every fifth starts a coil."""
    kind = "coil.started" if number % 5 == 0 else "defect.opened"
    coil = ("A<script>", "B")[number % 2 == 0]
    defect = {"class": ("scratches", "patches")[number % 2 == 0], "coil": coil, "severity": "major"}
    payload: dict[str, Any] = {
        "schema": "defectd.event/1",
        "event_id": f"e{number}",
        "seq": 0,
        "type": kind,
        "camera": "node" if number % 5 == 0 else "top",
        "time": "2026-11-22T13:46:11.482Z",
        "defect": None if number % 5 == 0 else defect,
        "detail": {"coil": coil, "text": f"Übergang {number}"} if number % 5 == 0 else None,
    }
    return Draft("defectd/line3/top/event", payload, f"e{number}", "alarm")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageClient]:
    """Of a page with 25 events, one a second; three were delivered, one was refused."""
    folder, clock = tmp_path_factory.mktemp("events"), FakeClock()
    box = open_outbox(folder, clock=clock)
    for number in range(1, EVENTS + 1):
        box.append([draft(number)])
        clock.advance(1)
    box.ack([1, 2, 3])
    box.refuse(7, 0x87, "not authorized")
    with served_page(folder) as scene:
        yield scene.client()
    box.close()


def seqs(client: PageClient, query: str) -> list[int]:
    answer = client.get(f"/api/v1/events?{query}")
    assert answer.status == 200, answer.body
    return [event["seq"] for event in answer.json["events"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=3", [25, 24, 23]),
        ("limit=3&before=23", [22, 21, 20]),
        ("limit=3&after=3", [4, 5, 6]),
        ("after=3&before=7", [6, 5, 4]),
        ("type=coil.started", [25, 20, 15, 10, 5]),
        ("type=coil.started,defect.opened&limit=2", [25, 24]),
        ("type=coil.started&type=defect.closed&limit=1", [25]),
        ("class=patches&limit=2", [24, 22]),
        ("camera=node&coil=B", [20, 10]),
        ("coil=A%3Cscript%3E&limit=3", [25, 23, 21]),
        ("severity=major&limit=2", [24, 23]),
        ("q=%C3%BCbergang%201", [15, 10]),
        ("since=2026-09-21T14:13:40Z&until=2026-09-21T14:13:42Z", [23, 22, 21]),
        ("type=nothing", []),
        ("after=25", []),
        ("before=1", []),
        ("limit=", list(range(25, 0, -1))),
    ],
)
def test_filters_and_bounds_choose_events(client: PageClient, query: str, expected: list[int]) -> None:
    """Newest first; with `after` alone oldest first."""
    assert seqs(client, query) == expected


def test_pages_follow_each_other_without_a_gap(client: PageClient) -> None:
    """`next` names the parameter of the following page, in both directions, until everything was seen."""
    for start, expected in (("before=26", list(range(25, 0, -1))), ("after=0", list(range(1, 26)))):
        found: list[int] = []
        query: str | None = start
        while query is not None:
            page = client.get(f"/api/v1/events?limit=4&{query}").json
            found += [event["seq"] for event in page["events"]]
            following = page["next"]
            query = None if following is None else "&".join(f"{name}={seq}" for name, seq in following.items())
            assert page["is_whole"] is (following is None)
        assert found == expected


def test_event_shows_how_far_it_is_delivered(client: PageClient) -> None:
    """Waiting, delivered, or refused with the reason; a number that is not stored gives 404."""
    states = {seq: client.get(f"/api/v1/events/{seq}").json["event"]["delivery"] for seq in (1, 7, 25)}
    assert [states[seq]["state"] for seq in (1, 7, 25)] == ["delivered", "refused", "waiting"]
    assert (states[7]["reason"], states[25]["settled"]) == ("not authorized", None)
    for missing in ("0", "26", "99999999999"):
        assert client.get(f"/api/v1/events/{missing}").status == 404
    for wrong in ("x", "-1", "1.5", "9" * 30, "%C2%B2"):
        assert client.get(f"/api/v1/events/{wrong}").status == 400


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "after=-1", "before=1e3", "since=yesterday", "until=99999-01-01",
     "limit=1&limit=2", "q=" + "x" * 300,
     "type=" + ",".join("abcdefghijklmnopqrstuvwxyz"), "&".join(f"a{n}=1" for n in range(60))],
)  # fmt: skip
def test_wrong_parameter_is_refused(client: PageClient, query: str) -> None:
    """With a reason that names it."""
    answer = client.get(f"/api/v1/events?{query}")
    assert (answer.status, answer.code) == (400, "bad_value")


def test_search_ends_in_time_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks through a window at a time: the cursor of an unfinished page leads to the rest."""
    monkeypatch.setattr("edge.delivery.outbox.reader.WINDOW", 4)
    box = open_outbox(tmp_path)
    box.append([draft(number) for number in range(1, EVENTS + 1)])
    for is_forward in (True, False):
        found, windows, cursor = [], 0, 0 if is_forward else EVENTS + 1
        while True:
            bound = {"after": cursor} if is_forward else {"before": cursor}
            query = EventQuery(10, types=("coil.started",), **bound)
            page = read_page(tmp_path / "outbox.db", query, lambda: False)
            found += [row.seq for row in page.events]
            windows += 1
            if page.cursor is None:
                break
            cursor = page.cursor
        assert (found, windows) == (sorted([5, 10, 15, 20, 25], reverse=not is_forward), 7)
        assert page.is_whole
    box.close()


def test_without_an_outbox_there_are_no_events(tmp_path: Path) -> None:
    """And a damaged one is reported, not hidden."""
    with served_page(tmp_path) as scene:
        assert seqs(scene.client(), "") == []
        (tmp_path / "outbox.db").write_bytes(b"no database" * 1000)
        answer = scene.client().get("/api/v1/events")
        assert (answer.status, answer.code) == (503, "outbox")
