"""One connection to a broker, and the only module that imports paho.

A `Link` is one attempt: it connects, works, ends, and is thrown away; its owner alone decides about the next one. So
no message id outlives its connection, and paho neither queues nor reconnects on its own.

All of paho runs in the link's own thread `mqtt`. (paho's loop_start would start only after a blocking connect, hides
an exception in a callback behind a dead thread, and reconnects by itself.) Name resolution and the TLS handshake
block that thread only. Callbacks only pass on frozen notices; the last one is always `Refused` or `Disconnected`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import Mqtt
from edge.delivery.mqtt import refusals
from edge.delivery.mqtt.notices import (
    Acknowledged,
    Connected,
    Disconnected,
    Notice,
    Protocol,
    Received,
    Refused,
    Subscribed,
    Will,
)
from edge.errors import BrokerError
from edge.host.clock import NS_PER_S, SystemClock

log = logging.getLogger(__name__)

CONNACK_TIMEOUT_S: Final = 4.0
"""For the broker's answer once the TCP connection stands."""
TAKEN_OVER: Final = 0x8E
"""Code of a DISCONNECT."""
TEXT: Final = 1
"""Payload format indicator of UTF-8 text."""
MAX_RECEIVED: Final = 65_535
"""Receive maximum of MQTT when the broker states none."""


