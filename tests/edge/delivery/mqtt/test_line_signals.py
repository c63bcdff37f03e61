"""Speed and coil from topics: what is taken, and what is refused."""

from __future__ import annotations

import json

import pytest
from fakes import FakeClock

from edge import config
from edge.coverage.strip_position import CoilNamed, Speed
from edge.delivery.mqtt.line_signals import MAX_WAITING, LineSignals
from edge.delivery.mqtt.notices import Received
from edge.errors import ConfigError

BASE = {"topic": "plant/drive", "path": "$.line.speed", "coil_topic": "plant/coil"}


class Wire:
    """Sends messages to one LineSignals."""

    def __init__(self, **settings):
        self.clock = FakeClock()
        self.signals = LineSignals(config.Travel.model_validate({**BASE, **settings}), self.clock)

    def send(self, payload, topic="plant/drive", *, retained=False):
        payload = payload if isinstance(payload, bytes) else payload.encode()
        return self.signals.take(Received(topic, payload, 1, retained))

    def speeds(self):
        return [update.m_per_s for update in self.signals.updates() if isinstance(update, Speed)]


def test_speed_is_read_at_the_path():
    """Names, indices and quoted names; the factor makes m/s of it; the stamp is the time of arrival."""
    wire = Wire(path="$['drive 1'][1].v", factor=0.001)
    wire.clock.advance(3)
    assert wire.send('{"drive 1": [0, {"v": 1500}]}')
    assert list(wire.signals.updates()) == [Speed(wire.clock.monotonic_ns(), 1.5)]


def test_payload_may_be_the_number_itself():
    """Without a path."""
    wire = Wire(path=None)
    wire.send("1.25")
    wire.send(b' "2.5" ')
    assert wire.speeds() == [1.25, 2.5]


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
    """The message is taken, so no other reader receives it, and nothing of it reaches the inspection loop."""
    wire = Wire()
    assert wire.send(payload)
    assert wire.speeds() == []
    assert wire.signals.refused == {reason: 1}
    assert wire.signals.last_refusal


def test_retained_speed_is_refused():
    """Its age is unknown."""
    wire = Wire()
    wire.send('{"line": {"speed": 1}}', retained=True)
    assert wire.speeds() == []
    assert wire.signals.refused == {"retained": 1}


def test_burst_is_bounded_and_the_newest_stay(caplog):
    """10,000 valid and 10,000 invalid messages: a bounded queue, a count of the dropped ones, one log line."""
    wire = Wire()
    for n in range(10_000):
        wire.send(json.dumps({"line": {"speed": n / 1000}}))
        wire.send("nonsense")
    speeds = wire.speeds()
    assert len(speeds) == MAX_WAITING
    assert speeds[-1] == 9.999
    assert wire.signals.dropped == 10_000 - MAX_WAITING
    assert wire.signals.refused == {"not_json": 10_000}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("payload", "name"),
    [('"A4711"', "A4711"), ("A4711", "A4711"), ("4711", "4711"), ("", None), ("null", None), ('"  "', None)]
    + [
        (name, name) for name in ("2048E1", "7.10", "true", "-0", "1e999", "007", "NaN", '"A47', "12345678901234567890")
    ],
)
def test_coil_is_named_by_text_or_number(payload, name):
    """A name may read as another JSON value; an empty one means: no coil."""
    wire = Wire()
    assert wire.send(payload, "plant/coil", retained=True)
    assert list(wire.signals.updates()) == [CoilNamed(wire.clock.monotonic_ns(), name, retained=True)]


@pytest.mark.parametrize("payload", ["{}", "[1]", b"\xff", '"a\\nb"', "x" * 129])
def test_value_that_is_not_a_coil_name_is_refused(payload):
    """And nothing changes."""
    wire = Wire()
    wire.send(payload, "plant/coil")
    assert list(wire.signals.updates()) == []
    assert sum(wire.signals.refused.values()) == 1


def test_one_topic_may_carry_both():
    """Speed and coil in one message, each at its path."""
    wire = Wire(topic="plant", path="v", coil_topic="plant", coil_path="id")
    assert wire.signals.subscriptions == ("plant",)
    wire.send('{"v": 2, "id": "B1"}', "plant")
    at = wire.clock.monotonic_ns()
    assert list(wire.signals.updates()) == [Speed(at, 2.0), CoilNamed(at, "B1")]


def test_other_messages_are_not_taken():
    """Commands pass."""
    assert not Wire().send("{}", "defectd/line3/cmd/ping")
    assert LineSignals(config.Travel(), FakeClock()).subscriptions == ()


@pytest.mark.parametrize(
    ("travel", "words"),
    [
        ({"topic": "plant/+/drive"}, "travel.topic"),
        ({"topic": "a", "path": "a..b"}, "names and indices"),
        ({"path": "a"}, "path is set but no topic"),
        ({"topic": "a", "speed_m_per_s": 1}, "keep one of them"),
        ({"topic": "a", "coil_topic": "a"}, "give each its path"),
        ({"speed_m_per_s": -1}, "greater than 0"),
        ({"stale_s": 0}, "0.2"),
        ({"interpolation": "spline"}, "'linear' or 'previous'"),
    ],
)
def test_wrong_keys_are_reported_with_their_remedy(travel, words, tmp_path):
    """By `defectd check`, before anything starts."""
    raw = {"node": "n", "cameras": [{"name": "top", "source": "strip:"}], "travel": travel}
    with pytest.raises(ConfigError) as refusal:
        config.parse(raw, origin="x", base=tmp_path, env={})
    assert words in str(refusal.value)
