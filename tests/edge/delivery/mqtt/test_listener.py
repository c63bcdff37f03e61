"""A listener on a broker."""

from __future__ import annotations

import threading

from edge.config import Mqtt
from edge.delivery.mqtt.listener import listen


def test_listener_reports_once_that_the_broker_is_away_and_ends_on_request(free_port):
    """Many attempts give one report; `stopped` ends the listener."""
    over = threading.Event()
    reported: list[str] = []

    def report(sentence: str) -> None:
        reported.append(sentence)
        threading.Timer(0.5, over.set).start()

    assert list(listen(Mqtt(broker=f"mqtt://127.0.0.1:{free_port}"), ["#"], stopped=over, on_state=report)) == []
    assert len(reported) == 1
    assert "nothing listens" in reported[0]
