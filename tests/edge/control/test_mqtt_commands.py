"""Commands from untrusted clients: each is carried out or refused with a reason."""

from __future__ import annotations

import json
import queue
import threading
from typing import Any

import pytest
from fakes.clock import FakeClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import config
from edge.control import mqtt_commands
from edge.control.mqtt_commands import BURST, MAX_BYTES, Commands, parsed
from edge.control.requests import VERBS, DeadLetters, Request, Set
from edge.delivery.mqtt.notices import Received
from edge.delivery.mqtt.topics import CAMERA_TOPICS, Topics
from edge.errors import CommandError, OutboxError
from edge.host.clock import SystemClock

TOPICS = Topics("defectd", "line3")
ALL = list(VERBS)


class Scene:
    """Commands with a queue for replies and a node that carries out every command, or fails."""

    def __init__(self, allow: list[str] = ALL, clock: Any = None, **settings: Any) -> None:
        self.clock = clock or FakeClock()
        self.replies: queue.SimpleQueue[tuple[str, dict[str, Any], bytes | None]] = queue.SimpleQueue()
        self.done: list[Request] = []
        self.failure: Exception | None = None
        made = config.Commands.model_validate({"allow": allow, **settings})
        self.commands = Commands(TOPICS, made, ["top"], self.clock)
        self.commands.attach(lambda *reply: self.replies.put(reply), self.perform)
        self.commands.start()

    def perform(self, request: Request) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.done.append(request)
        return {"did": type(request).__name__}

    def ask(self, verb: str, payload: Any = b"", **more: Any) -> tuple[str, dict[str, Any], bytes | None]:
        """Send a command.  Returns topic, reply and correlation data."""
        self.clock.advance(10)
        words = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.commands.take(Received(f"defectd/line3/cmd/{verb}", words, 1, more.pop("retained", False), **more))
        return self.replies.get(timeout=5)

    def refused(self, verb: str, payload: Any = b"", **more: Any) -> str:
        topic, reply, _ = self.ask(verb, payload, **more)
        assert reply["ok"] is False
        assert reply["error"]["reason"]
        assert topic.startswith("defectd/line3/")
        return reply["error"]["code"]


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    assert scene.commands.stop(5)


def test_command_is_answered_on_its_reply_topic_with_its_id(scene):
    """For clients of MQTT 3.1.1: cmd/VERB/reply, with the id of the command."""
    topic, reply, correlation = scene.ask("ping", {"id": "a-1"})
    assert (topic, correlation) == ("defectd/line3/cmd/ping/reply", None)
    assert (reply["schema"], reply["verb"], reply["id"], reply["ok"]) == ("defectd.reply/1", "ping", "a-1", True)
    assert reply["result"] == {"did": "Ping"}
    assert scene.ask("ping")[1]["id"] is None


def test_command_is_answered_on_its_response_topic_with_its_correlation(scene):
    """MQTT 5: at the topic that the client names, if it is below the node's own prefix."""
    place, mark = "defectd/line3/replies/me", b"\x00\xff"
    topic, reply, correlation = scene.ask("state", response_topic=place, correlation=mark)
    assert (topic, reply["ok"], correlation) == (place, True, mark)


@pytest.mark.parametrize(
    "topic",
    [
        "other/place",
        "defectd/line4/replies",
        "defectd/line3",
        "defectd/line3/",
        "defectd/line3//x",
        "defectd/line3/status",
        "defectd/line3/top/event",
        "defectd/line3/node/event",
        "defectd/line3/replies/event",
        "defectd/line3/replies/state",
        "defectd/line3/replies/coverage",
        "defectd/line3/cmd/ping",
        "defectd/line3/+/x",
        "defectd/line3/#",
        "defectd/line3/a\x00b",
        "defectd/line3/" + "x" * 600,
        "plantain/x",
        "",
    ],
)
def test_reply_goes_to_no_other_topic(topic):
    """A response topic elsewhere, on the node's own topics or on a command is refused, and nothing is carried out."""
    scene = Scene(reply_prefixes=["plant"])
    reply_topic, reply, _ = scene.ask("ping", response_topic=topic)
    assert (reply_topic, reply["error"]["code"]) == ("defectd/line3/cmd/ping/reply", "reply_topic")
    assert scene.done == []
    assert scene.ask("ping", response_topic="plant/scada/7")[0] == "plant/scada/7"
    assert scene.commands.stop(5)


def test_only_the_command_state_matches_a_subscription_to_cameras():
    """No other verb has the name of a camera's topic: PREFIX/+/+/event and PREFIX/+/+/coverage match no command."""
    assert set(CAMERA_TOPICS) & set(VERBS) == {"state"}


