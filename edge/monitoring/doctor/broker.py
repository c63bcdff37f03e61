"""Whether the broker accepts what this node publishes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from edge import config
from edge.delivery.mqtt.client import Link
from edge.delivery.mqtt.connection import Connection
from edge.delivery.mqtt.notices import Acknowledged, Notice, Protocol, Will
from edge.delivery.mqtt.topics import Topics
from edge.errors import BrokerError
from edge.host.clock import NS_PER_S, Clock
from edge.monitoring.doctor.finding import Finding

ANSWER_S: Final = 5.0


def finding(settings: config.Config, clock: Clock) -> Finding:
    """Connect as the node does, and publish one message below the node's topics.

    It disturbs nobody: another client id takes no connection over, no will is left, and the message is empty, not
    retained, and on a topic of its own. Only MQTT 5 reports whether the access list lets it pass.
    """
    mqtt = settings.mqtt
    if mqtt.is_embedded:
        return Finding("broker", "ok", f"the one inside defectd, on port {mqtt.address[1]}")
    host, port, tls = mqtt.address
    where = f"{host}:{port}, {'TLS' if tls else 'clear text'}"
    client_id = f"defectd-doctor-{secrets.token_hex(4)}"

    def open_link(*, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link:
        del will  # subscribers must not take the doctor's end for the node's
        return Link(mqtt, client_id=client_id, deliver=deliver, protocol=protocol)

    caller = Connection(open_link, mqtt, clock)
    topics = Topics(mqtt.topic_prefix, settings.node)
    try:
        link, connected = caller.connect(lambda: Will(topics.status, b""), lambda: None)
        try:
            answer = _published(link, caller, topics.doctor, clock)
        finally:
            link.disconnect(1.0)
    except BrokerError as error:
        return Finding("broker", "fail", f"{where}: {error}", "Events wait on disk until the broker is reached")
    says = f"{where}: connected, MQTT {connected.protocol}"
    if answer is None:
        return Finding("broker", "fail", f"{says}, but it confirms no message", "Look into the broker's log")
    if not answer.ok:
        refusal = f"{says}, but it refuses {topics.doctor}: {answer.reason}"
        return Finding(
            "broker", "fail", refusal, f"Its access list must let this user write {topics.prefix}/{topics.node}/#"
        )
    if connected.protocol == "3.1.1":
        remedy = "Use an MQTT 5 broker if you can: with 3.1.1 a broker cannot report that it refuses an event"
        return Finding("broker", "warning", says, remedy)
    return Finding("broker", "ok", f"{says}, and it takes what this node publishes")


def _published(link: Link, caller: Connection, topic: str, clock: Clock) -> Acknowledged | None:
    """The broker's answer to one empty message."""
    mid = link.publish(topic, b"")
    until_ns = clock.monotonic_ns() + int(ANSWER_S * NS_PER_S)
    while (left_ns := until_ns - clock.monotonic_ns()) > 0:
        match caller.receive(left_ns / NS_PER_S):
            case Acknowledged(mid=found) as answer if found == mid:
                return answer
            case _:
                pass
    return None
