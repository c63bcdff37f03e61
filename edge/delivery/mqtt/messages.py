"""What the publisher sends beside events: the status, retained messages, and replies."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from edge.delivery.mqtt.notices import Will
from edge.delivery.mqtt.topics import Topics

CONTENT_TYPE: Final = "application/json"
"""Of every message of this node on its own topics, events included."""
MAX_RETAINED: Final = 1024
"""Topics with a retained message."""
MAX_REPLIES: Final = 100
MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
"""All replies that wait for the connection; beyond it the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Message:
    """Anything sent that is not an event."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None = None


class Messages:
    """Keeps the newest message of each retained topic, over all connections, and replies until they are sent.

    version: of defectd, for the status message.  Any thread may call any method.
    """

    def __init__(self, topics: Topics, version: str) -> None:
        self._topics = topics
        self._version = version
        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._stale: dict[str, None] = {}
        """Topics whose retained message the broker does not have yet, in the order of change."""
        self._replies: deque[Message] = deque(maxlen=MAX_REPLIES)
        self._more_status: dict[str, Any] = {}
        self._online_since = ""

    def retain(self, topic: str, payload: dict[str, Any]) -> bool:
        """Make this the topic's retained message.  False when there are too many topics."""
        data = encoded(payload)
        with self._lock:
            if topic not in self._retained and len(self._retained) >= MAX_RETAINED:
                return False
            self._retained[topic] = data
            self._stale[topic] = None
        return True

    def forget(self, topic: str) -> None:
        """Clear the topic's retained message on the broker."""
        with self._lock:
            if topic in self._retained:
                self._retained[topic] = b""
                self._stale[topic] = None

    def announce(self, more: dict[str, Any]) -> None:
        """Set the fields of the status message beside online, node, version and since."""
        with self._lock:
            self._more_status = dict(more)
            self._stale[self._topics.status] = None

    def reply(self, message: Message) -> None:
        with self._lock:
            self._replies.append(message)
            while len(self._replies) > 1 and sum(len(m.payload) for m in self._replies) > MAX_REPLY_BYTES:
                self._replies.popleft()

    def connected(self, online_since: str) -> None:
        """A connection stands: all retained messages are due, the status first."""
        with self._lock:
            self._online_since = online_since
            self._stale = dict.fromkeys([self._topics.status, *self._retained])

    def send_again(self, messages: Iterable[Message]) -> None:
        """The broker did not take these retained messages: their topics are due again."""
        with self._lock:
            self._stale |= dict.fromkeys(message.topic for message in messages)

    def next(self) -> Message | None:
        """The next message to send: retained ones before replies."""
        with self._lock:
            topic = next(iter(self._stale), None)
            if topic is None:
                return self._replies.popleft() if self._replies else None
            del self._stale[topic]
            payload = self._status() if topic == self._topics.status else self._retained[topic]
            if not payload:
                del self._retained[topic]
            return Message(topic, payload, retain=True)

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not self._stale and not self._replies

    def will(self) -> Will:
        """The status that the broker publishes when the connection is lost."""
        payload = encoded({"online": False, "node": self._topics.node, "reason": "lost"})
        return Will(self._topics.status, payload, content_type=CONTENT_TYPE)

    def offline(self, since: str) -> Message:
        """The last status of a node that stops."""
        status = {"online": False, "node": self._topics.node, "reason": "stopped", "since": since}
        return Message(self._topics.status, encoded(status), retain=True)

    def _status(self) -> bytes:
        fixed = {"online": True, "node": self._topics.node, "version": self._version, "since": self._online_since}
        return encoded({**self._more_status, **fixed})


def encoded(payload: dict[str, Any]) -> bytes:
    # "replace": text is made valid where it enters; an entrance that was missed must not end the inspection loop.
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
