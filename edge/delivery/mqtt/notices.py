"""What a connection to a broker reports, as frozen values: they cross from the link's thread to its owner's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Protocol = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted the connection."""

    protocol: Protocol
    receive_maximum: int
    maximum_packet_size: int | None
    """Bytes of a whole packet that the broker takes; None: not stated."""
    session_present: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no connection: the broker cannot be reached, or refuses.  The last notice of its link."""

    reason: str
    remedy: str
    code: int | None = None
    """CONNACK code, if the broker sent one."""
    silent: bool = False
    """A TCP connection stood, but no answer came."""
    hung_up: bool = False
    """A TCP connection stood, and the other end closed it without an answer."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}" if self.remedy else self.reason


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection has ended.  The last notice of its link."""

    reason: str
    code: int | None = None
    """Code of the broker's DISCONNECT, if it sent one."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's answer to one publish.  With 3.1.1 `ok` is always true, even for a message that it discarded."""

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
    """What the broker publishes with QoS 1 when the connection ends without a disconnect."""

    topic: str
    payload: bytes
    retain: bool = True
    content_type: str | None = None
    """Of a text payload; only MQTT 5 carries it."""
