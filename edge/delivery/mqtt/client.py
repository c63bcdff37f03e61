"""One connection to a broker, and the only door to paho.

A `Link` is one attempt: it connects, works, ends, and is thrown away; the publisher alone decides about the next.
So no message id outlives its connection, and paho's own queue and reconnection never act behind our back.

All of paho runs in the link's own thread `mqtt` (paho's loop_start would begin only after a blocking connect, hides
an exception in a callback behind a dead thread, and reconnects by itself). Name resolution and the TLS handshake
block there and nowhere else. Callbacks only hand over frozen notices; whatever happens, the last one is
`Refused` or `Disconnected`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import random
import secrets
import socket
import ssl
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import Mqtt
from edge.errors import BrokerError
from edge.host.clock import NS_PER_S, SystemClock

log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]

CONNECT_TIMEOUT_S: Final = 5.0
"""For the TCP connection and again for the TLS handshake."""
CONNACK_TIMEOUT_S: Final = 4.0
"""For the broker's answer once the connection stands."""
ATTEMPT_TIMEOUT_S: Final = 20.0
"""For all of an attempt; only name resolution can outlast it, and its thread is then left behind."""
UNSUPPORTED_PROTOCOL: Final = 0x84
TAKEN_OVER: Final = 0x8E
TOPIC_INVALID: Final = 0x90
PACKET_TOO_LARGE: Final = 0x95
QUOTA_EXCEEDED: Final = 0x97
NEVER: Final = {0x87: "not authorised", TOPIC_INVALID: "topic name invalid", 0x99: "payload format invalid"}
"""PUBACK codes that no repetition will change."""
MAX_RECEIVED: Final = 65_535
"""Receive maximum of MQTT when the broker names none."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker took us in."""

    protocol: Protocol
    receive_maximum: int
    maximum_packet_size: int | None
    """Bytes of a whole packet that the broker takes; None: not stated."""
    session_present: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no connection: the broker cannot be reached, or will not have us. Ends the link."""

    reason: str
    remedy: str
    code: int | None = None
    """CONNACK code, if the broker gave one."""
    silent: bool = False
    """A connection stood, but no answer came."""
    hung_up: bool = False
    """A connection stood, and was closed without an answer."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}" if self.remedy else self.reason


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is over. Ends the link."""

    reason: str
    code: int | None = None
    """Code of the broker's DISCONNECT, if it sent one."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's answer to one publish. With 3.1.1 `ok` is always true, even for what it threw away."""

    mid: int
    ok: bool
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's answer to one subscribe."""

    mid: int
    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a subscription."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


