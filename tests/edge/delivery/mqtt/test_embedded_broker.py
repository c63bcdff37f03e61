"""The broker inside the daemon's process."""

from __future__ import annotations

import logging
import socket
import sys
import threading

import pytest
from fakes.waiting import until

from edge.config import Mqtt
from edge.delivery.mqtt.client import Link
from edge.delivery.mqtt.embedded_broker import EmbeddedBroker
from edge.delivery.mqtt.listener import listen
from edge.delivery.mqtt.notices import Connected, Disconnected, Will
from edge.errors import ConfigError

pytest.importorskip("amqtt", reason="the extra demo is not installed")


def test_broker_listens_after_start_and_its_port_is_free_after_stop(free_port):
    """`start` waits until it listens, `stop` until it has ended; the port can be used again at once."""
    for _ in range(2):
        broker = EmbeddedBroker(free_port)
        broker.start()
        socket.create_connection(("127.0.0.1", free_port), 2).close()
        assert broker.stop(5)
        assert not broker.alive
        assert broker.stop(5)


def test_taken_port_is_a_problem_of_the_configuration(free_port):
    """The message names the key and both remedies."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", free_port))
        other.listen()
        with pytest.raises(ConfigError) as caught:
            EmbeddedBroker(free_port).start()
    (problem,) = caught.value.problems
    assert problem.key == "mqtt.broker"
    assert f"mqtt://127.0.0.1:{free_port}" in problem.remedy
    assert "embedded:OTHERPORT" in problem.remedy


def test_missing_package_is_a_problem_of_the_configuration(free_port, monkeypatch):
    """Without the extra, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(ConfigError, match=r"pip install 'defectd\[demo\]'"):
        EmbeddedBroker(free_port).start()


def test_will_and_retained_message_reach_a_subscriber_that_joins_later(free_port, caplog):
    """A tail that starts after the client died receives its retained will, and the log stays empty."""
    caplog.set_level(logging.WARNING)
    settings = Mqtt(broker=f"embedded:{free_port}")
    broker = EmbeddedBroker(free_port)
    broker.start()
    notices: list = []
    link = Link(
        settings, client_id="a", deliver=notices.append, protocol="3.1.1", will=Will("n/status", b'{"online":false}')
    )
    link.start()
    until(lambda: any(isinstance(n, Connected) for n in notices))
    link.publish("n/top/state", b"{}", retain=True)
    link.publish("n/status", b'{"online":true}', retain=True)
    until(lambda: len(notices) == 3)
    assert link.discard()
    assert isinstance(notices[-1], Disconnected)
    over = threading.Event()
    seen: dict[str, bytes] = {}
    timer = threading.Timer(10, over.set)
    timer.start()
    for message in listen(settings, ["n/#"], stopped=over):
        seen[message.topic] = message.payload
        if seen == {"n/status": b'{"online":false}', "n/top/state": b"{}"}:
            break
    timer.cancel()
    timer.join()
    assert len(seen) == 2
    assert broker.stop(5)
    assert not caplog.records