class Link:
    """One connection to the broker, from the attempt to its end.

    deliver: takes each notice, on the link's thread; must not block.  protocol: the MQTT version to use.  The link
    reads the password when the attempt starts.  Only the owner's thread calls start, publish, subscribe, disconnect
    and discard.
    """

    def __init__(
        self,
        settings: Mqtt,
        *,
        client_id: str,
        deliver: Callable[[Notice], None],
        protocol: Protocol = "5",
        will: Will | None = None,
        connack_timeout_s: float = CONNACK_TIMEOUT_S,
    ) -> None:
        self._connack_timeout_ns = int(connack_timeout_s * NS_PER_S)
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
        self._client.connect_timeout = refusals.CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(MAX_RECEIVED)  # the owner limits what is in flight
        self._ending = threading.Event()
        self._ended = False
        self._answered = False
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Start the attempt; its outcome comes as a notice.  Raises BrokerError when there is no thread for it."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise BrokerError(f"no connection is tried: {error}: see the limits of processes and memory") from error

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Literal[0, 1] = 1,
        retain: bool = False,
        correlation: bytes | None = None,
        content_type: str | None = None,
    ) -> int:
        """Send.  Returns the message id of the later `Acknowledged`, which with QoS 0 comes as soon as it is sent.

        content_type: of a UTF-8 text; MQTT 5 carries it, unless the payload is empty.  Raises BrokerError when the
        connection has ended: the message is not sent later either.  Raises ValueError for what MQTT cannot carry, such
        as a wildcard in the topic.
        """
        properties = None
        if self._protocol == "5":
            properties = _properties(PacketTypes.PUBLISH, content_type if payload else None, correlation)
        if self._ended:
            raise BrokerError("the connection to the broker has ended")
        try:
            info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        except OSError as error:
            raise BrokerError(f"{topic}: cannot be sent: {error}") from error
        if info.rc != MQTT_ERR_SUCCESS:
            raise BrokerError(f"the connection to the broker has ended ({info.rc.name})")
        return info.mid

    def subscribe(self, filters: Sequence[str]) -> int:
        """Subscribe with QoS 1.  Returns the id of the later `Subscribed`.  Raises BrokerError."""
        code, mid = self._client.subscribe([(f, 1) for f in filters])
        if code != MQTT_ERR_SUCCESS or mid is None:
            raise BrokerError("the connection to the broker has ended")
        return mid

    def disconnect(self, timeout_s: float, *, with_will: bool = False) -> bool:
        """End the connection such that the broker does not publish the will.  False if it did not end in time.

        with_will: the broker publishes the will all the same; 3.1.1 cannot request that.
        """
        reason = None
        if with_will and self._protocol == "5":
            reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self._client.disconnect(reason)
        return self._wait(timeout_s)

    def discard(self, timeout_s: float = 1.0) -> bool:
        """Drop the connection without a disconnect.  False if its thread is still busy (name resolution)."""
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
    def packet_bytes(
        topic: str, payload: bytes, correlation: bytes | None = None, content_type: str | None = None
    ) -> int:
        """Upper bound of a publish on the wire: the broker limits the whole packet."""
        properties = 4 + 2 + 3 + len((content_type or "").encode()) + 3 + len(correlation or b"")
        return 1 + 4 + 2 + len(topic.encode()) + 2 + properties + len(payload)

    def _wait(self, timeout_s: float) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        last: Refused | Disconnected = Disconnected("the connection was dropped")
        try:
            last = self._connect() or self._work()
        except Exception as error:  # a broker's bytes can make paho's parser raise anything
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
                client.tls_set_context(refusals.tls_context(self._settings))
            if self._settings.username is not None:
                client.username_pw_set(self._settings.username, refusals.password(self._settings))
        except refusals.CannotStart as error:
            return error.refusal
        if self._will is not None:
            will, properties = self._will, None
            if self._protocol == "5":
                properties = _properties(PacketTypes.WILLMESSAGE, will.content_type if will.payload else None)
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=properties)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With this set, publish() on another thread only queues and wakes the loop: one thread uses the socket.
        client.on_socket_register_write = lambda *_: None
        self._outcome: Refused | Disconnected | None = None
        try:
            if self._protocol == "5":
                # No properties: the session then expires with the connection, as intended.
                client.connect(host, port, self._settings.keepalive_s, clean_start=True)
            else:
                client.connect(host, port, self._settings.keepalive_s)
        except (OSError, ValueError) as error:
            return refusals.of_error(error, host, port, tls=tls)
        return None

    def _work(self) -> Refused | Disconnected:
        client = self._client
        host, port, tls = self._settings.address
        clock = SystemClock()
        asked_ns = clock.monotonic_ns()
        code = MQTT_ERR_SUCCESS
        while code == MQTT_ERR_SUCCESS and self._outcome is None and not self._ending.is_set():
            code = client.loop(1.0)
            if not self._answered and clock.monotonic_ns() - asked_ns > self._connack_timeout_ns:
                remedy = "is it an MQTT broker, and healthy?"
                return Refused(f"{host}:{port} accepts connections but does not answer", remedy, silent=True)
        if self._outcome is None and not self._answered and not self._ending.is_set():
            return refusals.of_silence(host, port, tls=tls)
        return self._outcome or Disconnected("the connection was dropped")

    # ---- callbacks: only pass on --------------------------------------------------------------------

    def _on_connect(
        self, _client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._outcome = refusals.of_connack(reason.value, reason.getName(), self._settings)
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
            self._outcome = Disconnected("it was closed by this node")
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
        try:
            topic = message.topic
        except UnicodeDecodeError:  # a lax broker passed it on; none of our topics has such a name
            log.debug("a message on a topic that is not UTF-8 is dropped")
            return
        self._deliver(
            Received(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retained=bool(message.retain),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )


@functools.lru_cache(maxsize=8)
def _properties(packet: int, content_type: str | None, correlation: bytes | None = None) -> Properties | None:
    """The MQTT 5 properties of a message; None when it needs none.

    Messages with the same properties share one value: making a new one takes as long as sending an event.
    """
    if content_type is None and correlation is None:
        return None
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    if content_type is not None:
        properties.ContentType = content_type
        properties.PayloadFormatIndicator = TEXT
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


class OpenLink(typing.Protocol):
    """Makes links to one broker; called with what a `Link` needs beyond the settings."""

    def __call__(self, *, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link: ...


def opener(settings: Mqtt, node: str) -> OpenLink:
    """Links of this node to the configured broker."""
    client_id = settings.client_id or f"defectd-{node}"

    def open_link(*, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link:
        return Link(settings, client_id=client_id, deliver=deliver, protocol=protocol, will=will)

    return open_link
