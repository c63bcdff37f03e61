"""Speed and coil from MQTT topics: accepted and refused messages."""

from __future__ import annotations

import json

import pytest
from fakes.clock import FakeClock

from edge import config
from edge.coverage.strip_position import CoilNamed, Speed
from edge.delivery.mqtt.line_signals import MAX_WAITING, LineSignals
from edge.delivery.mqtt.notices import Received
from edge.errors import ConfigError

BASE = {"topic": "plant/drive", "path": "$.line.speed", "coil_topic": "plant/coil"}


class Scene:
    """One LineSignals, and the messages that it receives."""

    def __init__(self, *lanes, **settings):
        self.clock = FakeClock()
        travel = config.Travel.model_validate({**BASE, **settings})
        self.signals = LineSignals(travel, self.clock, lambda: frozenset(lanes))

    def send(self, payload, topic="plant/drive", *, retained=False):
        payload = payload if isinstance(payload, bytes) else payload.encode()
        return self.signals.take(Received(topic, payload, 1, retained))

    def speeds(self):
        return [update.m_per_s for update in self.signals.updates() if isinstance(update, Speed)]


def test_speed_is_read_at_the_path():
    """A path has names, indices and quoted names; the factor converts to m/s; the stamp is the time of arrival."""
    scene = Scene(path="$['drive 1'][1].v", factor=0.001)
    scene.clock.advance(3)
    assert scene.send('{"drive 1": [0, {"v": 1500}]}')
    assert list(scene.signals.updates()) == [Speed(scene.clock.monotonic_ns(), 1.5)]


def test_payload_may_be_the_number_itself():
    """Without a path the payload is the number."""
    scene = Scene(path=None)
    scene.send("1.25")
    scene.send(b' "2.5" ')
    assert scene.speeds() == [1.25, 2.5]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "not_json"),
        ("drive stopped", "not_json"),
        (b"\xff\xfe", "not_json"),
        ('{"line": {"speed": NaN}}', "not_json"),
        ('{"line": {"speed": Infinity}}', "not_json"),
        ('{"line": {"speed": 1e999}}', "not_json"),
        ('{"line": {"speed": 123456789012345678901234567890}}', "not_json"),
        ("[" * 5000, "too_deep"),
        ("{}", "no_path"),
        ('{"line": null}', "no_path"),
        ('{"line": [1]}', "no_path"),
        ('{"line": {"speed": null}}', "not_a_number"),
        ('{"line": {"speed": true}}', "not_a_number"),
        ('{"line": {"speed": "1,5"}}', "not_a_number"),
        ('{"line": {"speed": "fast"}}', "not_a_number"),
        ('{"line": {"speed": "NaN"}}', "not_a_number"),
        ('{"line": {"speed": {}}}', "not_a_number"),
        ('{"line": {"speed": -0.1}}', "negative"),
        ('{"line": {"speed": 50.1}}', "too_fast"),
        ('{"line": {"speed": "1e300"}}', "too_fast"),
        ('{"line": {"speed": 1}}' + " " * 20_000, "too_large"),
    ],
)
def test_value_that_is_not_a_speed_is_refused_and_counted(payload, reason):
    """The message reaches neither another reader nor the inspection loop."""
    scene = Scene()
    assert scene.send(payload)
    assert scene.speeds() == []
    assert scene.signals.refused == {reason: 1}
    assert scene.signals.last_refusal


def test_retained_speed_is_refused():
    """The age of a retained message is unknown."""
    scene = Scene()
    scene.send('{"line": {"speed": 1}}', retained=True)
    assert scene.speeds() == []
    assert scene.signals.refused == {"retained": 1}


def test_burst_is_bounded_and_the_newest_stay(caplog):
    """20,000 messages leave a bounded queue, a count of the dropped ones and one log line."""
    scene = Scene()
    for n in range(10_000):
        scene.send(json.dumps({"line": {"speed": n / 1000}}))
        scene.send("nonsense")
    speeds = scene.speeds()
    assert len(speeds) == MAX_WAITING
    assert speeds[-1] == 9.999
    assert scene.signals.dropped == 10_000 - MAX_WAITING
    assert scene.signals.refused == {"not_json": 10_000}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("payload", "name"),
    [('"A4711"', "A4711"), ("A4711", "A4711"), ("4711", "4711"), ("", None), ("null", None), ('"  "', None)]
    + [
        (name, name) for name in ("2048E1", "7.10", "true", "-0", "1e999", "007", "NaN", '"A47', "12345678901234567890")
    ],
)
def test_coil_is_named_by_text_or_number(payload, name):
    """A name may read as another JSON value; an empty one means that there is no coil."""
    scene = Scene()
    assert scene.send(payload, "plant/coil", retained=True)
    assert list(scene.signals.updates()) == [CoilNamed(scene.clock.monotonic_ns(), name, retained=True)]


@pytest.mark.parametrize("payload", ["{}", "[1]", b"\xff", '"a\\nb"', "x" * 129])
def test_value_that_is_not_a_coil_name_is_refused(payload):
    """A refused message leaves the coil unchanged."""
    scene = Scene()
    scene.send(payload, "plant/coil")
    assert list(scene.signals.updates()) == []
    assert sum(scene.signals.refused.values()) == 1


def test_one_topic_may_carry_speed_and_coil():
    """Each is read at its path in the one message."""
    scene = Scene(topic="plant", path="v", coil_topic="plant", coil_path="id")
    assert scene.signals.subscriptions == ("plant",)
    scene.send('{"v": 2, "id": "B1"}', "plant")
    at = scene.clock.monotonic_ns()
    assert list(scene.signals.updates()) == [Speed(at, 2.0), CoilNamed(at, "B1")]


def test_other_messages_are_not_taken():
    """Commands are left to their own reader."""
    assert not Scene().send("{}", "defectd/line3/cmd/ping")
    assert LineSignals(config.Travel(), FakeClock()).subscriptions == ()


@pytest.mark.parametrize(
    ("travel", "words"),
    [
        ({"topic": "plant/+/drive"}, "travel.topic"),
        ({"topic": "a", "path": "a..b"}, "names and indices"),
        ({"path": "a"}, "path is set but topic is not"),
        ({"topic": "a", "speed_m_per_s": 1}, "keep one of them"),
        ({"topic": "a", "coil_topic": "a"}, "give each its own path"),
        ({"speed_m_per_s": -1}, "greater than 0"),
        ({"stale_s": 0}, "0.2"),
        ({"interpolation": "spline"}, "'linear' or 'previous'"),
    ],
)
def test_wrong_keys_are_reported_with_their_remedy(travel, words, tmp_path):
    """`defectd check` reports them before anything starts."""
    raw = {"node": "n", "cameras": [{"name": "top", "source": "strip:"}], "travel": travel}
    with pytest.raises(ConfigError) as refusal:
        config.parse(raw, origin="x", base=tmp_path, env={})
    assert words in str(refusal.value)


@pytest.mark.parametrize("path", [None, "coils"])
def test_object_names_the_coils_of_lanes(path):
    """Itself, or at the path; a text is still the coil of the strip, and an unknown lane is refused."""
    scene = Scene("left", "right", coil_path=path)
    around = '{"coils": %s}' if path else "%s"

    def named(payload):
        scene.send(around % payload, "plant/coil")
        return [(update.lane, update.name) for update in scene.signals.updates()]

    assert named('{"left": "A-1", "right": null}') == [("left", "A-1"), ("right", None)]
    assert named('"A"') == [(None, "A")]
    assert named('{"middle": "A-3"}') == []
    assert scene.signals.refused == {"no_lane": 1}