def test_only_allowed_verbs_are_carried_out():
    """By default a node can be read, not changed; each refusal names the key that allows the command."""
    scene = Scene(config.Commands().allow)
    assert scene.ask("ping")[1]["ok"]
    assert scene.ask("state")[1]["ok"]
    for verb in set(ALL) - {"ping", "state"}:
        _, reply, _ = scene.ask(verb, {"camera": "top"})
        assert reply["error"]["code"] == "disabled"
        assert "commands.allow" in reply["error"]["reason"]
    assert {type(r).__name__ for r in scene.done} == {"Ping", "State"}
    assert scene.commands.stop(5)
    assert Commands(TOPICS, config.Commands(allow=[]), [], FakeClock()).subscriptions == ()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{", "bad_json"),
        (b"nonsense", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b"[]", "bad_json"),
        (b"null", "bad_json"),
        (b'"ping"', "bad_json"),
        (b'{"confidence": NaN}', "bad_json"),
        (b'{"confidence": -Infinity}', "bad_json"),
        (b'{"confidence": 1e999}', "bad_json"),
        (b'{"confidence": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"camera": "top", "camera": "side"}', "bad_json"),
        (b'{"camera": "\\ud800"}', "bad_json"),
        (b"[" * 9, "too_deep"),
        (b'{"a":' * 3000, "too_deep"),
        (b"[" * MAX_BYTES, "too_deep"),
        (b" " * MAX_BYTES + b"{}", "too_large"),
        (b"x" * 10_000_000, "too_large"),
        ({}, "bad_value"),
        ({"camera": "top"}, "bad_value"),
        ({"camera": "../../etc/passwd", "confidence": 0.5}, "bad_value"),
        ({"camera": "top/event", "confidence": 0.5}, "bad_value"),
        ({"camera": "top", "confidence": "0.5"}, "bad_value"),
        ({"camera": "top", "confidence": True}, "bad_value"),
        ({"camera": "top", "confidence": 1.5}, "bad_value"),
        ({"camera": "top", "classes": {"scratches": [1]}}, "bad_value"),
        ({"camera": "top", "confidence": 0.5, "budget_ms": 1}, "bad_value"),
        ({"camera": ["top"], "confidence": 0.5}, "bad_value"),
        ({"camera": "top", "confidence": 0.5, "id": {"a": 1}}, "bad_value"),
        ({"camera": "top", "confidence": 0.5, "id": "x" * 200}, "bad_value"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_command_is_refused_with_a_reason(scene, payload, code):
    """Not JSON, NaN, too deep, too large, wrong types, unknown fields, path tricks: one word and one sentence each."""
    assert scene.refused("set", payload) == code
    assert scene.done == []


@pytest.mark.parametrize("verb", ["format-disk", "", "PING", "../ping", "x" * 5000, "pi ng"])
def test_unknown_verb_is_refused_on_a_topic_of_the_node(scene, verb):
    """The client's text never becomes part of a topic."""
    topic, reply, _ = scene.ask(verb, {"id": 7})
    assert topic == "defectd/line3/cmd/unknown/reply"
    assert (reply["error"]["code"], reply["id"], reply["verb"]) == ("unknown_verb", 7, "unknown")


def test_retained_command_is_refused(scene):
    """The broker would repeat it at each new connection."""
    assert scene.refused("ping", retained=True) == "retained"


def test_failure_of_the_node_is_answered(scene):
    """Errors raised on purpose give their message, others only their name."""
    for failure, code, word in [
        (CommandError("unknown_camera", "no camera side"), "unknown_camera", "side"),
        (OutboxError("the disk is full"), "failed", "full"),
        (KeyError("secret"), "failed", "KeyError"),
    ]:
        scene.failure = failure
        _, reply, _ = scene.ask("ping")
        assert (reply["error"]["code"], word in reply["error"]["reason"]) == (code, True)
        assert "secret" not in json.dumps(reply)
    scene.failure = None
    assert scene.ask("ping")[1]["ok"]


def test_flood_gets_one_refusal_a_second(scene):
    """Above the burst one reply a second gives the number refused; all are counted; later commands are carried out."""
    message = Received("defectd/line3/cmd/ping", b"", 1, False)
    total = 0
    for _ in range(3):
        for _ in range(1000):
            scene.commands.take(message)
            total += 1
            scene.clock.advance(0.001)
    counts = scene.commands.counts
    while scene.commands.counts.done + scene.commands.counts.refused < total:
        threading.Event().wait(0.01)
    counts = scene.commands.counts
    assert counts.flooded >= total - BURST - 3 * 5 - 1
    replies = [scene.replies.get(timeout=1)[1] for _ in range(counts.done)]
    while not scene.replies.empty():
        replies.append(scene.replies.get()[1])
    rejected = [r for r in replies if not r["ok"] and r["error"]["code"] == "rate"]
    assert 2 <= len(rejected) <= 4
    assert "commands a second" in rejected[0]["error"]["reason"]
    assert scene.ask("ping")[1]["ok"]


def test_commands_that_wait_are_bounded(scene):
    """While one runs, sixteen wait and the next is refused as busy."""
    hold, entered = threading.Event(), threading.Event()

    def perform(_request: Request) -> dict[str, Any]:
        entered.set()
        hold.wait(5)
        return {}

    scene.commands._perform = perform
    message = Received("defectd/line3/cmd/ping", b"", 1, False)
    scene.commands.take(message)
    assert entered.wait(5)
    for _ in range(mqtt_commands.MAX_WAITING + 1):
        scene.clock.advance(1)
        scene.commands.take(message)
    assert scene.replies.get(timeout=5)[1]["error"]["code"] == "busy"
    hold.set()


def test_log_shows_the_words_of_a_client_bounded_and_without_secrets(scene, caplog):
    """One line per command; no control characters, no credentials, no novel."""
    caplog.set_level("INFO")
    scene.ask("ping", b'{"id": "rtsp://u:hunter2@h\x1b[31m"}' + b" " * 900)
    scene.ask("set", {"camera": "mqtt://u:hunter2@h"})
    scene.ask("token=hunter2\n" + "v" * 900)
    assert "hunter2" not in caplog.text
    assert "\x1b" not in caplog.text
    assert all(len(record.getMessage()) < 700 and "\n" not in record.getMessage() for record in caplog.records)


def test_requests_are_frozen_and_typed():
    """What is handed on cannot be changed any more; null is not the same as left out."""
    request = Set.model_validate({"camera": "top", "confidence": None, "classes": {"scratches": 1}})
    assert request.wanted == {"confidence": None, "classes": {"scratches": 1}}
    with pytest.raises(ValueError, match="frozen"):
        request.camera = "side"
    assert DeadLetters.model_validate({"action": "retry", "seqs": [1, 2]}).seqs == (1, 2)
    both = {"action": "discard", "seqs": [1], "all": True}
    for wrong in ({"action": "retry"}, both, {"seqs": ["1"]}, {"seqs": [True]}):
        with pytest.raises(ValueError, match="seq"):
            DeadLetters.model_validate(wrong)


def test_depth_is_counted_without_strings_and_in_linear_time():
    """Brackets in strings are words; strings without an end do not cost more than their length."""
    assert parsed(b'{"id": "[[[[[[[[[[[[[[[[{{{{"}') == {"id": "[" * 16 + "{" * 4}
    assert parsed(b'{"id": "a\\"[[[[[[[[[[[[["}') == {"id": 'a"' + "[" * 13}
    clock = SystemClock()
    began = clock.monotonic_ns()
    for nasty in (b'"\\' * 8000, b'\\"' * 8000, b'"' * 16_000, b'{"' * 8000, b"\\" * 16_000):
        with pytest.raises(CommandError):
            parsed(nasty)
    assert clock.monotonic_ns() - began < 1_000_000_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from(["id", "camera", "confidence", "unsure", "classes", "for_s", "action", "seqs", "all", "x"]),
    json_values | st.sampled_from(["top", "../..", "", "retry", 0.5, 1, [1], {"scratches": 0.9}]),
    max_size=5,
)
payloads = st.binary(max_size=300) | st.builds(lambda v: json.dumps(v).encode(), json_values | fields)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(
    st.sampled_from([*ALL, "other"]) | st.text(max_size=30),
    payloads,
    st.none() | st.text(max_size=40) | st.just("defectd/line3/r"),
    st.none() | st.binary(max_size=20),
)
def test_any_bytes_get_exactly_one_reply(scene, verb, payload, response_topic, correlation):
    """Whatever comes: one reply below the own prefix, JSON that can be sent, done or refused with a reason."""
    topic, reply, answered = scene.ask(verb, payload, response_topic=response_topic, correlation=correlation)
    assert topic.startswith("defectd/line3/")
    assert not set(topic) & set("+#\0")
    json.dumps(reply, ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert reply["ok"] or reply["error"]["reason"]
    assert answered == correlation
    assert len(json.dumps(reply)) < 4000
