"""The link: one connection that always reports its end and shows no secrets."""

from __future__ import annotations

import json
import logging
import queue
import socket
import struct
import threading
from contextlib import contextmanager

import pytest
from fakes.waiting import until
from pydantic import SecretStr

from edge.config import Mqtt
from edge.delivery.mqtt.client import Link, opener
from edge.delivery.mqtt.notices import Acknowledged, Connected, Disconnected, Refused, Will
from edge.errors import BrokerError


@contextmanager
def listening(serve):
    """A port that passes its first connections to `serve` in a thread."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    server.settimeout(10)

    def run() -> None:
        try:
            client, _ = server.accept()
            with client:
                client.settimeout(10)
                serve(client)
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Mqtt(broker=f"mqtt://127.0.0.1:{server.getsockname()[1]}")
    finally:
        server.close()
        thread.join(10)


def outcome(settings: Mqtt, **more) -> object:
    notices: queue.SimpleQueue = queue.SimpleQueue()
    link = Link(settings, client_id="a", deliver=notices.put, **more)
    link.start()
    found = notices.get(timeout=20)
    link.discard()
    return found


def test_closed_port_is_named_with_its_remedy(free_port):
    """The message names host and port, and advises to start the broker."""
    found = outcome(Mqtt(broker=f"mqtt://127.0.0.1:{free_port}"))
    assert isinstance(found, Refused)
    assert str(free_port) in found.reason
    assert "start the broker" in found.remedy
    assert not found.silent


def test_broker_that_hangs_up_is_distinguished_from_a_silent_one():
    """A broker that closes the connection on CONNECT is reported as such."""
    with listening(lambda client: client.recv(100)) as settings:
        found = outcome(settings)
    assert isinstance(found, Refused)
    assert found.hung_up
    assert not found.silent


def test_link_to_a_broker_that_never_answers_ends():
    """The link waits for CONNACK for a limited time."""
    over = threading.Event()
    with listening(lambda client: over.wait(10)) as settings:
        found = outcome(settings, connack_timeout_s=0.2)
        over.set()
    assert isinstance(found, Refused)
    assert found.silent


@pytest.mark.parametrize(("code", "words"), [(0x86, "password"), (0x87, "access list"), (0x85, "client_id")])
def test_refusal_of_the_broker_is_reported_with_a_remedy(code, words):
    """Each CONNACK code has a message for people."""
    connack = bytes([0x20, 3, 0, code, 0])

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(connack)
        client.recv(100)

    with listening(serve) as settings:
        found = outcome(settings)
    assert isinstance(found, Refused)
    assert found.code == code
    assert words in found.remedy


@pytest.mark.parametrize("reply", [b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x01"])
def test_both_refusals_of_version_5_are_understood(reply):
    """A broker for version 5 refuses with another code than one for 3.1.1."""

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(reply)
        client.recv(100)

    with listening(serve) as settings:
        found = outcome(settings)
    assert isinstance(found, Refused)
    assert found.code == 0x84


def test_limits_of_the_broker_are_reported():
    """The link reports Receive Maximum and Maximum Packet Size, which paho itself ignores."""
    properties = b"\x21" + struct.pack(">H", 7) + b"\x27" + struct.pack(">I", 1000)
    connack = bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(connack)
        over.wait(10)

    with listening(serve) as settings:
        found = outcome(settings)
        over.set()
    assert found == Connected("5", 7, 1000, False)


def test_garbage_from_the_broker_ends_the_link_and_nothing_else():
    """Bytes that are not MQTT end the link with a notice; no link is left that seems alive."""
    notices: queue.SimpleQueue = queue.SimpleQueue()

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(b"\x20\x03\x00\x00\x00")
        client.sendall(b"\x40\x01\x00" + b"\xff" * 50)
        client.recv(100)

    with listening(serve) as settings:
        link = Link(settings, client_id="a", deliver=notices.put)
        link.start()
        assert isinstance(notices.get(timeout=10), Connected)
        assert isinstance(notices.get(timeout=10), Disconnected)
        with pytest.raises(BrokerError):
            link.publish("t", b"x")
        link.discard()
        assert not link.alive


def test_link_dropped_while_connecting_ends():
    """discard() during the handshake leaves one last notice and no thread."""
    over = threading.Event()
    with listening(lambda client: over.wait(10)) as settings:
        notices: queue.SimpleQueue = queue.SimpleQueue()
        link = Link(settings, client_id="a", deliver=notices.put)
        link.start()
        until(lambda: link._client.socket() is not None)
        assert link.discard(5)
        over.set()
    assert isinstance(notices.get(timeout=1), Disconnected | Refused)


def test_no_secret_in_any_message(tmp_path, caplog, free_port):
    """The password does not appear, whatever fails."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-w0rd"
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{free_port}", username="u", password=SecretStr(secret))
    found = outcome(settings)
    assert secret not in str(found)
    path = tmp_path / "password"
    path.write_bytes(secret.encode() + b"\xff")
    found = outcome(Mqtt(broker=settings.broker, username="u", password_file=path))
    assert isinstance(found, Refused)
    assert "password_file" in found.reason
    assert secret not in str(found) + caplog.text


