"""Nodes at a broker, by what they retain: verdicts, order, and messages that nobody should trust."""

import json

import pytest

from edge.delivery import fleet
from edge.delivery.fleet import Fleet
from edge.host.clock import wall_ns_of

NOW = wall_ns_of("2026-11-29T12:00:00.000Z")
STATUS = {
    "online": True,
    "version": "0.9.0",
    "since": "2026-11-29T11:00:00.000Z",
    "model": {"name": "student", "version": "0.3"},
    "cameras": ["top"],
    "outputs": {"sparkplug": {"state": "running"}},
    "page": {"link": "https://line3.plant.example/"},
}
STATE = {"state": "running", "reason": None, "fps": 30.0, "strip": {"coil": "A4711", "position_m": 812.4}}
COVERAGE = {"time": "2026-11-29T11:59:54.000Z", "frames": {"ok": 290, "defect": 8, "late": 2}, "paused_frames": 0}


def heard(*messages):
    """messages: topic below the prefix, and value."""
    found = Fleet("defectd")
    for topic, value in messages:
        found.take(f"defectd/{topic}", value if isinstance(value, bytes) else json.dumps(value).encode())
    return found


def nodes(*messages):
    return heard(*messages).as_json(NOW)["nodes"]


def node(status=STATUS, state=STATE, coverage=COVERAGE):
    (found,) = nodes(("line3/status", status), ("line3/top/state", state), ("line3/top/coverage", coverage))
    return found


def test_node_that_inspects_shows_coil_coverage_and_age():
    """Its age is that of its last coverage message."""
    found = node()
    names = ("verdict", "reasons", "coil", "position_m", "inspected", "age_s", "version", "model", "link")
    assert {name: found[name] for name in names} == {
        "verdict": "inspecting",
        "reasons": [],
        "coil": "A4711",
        "position_m": 812.4,
        "inspected": 0.9933,
        "age_s": 6.0,
        "version": "0.9.0",
        "model": "student 0.3",
        "link": "https://line3.plant.example/",
    }


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"status": {"online": False, "reason": "lost"}}, "offline", "the broker lost the connection"),
        ({"status": {"online": False, "reason": "stopped", "since": "x"}}, "offline", "it was stopped"),
        ({"state": {"state": "no_signal", "reason": "gone"}}, "not_inspecting", "camera top: no signal, gone"),
        ({"state": {**STATE, "reason": "drifted"}}, "degraded", "camera top has drifted"),
        ({"coverage": {"frames": {"ok": 90, "late": 10}}}, "degraded", "camera top: 10.0% of the frames were late"),
        ({"coverage": {"frames": {"ok": 90, "dropped": 10}, "paused_frames": 10}}, "inspecting", ""),
        (
            {"status": {**STATUS, "outputs": {"sparkplug": {"state": "waiting"}}}},
            "degraded",
            "the output sparkplug is waiting",
        ),
    ],
)
def test_verdict_has_its_reason(changes, verdict, reason):
    """The worst is offline; frames that were dropped while a camera was paused are no fault."""
    found = node(**changes)
    assert found["verdict"] == verdict
    assert reason in "; ".join(found["reasons"])


def test_node_that_the_broker_lost_is_offline_since_it_was_heard_last():
    """The will that the broker publishes has no time; what it said of its cameras before is no news."""
    found = node(status={"online": False, "reason": "lost"})
    assert (found["since"], found["inspected"]) == (COVERAGE["time"], None)
    assert node(status={"online": False, "since": "2026-11-29T11:58:00.000Z"})["since"] == "2026-11-29T11:58:00.000Z"


def test_worst_nodes_come_first_and_one_without_cameras_is_unknown():
    """Then by name."""
    found = nodes(
        ("b/status", STATUS | {"cameras": []}),
        ("a/status", {"online": False, "reason": "stopped"}),
        ("c/status", STATUS),
        ("c/top/state", STATE),
        ("d/top/state", {"state": "paused"}),
    )
    assert [(one["node"], one["verdict"]) for one in found] == [
        ("a", "offline"),
        ("d", "not_inspecting"),
        ("b", "unknown"),
        ("c", "inspecting"),
    ]


def test_camera_that_was_cleared_is_gone():
    """A node clears what it retained for a camera that it no longer has."""
    (found,) = nodes(("a/status", STATUS | {"cameras": []}), ("a/top/state", STATE), ("a/top/state", b""))
    assert found["cameras"] == []


@pytest.mark.parametrize(
    "payload",
    [b"no json", b"[1]", b"[" * 9000, b"\xff", json.dumps({"frames": {"ok": "x", "late": [1]}, "time": 7}).encode()],
)
def test_foreign_messages_change_no_verdict(payload):
    """They are counted, or their odd fields are unknown."""
    found = heard(("line3/status", STATUS), ("line3/top/state", STATE), ("line3/top/coverage", payload))
    (one,) = found.as_json(NOW)["nodes"]
    assert (one["verdict"], one["cameras"][0]["inspected"]) == ("inspecting", None)


def test_texts_are_cut_and_links_that_a_browser_should_not_follow_are_left_out():
    """No scheme but http, no address of the machine itself."""
    found = node(state={"state": "running", "strip": {"coil": "x\x1b[31m" + "y" * 500}})
    assert (len(found["coil"]), "\x1b" in found["coil"]) == (fleet.MAX_TEXT, False)
    for link in ("javascript:alert(1)", "http://127.0.0.1:8480/", "http://[::1]:8480/", "http://[bad", 7, "//x/", ""):
        assert node(status=STATUS | {"page": {"link": link}})["link"] is None


def test_nodes_and_cameras_are_bounded(monkeypatch):
    """What is left out is counted."""
    monkeypatch.setattr(fleet, "MAX_NODES", 2)
    monkeypatch.setattr(fleet, "MAX_CAMERAS", 1)
    found = heard(
        ("a/one/state", STATE), ("a/two/state", STATE), ("b/status", STATUS), ("c/status", STATUS), ("a/b/c/d", STATUS)
    )
    assert ({one["node"] for one in found.as_json(NOW)["nodes"]}, found.left_out) == ({"a", "b"}, 3)