Notice = Connected | Refused | Disconnected | Acknowledged | Subscribed | Received


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes with QoS 1 when the connection ends without a goodbye."""

    topic: str
    payload: bytes
    retain: bool = True


class Link:
    """One connection to the broker, from the attempt to its end.

    deliver: takes each notice, called in the link's thread; must not block.  protocol: the MQTT version to speak.
    The password is read when the attempt starts.  start, publish, subscribe, disconnect and discard are for one
    owner's thread.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        client_id: str,
        deliver: Callable[[Notice], None],
        protocol: Protocol = "5",
        will: Will | None = None,
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._protocol: Protocol = protocol
        self._will = will
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol == "5" else True,
            protocol=MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.suppress_exceptions = True
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(MAX_RECEIVED)  # the publisher keeps the window
        self._ending = threading.Event()
        self._ended = False
        self._answered = False
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin the attempt; its outcome comes as a notice."""
        self._thread.start()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Literal[0, 1] = 1,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> int:
        """Send; returns the message id that `Acknowledged` will name: with QoS 0 as soon as it is sent.

        Raises BrokerError when the connection is gone; the message is then not sent later either. Raises ValueError
        for what MQTT cannot carry, such as a wildcard in the topic.
        """
        properties = None
        if correlation is not None and self._protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        if self._ended:
            raise BrokerError("the connection to the broker is gone")
        try:
            info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        except (ValueError, OSError) as error:
            raise BrokerError(f"{topic}: cannot be sent: {error}") from error
        if info.rc != MQTT_ERR_SUCCESS:
            raise BrokerError(f"the connection to the broker is gone ({info.rc.name})")
        return info.mid

    def subscribe(self, filters: Sequence[str]) -> int:
        """Ask for messages, QoS 1; returns the id that `Subscribed` will name.  Raises BrokerError."""
        code, mid = self._client.subscribe([(f, 1) for f in filters])
        if code != MQTT_ERR_SUCCESS or mid is None:
            raise BrokerError("the connection to the broker is gone")
        return mid

    def disconnect(self, timeout_s: float, *, with_will: bool = False) -> bool:
        """Say goodbye, so that the will is not published; False if the link did not end in time.

        with_will: have it published all the same; 3.1.1 has no word for that.
        """
        reason = None
        if with_will and self._protocol == "5":
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason)
        return self._wait(timeout_s)

    def discard(self, timeout_s: float = 1.0) -> bool:
        """Drop the connection without a goodbye; False if its thread is still busy (name resolution)."""
        self._ending.set()
        open_socket = self._client.socket()
        if open_socket is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # wakes the thread; close() would not
        return self._wait(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @staticmethod
    def packet_bytes(topic: str, payload: bytes) -> int:
        """Most bytes that a publish of this takes on the wire: the broker's limit is about the whole packet."""
        return 1 + 4 + 2 + len(topic.encode()) + 2 + 1 + len(payload)

    def _wait(self, timeout_s: float) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        last: Refused | Disconnected = Disconnected("the connection was dropped")
        try:
            last = self._connect() or self._work()
        except Exception as error:  # whatever a broker's bytes do to the parser
            log.debug("the link ended by an exception", exc_info=True)
            last = Disconnected(f"{type(error).__name__} while reading from the broker")
        finally:
            self._ended = True
            with contextlib.suppress(Exception):
                self._client.on_disconnect = None
                if self._client.socket() is not None:
                    self._client.socket().close()  # type: ignore[union-attr]
            self._deliver(last)

    def _connect(self) -> Refused | None:
        host, port, tls = self._settings.address
        client = self._client
        try:
            if tls:
                client.tls_set_context(_tls_context(self._settings))
            if self._settings.username is not None:
                client.username_pw_set(self._settings.username, _password(self._settings))
        except _Unfit as error:
            return error.refusal
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=self._will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With this set, publish() from another thread only queues and wakes the loop: one thread uses the socket.
        client.on_socket_register_write = lambda *_: None
        self._outcome: Refused | Disconnected | None = None
        try:
            if self._protocol == "5":
                # No properties: without one the session expires with the connection, which is what is wanted.
                client.connect(host, port, self._settings.keepalive_s, clean_start=True)
            else:
                client.connect(host, port, self._settings.keepalive_s)
        except (OSError, ValueError) as error:
            return _refusal(error, host, port, tls=tls)
        return None

    def _work(self) -> Refused | Disconnected:
        client = self._client
        host, port, tls = self._settings.address
        clock = SystemClock()
        asked_ns = clock.monotonic_ns()
        code = MQTT_ERR_SUCCESS
        while code == MQTT_ERR_SUCCESS and self._outcome is None and not self._ending.is_set():
            code = client.loop(1.0)
            if not self._answered and clock.monotonic_ns() - asked_ns > CONNACK_TIMEOUT_S * NS_PER_S:
                remedy = "is it an MQTT broker, and healthy?"
                return Refused(f"{host}:{port} accepts connections but does not answer", remedy, silent=True)
        if self._outcome is None and not self._answered and not self._ending.is_set():
            return _silent_refusal(host, port, tls=tls)
        return self._outcome or Disconnected("the connection was dropped")

    # ---- callbacks: hand over, nothing else ---------------------------------------------------------

    def _on_connect(
        self, _client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._outcome = _connack_refusal(reason, self._settings)
            return
        stated = properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]
        self._deliver(
            Connected(
                protocol=self._protocol,
                receive_maximum=int(stated.get("ReceiveMaximum", MAX_RECEIVED)),
                maximum_packet_size=stated.get("MaximumPacketSize"),
                session_present=flags.session_present,
            )
        )

    def _on_disconnect(
        self, _client: Client, _userdata: Any, flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if self._outcome is not None or not self._answered:
            return
        if reason.value == TAKEN_OVER:
            taken = "another client with the same id connected: give each node its own name or mqtt.client_id"
            self._outcome = Disconnected(taken, reason.value)
        elif flags.is_disconnect_packet_from_server:
            self._outcome = Disconnected(f"the broker ended it: {reason.getName()}", reason.value)
        elif reason.value == 0:
            self._outcome = Disconnected("said goodbye")
        else:
            why = "" if reason.value == 0x80 else f" ({reason.getName()})"  # 0x80: unspecified
            self._outcome = Disconnected(f"the connection was lost{why}")

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._deliver(Acknowledged(mid, not reason.is_failure, reason.value, reason.getName()))

    def _on_subscribe(
        self, _client: Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        bad = [r for r in reasons if r.is_failure]
        self._deliver(Subscribed(mid, not bad, bad[0].getName() if bad else "granted"))

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        properties = message.properties
        self._deliver(
            Received(
                topic=message.topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retained=bool(message.retain),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )


class OpenLink(typing.Protocol):
    """Makes links to one broker; what a `Link` needs beyond the settings."""

    def __call__(self, *, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link: ...


def opener(settings: Mqtt, node: str) -> OpenLink:
    """Links of this node to the configured broker."""
    client_id = settings.client_id or f"defectd-{node}"

    def open_link(*, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link:
        return Link(settings, client_id=client_id, deliver=deliver, protocol=protocol, will=will)

    return open_link


class Backoff:
    """Delays between attempts, s: random, doubling up to a limit, so that many nodes do not come back at once."""

    def __init__(self, least_s: float, most_s: float, random_number: Callable[[], float] = random.random) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._random = random_number
        self._attempts = 0

    @classmethod
    def to(cls, settings: Mqtt) -> Backoff:
        """0.1 to 2 s for a broker on this machine, 1 to 60 s for one on the network."""
        host = settings.address[0]
        return cls(0.1, 2.0) if host in ("127.0.0.1", "::1", "localhost") else cls(1.0, 60.0)

    def next_s(self) -> float:
        low = min(self._least_s * 2.0**self._attempts, self._most_s / 2)
        self._attempts = min(self._attempts + 1, 30)
        return low * (1.0 + self._random())

    def reset(self) -> None:
        self._attempts = 0


class Version:
    """Which MQTT version to speak, learnt from what the broker does.

    Some brokers for 3.1.1 answer a CONNECT of version 5 with 0x84, others wait for bytes that never come, or hang up.
    The answer is remembered; the others are guesses, which a broker that is just restarting may provoke. With 3.1.1 a
    refused event looks accepted, so a guess holds for one connection only, and is not made once 5 has worked.
    """

    def __init__(self, settings: Mqtt) -> None:
        # the embedded broker is known to speak 3.1.1 only
        known: Protocol = "3.1.1" if settings.is_embedded else "5"
        self._is_free = settings.protocol == "auto"
        self._settled: Protocol = known if settings.protocol == "auto" else settings.protocol
        self._speaks_5 = False
        self._hang_ups = 0
        self.current: Protocol = self._settled

    def begin(self) -> None:
        """A new attempt after a pause."""
        self.current = self._settled

    def accepted(self) -> None:
        self._hang_ups = 0
        self._speaks_5 = self._speaks_5 or self.current == "5"

    def refused(self, refused: Refused) -> bool:
        """Learn from a refusal; True: try `current`, another one now, at once."""
        self._hang_ups = self._hang_ups + 1 if refused.hung_up else 0
        if not self._is_free:
            return False
        if refused.code == UNSUPPORTED_PROTOCOL:
            is_other = self.current == "5"
            self.current = self._settled = "3.1.1" if is_other else "5"
            return is_other
        if self.current == "5" and not self._speaks_5 and (refused.silent or self._hang_ups >= 2):
            self.current = "3.1.1"
            return True
        return False


def listen(
    settings: Mqtt,
    filters: Sequence[str],
    *,
    client_id: str | None = None,
    stopped: threading.Event | None = None,
    on_state: Callable[[str], None] | None = None,
) -> Iterator[Received]:
    """Messages as they come, retained ones first, for ever; connects again by itself.

    Close the generator, set `stopped`, or interrupt it to end.  on_state: told in a sentence when the connection
    comes and goes.  Raises BrokerError when the broker will not grant the subscription.
    """
    over = stopped or threading.Event()
    tell = on_state or (lambda sentence: log.info("%s", sentence))
    backoff = Backoff.to(settings)
    version = Version(settings)
    name = client_id or f"defectd-tail-{secrets.token_hex(4)}"
    told = ""
    while not over.is_set():
        ear = _Ear(settings, filters, client_id=name, version=version)
        for received in ear.hear(over):
            if isinstance(received, Received):
                yield received
            else:
                backoff.reset()
                told = received
                tell(received)
        if ear.again:
            continue
        if ear.farewell and ear.farewell != told:
            told = ear.farewell
            tell(told)
        over.wait(backoff.next_s())
        version.begin()


class _Ear:
    """One connection that listens."""

    def __init__(self, settings: Mqtt, filters: Sequence[str], *, client_id: str, version: Version) -> None:
        self._settings = settings
        self._filters = filters
        self._version = version
        self._notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._link = Link(settings, client_id=client_id, deliver=self._notices.put, protocol=version.current)
        self.again = False
        """Whether to listen again at once, with another version."""
        self.farewell = ""

    def hear(self, over: threading.Event) -> Iterator[Received | str]:  # noqa: C901 (one case per notice)
        """Messages, and a sentence once the subscription stands, until the connection ends."""
        host, port, _ = self._settings.address
        clock = SystemClock()
        asked_ns: int | None = clock.monotonic_ns()
        self._link.start()
        try:
            while not over.is_set():
                try:
                    notice = self._notices.get(timeout=0.2)
                except queue.Empty:
                    if asked_ns is not None and clock.monotonic_ns() - asked_ns > ATTEMPT_TIMEOUT_S * NS_PER_S:
                        self.farewell = f"the broker {host}:{port} does not answer"
                        return
                    continue
                match notice:
                    case Connected():
                        self._version.accepted()
                        with contextlib.suppress(BrokerError):  # gone already: its last notice follows
                            self._link.subscribe(self._filters)
                    case Subscribed(ok=True):
                        asked_ns = None
                        yield f"connected to {host}:{port}, MQTT {self._version.current}"
                    case Subscribed(reason=reason):
                        raise BrokerError(f"the broker {host}:{port} refuses the subscription: {reason}")
                    case Received():
                        yield notice
                    case Refused():
                        self.again = self._version.refused(notice)
                        self.farewell = str(notice)
                        return
                    case Disconnected(reason=reason):
                        self.farewell = reason
                        return
                    case Acknowledged():
                        pass
        finally:
            if not self._link.disconnect(0.5):
                self._link.discard(0.5)


# ---- refusals in words a person can act on ----------------------------------------------------------------


class _Unfit(Exception):
    """The attempt cannot even start."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _TlsSocket(ssl.SSLSocket):
    """Closed when the handshake fails: paho leaves it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 (the signature of ssl)
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _tls_context(settings: Mqtt) -> ssl.SSLContext:
    """TLS 1.2 or newer, host name checked. Files are read at each attempt, so that they can be rotated."""
    name = "mqtt.ca_file"
    path = settings.ca_file
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
        context.sslsocket_class = _TlsSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert_file is not None:
            name, path = "mqtt.cert_file", settings.cert_file
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "is not usable"
        raise _Unfit(Refused(f"{name} {path}: {why}", "give a readable PEM file")) from error
    return context


def _password(settings: Mqtt) -> str | None:
    try:
        return settings.read_password()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise _Unfit(
            Refused(f"mqtt.password_file {settings.password_file}: {why}", "make it readable for this user")
        ) from None


def _connack_refusal(reason: ReasonCode, settings: Mqtt) -> Refused:
    host, port, _ = settings.address
    text = f"the broker {host}:{port} refuses the connection ({reason.getName()})"
    remedies = {
        0x84: "set mqtt.protocol to auto or 3.1.1",
        0x85: "set another mqtt.client_id",
        0x86: "check mqtt.username and the password",
        0x87: "check mqtt.username and the password, and the broker's access list",
        0x88: "the broker is not ready; it is tried again",
        0x89: "the broker is busy; it is tried again",
        0x8A: "the broker has banned this client",
        0x8C: "the broker wants another way to log in than a password",
        0x97: "the broker's quota is used up",
        0x9F: "too many connections; it is tried again later",
    }
    return Refused(text, remedies.get(reason.value, "see the broker's log"), reason.value)


def _silent_refusal(host: str, port: int, *, tls: bool) -> Refused:
    remedy = (
        "does it want a client certificate (mqtt.cert_file)? See its log"
        if tls
        else "does this port expect TLS (mqtts://)? See its log"
    )
    return Refused(f"the broker {host}:{port} closed the connection without an answer", remedy, hung_up=True)


_VERIFY: Final = {
    9: ("is not valid yet", "check the clock of this machine"),
    10: ("has expired", "renew it, or check the clock of this machine"),
    18: ("is signed by itself", "set mqtt.ca_file to the authority that signed it"),
    19: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    20: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    21: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    62: ("is for another host name", "use the name in the certificate in mqtt.broker"),
    64: ("is for another address", "use the name in the certificate in mqtt.broker"),
}


def _refusal(error: Exception, host: str, port: int, *, tls: bool) -> Refused:  # noqa: PLR0911 (a table)
    """What went wrong before the broker could speak."""
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        what, remedy = _VERIFY.get(error.verify_code, (f"is not trusted ({error.verify_message})", "see mqtt.ca_file"))
        return Refused(f"the certificate of {where} {what}", remedy)
    if isinstance(error, TimeoutError):  # before SSLError: a handshake that stalls
        remedy = "is the network up, is a firewall in between?" + (" Is TLS spoken there?" if tls else "")
        return Refused(f"no answer from {where} within {CONNECT_TIMEOUT_S:g} s", remedy)
    if isinstance(error, ssl.SSLError):
        what = (getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
        return Refused(f"TLS with {where} failed ({what})", "is this the TLS port? mqtt:// speaks without TLS")
    if isinstance(error, socket.gaierror):
        return Refused(f"the name {host} cannot be resolved", "check mqtt.broker and the DNS of this machine")
    if isinstance(error, ConnectionRefusedError):
        return Refused(f"nothing listens at {where}", "start the broker, or check mqtt.broker")
    if isinstance(error, ConnectionError):
        return _silent_refusal(host, port, tls=tls)
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return Refused(f"there is no way to {where} ({error.strerror})", "check the network of this machine")
    return Refused(f"{where} cannot be reached ({type(error).__name__}: {error})", "check mqtt.broker")
