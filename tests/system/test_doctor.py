"""`defectd doctor` against a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mosquitto import Mosquitto, need_mosquitto
from pydantic import SecretStr

from edge import config
from edge.host.clock import SystemClock
from edge.monitoring.doctor import broker as broker_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("acl", "grade", "words"), [("", "fail", "refuses"), ("topic write defectd/n1/#\n", "ok", "takes")]
)
def test_doctor_checks_whether_the_broker_accepts_what_the_node_publishes(
    tmp_path: Path, acl: str, grade: str, words: str
) -> None:
    """The doctor finds an access list that refuses the node before the broker refuses the first event."""
    need_mosquitto()
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text(acl)
    broker = Mosquitto(folder, f"acl_file {folder}/acl").start()
    try:
        camera = config.Camera(name="top", source=SecretStr("strip:"))
        settings = config.Config(node="n1", state_dir=tmp_path, mqtt=config.Mqtt(broker=broker.url), cameras=(camera,))
        finding = broker_of.finding(settings, SystemClock())
        assert (finding.grade, words in finding.says) == (grade, True), finding
    finally:
        broker.stop()
