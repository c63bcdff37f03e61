"""The link: one connection, honest about its end, silent about secrets."""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import struct
import threading
from contextlib import contextmanager

import pytest
from fakes.delivery import until
from pydantic import SecretStr

from edge.config import Mqtt
from edge.delivery.mqtt import client as room
from edge.delivery.mqtt.client import (
    Acknowledged,
    Connected,
    Disconnected,
    Link,
    Refused,
    Version,
    Will,
    listen,
    opener,
)
from edge.errors import BrokerError


@contextmanager
def listening(serve):
    """A port whose first connections are given to `serve` in a thread."""
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


def outcome(settings: Mqtt, protocol: str = "5") -> object:
    notices: queue.SimpleQueue = queue.SimpleQueue()
    link = Link(settings, client_id="a", deliver=notices.put, protocol=protocol)
    link.start()
    found = notices.get(timeout=20)
    link.discard()
    return found


def test_closed_port_is_named_with_its_remedy(free_port):
    """Nothing listens: start the broker."""
    found = outcome(Mqtt(broker=f"mqtt://127.0.0.1:{free_port}"))
    assert isinstance(found, Refused)
    assert str(free_port) in found.reason
    assert "start the broker" in found.remedy
    assert not found.silent


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "x"), "cannot be resolved"),
        (TimeoutError("timed out"), "no answer from h:1"),
        (ConnectionRefusedError(), "nothing listens"),
        (ConnectionResetError(), "closed the connection without an answer"),
        (OSError(101, "Network is unreachable"), "no way to"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS with h:1 failed"),
        (ValueError("odd"), "cannot be reached"),
    ],
)
def test_every_failure_to_connect_has_words(error, words):
    """A person reads what is wrong and what to do."""
    found = room._refusal(error, "h", 1, tls=True)
    assert words in found.reason
    assert found.remedy


@pytest.mark.parametrize("code", [10, 18, 19, 20, 62, 99])
def test_every_certificate_problem_has_words(code):
    """Expired, unknown authority, another host: each with its remedy."""
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "odd"
    found = room._refusal(error, "h", 1, tls=True)
    assert "certificate of h:1" in found.reason
    assert found.remedy


def test_broker_that_hangs_up_is_told_from_one_that_is_silent():
    """A CONNECT that is answered by closing."""
    with listening(lambda client: client.recv(100)) as settings:
        found = outcome(settings)
    assert isinstance(found, Refused)
    assert found.hung_up
    assert not found.silent


def test_broker_that_never_answers_is_given_up(monkeypatch):
    """The wait for CONNACK is bounded."""
    monkeypatch.setattr(room, "CONNACK_TIMEOUT_S", 0.2)
    over = threading.Event()
    with listening(lambda client: over.wait(10)) as settings:
        found = outcome(settings)
        over.set()
    assert isinstance(found, Refused)
    assert found.silent


@pytest.mark.parametrize(("code", "words"), [(0x86, "password"), (0x87, "access list"), (0x85, "client_id")])
def test_refusing_broker_is_quoted_with_a_remedy(code, words):
    """CONNACK codes become sentences."""
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
def test_both_ways_to_refuse_version_5_are_understood(reply):
    """As version 5 says it, and as a 3.1.1 broker says it."""

    def serve(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(reply)
        client.recv(100)

    with listening(serve) as settings:
        found = outcome(settings)
    assert isinstance(found, Refused)
    assert found.code == 0x84


def test_limits_of_the_broker_are_handed_on():
    """Receive Maximum and Maximum Packet Size, which paho itself ignores."""
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
    """Bytes that are no MQTT cannot leave a link that looks alive."""
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
    """discard() during the handshake: one last notice, no thread left."""
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
    """Not the password, whatever fails."""
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
    """The key and the path, not a stack."""
    path = tmp_path / "none.pem"
    found = outcome(Mqtt(broker="mqtts://127.0.0.1:1", username="u", **{key: path}))
    assert isinstance(found, Refused)
    assert f"mqtt.{key} {path}" in found.reason


REMOTE = Mqtt(broker="mqtt://localhost:1")
UNSUPPORTED = Refused("no", "", 0x84)
SILENT = Refused("no", "", silent=True)
HUNG_UP = Refused("no", "", hung_up=True)
AWAY = Refused("no", "")


def test_first_version_is_that_of_the_configuration():
    """auto begins with 5, but for the embedded broker, which is known."""
    assert Version(REMOTE).current == "5"
    assert Version(Mqtt(broker="embedded")).current == "3.1.1"
    assert Version(Mqtt(broker="mqtt://localhost:1", protocol="3.1.1")).current == "3.1.1"
    fixed = Version(Mqtt(broker="embedded", protocol="5"))
    assert fixed.current == "5"
    assert not fixed.refused(UNSUPPORTED)
    assert fixed.current == "5"


def test_version_that_the_broker_refuses_is_not_tried_again():
    """0x84 is an answer: 3.1.1 at once, and from then on; both refused means a pause."""
    version = Version(REMOTE)
    assert version.refused(UNSUPPORTED)
    version.accepted()
    version.begin()
    assert version.current == "3.1.1"
    assert not version.refused(AWAY)
    assert not version.refused(UNSUPPORTED)


def test_version_guessed_from_silence_holds_for_one_connection():
    """No answer to version 5: 3.1.1 at once, but 5 again the next time."""
    version = Version(REMOTE)
    assert version.refused(SILENT)
    assert version.current == "3.1.1"
    version.accepted()
    version.begin()
    assert version.current == "5"


def test_one_hang_up_is_no_reason_to_change_the_version():
    """A broker that restarts hangs up too; only the second time in a row is a hint."""
    version = Version(REMOTE)
    assert not version.refused(HUNG_UP)
    assert not version.refused(AWAY)
    assert not version.refused(HUNG_UP)
    assert version.refused(HUNG_UP)
    assert not version.refused(HUNG_UP)


def test_broker_that_spoke_5_is_never_guessed_to_be_old():
    """Once 5 has worked, silence is silence."""
    version = Version(REMOTE)
    version.accepted()
    assert not version.refused(SILENT)
    assert not any(version.refused(HUNG_UP) for _ in range(5))


def test_listen_tells_once_that_the_broker_is_away_and_ends_when_asked(free_port):
    """A tail without a broker says so in one sentence and can be stopped."""
    over = threading.Event()
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        threading.Timer(0.5, over.set).start()

    assert list(listen(Mqtt(broker=f"mqtt://127.0.0.1:{free_port}"), ["#"], stopped=over, on_state=tell)) == []
    assert len(told) == 1
    assert "nothing listens" in told[0]


def test_opener_makes_links_with_a_stable_client_id(free_port):
    """defectd-NODE unless the configuration names one."""
    settings = Mqtt(broker=f"mqtt://127.0.0.1:{free_port}")
    link = opener(settings, "line3")(deliver=lambda n: None, protocol="5", will=Will("t", b""))
    assert link._client._client_id == b"defectd-line3"
    assert Acknowledged(1, True, 0, "").ok
