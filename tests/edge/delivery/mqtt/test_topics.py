"""The topic tree."""

from __future__ import annotations

from edge.delivery.mqtt.topics import Topics

topics = Topics("plant/defectd", "line3")


def test_topics_are_those_of_the_contract():
    """Every topic starts with prefix and node."""
    assert topics.status == "plant/defectd/line3/status"
    assert topics.state("top") == "plant/defectd/line3/top/state"
    assert topics.event("node") == "plant/defectd/line3/node/event"
    assert topics.coverage("top") == "plant/defectd/line3/top/coverage"
    assert topics.command("+") == "plant/defectd/line3/cmd/+"
    assert topics.doctor == "plant/defectd/line3/doctor"
