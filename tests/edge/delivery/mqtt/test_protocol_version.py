"""The MQTT version of the next attempt to connect."""

from __future__ import annotations

from edge.config import Mqtt
from edge.delivery.mqtt.notices import Refused
from edge.delivery.mqtt.protocol_version import Version

REMOTE = Mqtt(broker="mqtt://localhost:1")
UNSUPPORTED = Refused("no", "", 0x84)
SILENT = Refused("no", "", silent=True)
HUNG_UP = Refused("no", "", hung_up=True)
AWAY = Refused("no", "")


def test_first_version_is_that_of_the_configuration():
    """auto starts with 5, except for the embedded broker, which supports 3.1.1 only."""
    assert Version(REMOTE).current == "5"
    assert Version(Mqtt(broker="embedded")).current == "3.1.1"
    assert Version(Mqtt(broker="mqtt://localhost:1", protocol="3.1.1")).current == "3.1.1"
    fixed = Version(Mqtt(broker="embedded", protocol="5"))
    assert fixed.current == "5"
    assert not fixed.refused(UNSUPPORTED)
    assert fixed.current == "5"


def test_version_that_the_broker_refuses_is_not_tried_again():
    """After 0x84 the next attempt uses 3.1.1 at once and stays with it; a pause follows when both are refused."""
    version = Version(REMOTE)
    assert version.refused(UNSUPPORTED)
    version.accepted()
    version.start_attempt()
    assert version.current == "3.1.1"
    assert not version.refused(AWAY)
    assert not version.refused(UNSUPPORTED)


def test_version_guessed_from_silence_holds_for_one_connection():
    """Without an answer to version 5 the next attempt uses 3.1.1, and the next connection 5 again."""
    version = Version(REMOTE)
    assert version.refused(SILENT)
    assert version.current == "3.1.1"
    version.accepted()
    version.start_attempt()
    assert version.current == "5"


def test_one_hang_up_is_no_reason_to_change_the_version():
    """A broker that restarts hangs up, too; only the second time in a row counts."""
    version = Version(REMOTE)
    assert not version.refused(HUNG_UP)
    assert not version.refused(AWAY)
    assert not version.refused(HUNG_UP)
    assert version.refused(HUNG_UP)
    assert not version.refused(HUNG_UP)


def test_no_guess_is_made_once_version_5_has_worked():
    """Silence is then no hint that the broker supports 3.1.1 only."""
    version = Version(REMOTE)
    version.accepted()
    assert not version.refused(SILENT)
    assert not any(version.refused(HUNG_UP) for _ in range(5))