@pytest.mark.parametrize("key", ["ca_file", "password_file"])
def test_missing_file_is_named(tmp_path, key):
    """The error names the key and the path, without a traceback."""
    path = tmp_path / "none.pem"
    found = outcome(Mqtt(broker="mqtts://127.0.0.1:1", username="u", **{key: path}))
    assert isinstance(found, Refused)
    assert f"mqtt.{key} {path}" in found.reason


def test_opener_makes_links_with_a_stable_client_id(free_port):
    """The client id is defectd-NODE unless the configuration sets one."""
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{free_port}")
    link = opener(settings, "line3")(deliver=lambda n: None, protocol="5", will=Will("t", b""))
    assert link._client._client_id == b"defectd-line3"
    assert Acknowledged(1, True, 0, "").ok


def test_topic_that_mqtt_cannot_carry_is_refused_and_the_connection_stays():
    """A wildcard in the topic raises ValueError."""
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(b"\x20\x03\x00\x00\x00")
        over.wait(10)

    notices: queue.SimpleQueue = queue.SimpleQueue()
    with listening(serve) as settings:
        link = Link(settings, client_id="a", deliver=notices.put)
        link.start()
        assert isinstance(notices.get(timeout=10), Connected)
        with pytest.raises(ValueError, match="wildcards"):
            link.publish("bad/#", b"x")
        assert link.publish("good", b"x")
        link.discard()
        over.set()


@pytest.mark.parametrize("correlation", [None, b"c" * 1024])
def test_packet_is_not_longer_than_its_upper_bound(correlation):
    """The bound includes topic, properties and payload: a broker would end the connection for a longer packet."""
    received: queue.SimpleQueue = queue.SimpleQueue()

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(b"\x20\x03\x00\x00\x00")
        packet = b""
        while part := client.recv(4096):
            packet += part
        received.put(packet)

    notices: queue.SimpleQueue = queue.SimpleQueue()
    payload = json.dumps({"text": "x" * 300}).encode()
    with listening(serve) as settings:
        link = Link(settings, client_id="a", deliver=notices.put)
        link.start()
        assert isinstance(notices.get(timeout=10), Connected)
        link.publish("plant/line3/top/event", payload, correlation=correlation, content_type="application/json")
        link.disconnect(5)
    packet = received.get(timeout=10).removesuffix(b"\xe0\x00")  # the DISCONNECT
    assert b"application/json" in packet
    assert packet.endswith(payload)
    bound = Link.packet_bytes("plant/line3/top/event", payload, correlation, "application/json")
    assert bound - 8 <= len(packet) <= bound
