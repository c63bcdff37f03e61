"""The status of a node whose power supply is too weak."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from node import subscriber, until
from pydantic import SecretStr

from edge import config
from edge.control.startup import prepare
from edge.daemon import Daemon
from edge.host import machine
from edge.host.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from mosquitto import Mosquitto

pytestmark = pytest.mark.system


def test_status_of_the_node_reports_throttling(tmp_path: Path, broker: Mosquitto) -> None:
    """The retained status reports under-voltage within seconds, and its end as well."""
    flags = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("0\n")
    camera = config.Camera(name="top", source=SecretStr("strip:?width=256&height=64"), fps=5)
    settings = config.Config(
        node="line3",
        state_dir=tmp_path / "state",
        mqtt=config.Mqtt(broker=broker.url),
        metrics=config.Metrics(listen=None),
        cameras=(camera,),
    )
    clock = SystemClock()
    daemon = Daemon(prepare(settings, clock), clock, power=machine.PowerWatch(tmp_path / "sys"))
    running = threading.Thread(target=daemon.run)
    running.start()
    try:
        with subscriber(broker.port) as scada:

            def throttling() -> object:
                return (scada.latest("defectd/line3/status") or {}).get("throttling")

            until(lambda: throttling() == {"now": [], "since_boot": []}, 10, "a status without throttling")
            for text, now in (("50005", ["under_voltage", "throttled"]), ("50000", [])):
                flags.write_text(text + "\n")
                wanted = {"now": now, "since_boot": ["under_voltage", "throttled"]}
                until(lambda wanted=wanted: throttling() == wanted, 10, str(wanted))
    finally:
        daemon.stop()
        running.join(10)
