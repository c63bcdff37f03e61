"""The doctor's findings, on boxes that are made for the test."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from edge import config, doctor
from edge.clock import SystemClock
from edge.doctor import Finding, examine

if TYPE_CHECKING:
    from pathlib import Path


def settings(folder: Path, **changes: object) -> config.Config:
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return config.Config(**{"node": "n1", "state_dir": folder, "cameras": (camera,), **changes})  # type: ignore[arg-type]


def found(folder: Path, **changes: object) -> dict[str, Finding]:
    return {f.about: f for f in examine(settings(folder, **changes), SystemClock(), cameras=False)}


def authority(folder: Path, days: int) -> Path:
    path = folder / "ca.crt"
    key = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", *key, "-days", str(days), "-subj", "/CN=ca"]
    subprocess.run([*command, "-keyout", str(folder / "ca.key"), "-out", str(path)], check=True, capture_output=True)
    return path


def test_doctor_finds_a_healthy_box_good(tmp_path: Path) -> None:
    """Model, disk and the embedded broker of a fresh box are good."""
    findings = found(tmp_path)
    assert {findings[about].grade for about in ("model", "disk", "broker")} == {"good"}


def test_doctor_names_a_remedy_for_everything_that_is_not_good(tmp_path: Path) -> None:
    """A finding without a remedy helps nobody."""
    findings = found(tmp_path, model=config.Model(bundle="nowhere"), mqtt=config.Mqtt(broker="mqtt://127.0.0.1:1"))
    assert (findings["model"].grade, findings["broker"].grade) == ("bad", "bad")
    assert all(finding.remedy for finding in findings.values() if finding.grade != "good")


@pytest.mark.parametrize(("days", "grade"), [(400, "good"), (10, "warning")])
def test_doctor_reads_how_long_the_authority_is_valid(tmp_path: Path, days: int, grade: str) -> None:
    """A certificate that ends within a month is a warning."""
    mqtt = config.Mqtt(broker="mqtts://127.0.0.1:1", ca_file=authority(tmp_path, days))
    assert found(tmp_path, mqtt=mqtt)["ca_file"].grade == grade


def test_doctor_tells_an_authority_that_has_expired(tmp_path: Path) -> None:
    """After its last day the certificate is bad, and the clock is named as the other cause."""

    class Later(SystemClock):
        def wall_ns(self) -> int:
            return super().wall_ns() + 500 * 86_400 * 10**9

    mqtt = config.Mqtt(broker="mqtts://127.0.0.1:1", ca_file=authority(tmp_path, 400))
    (finding,) = doctor._certificates(mqtt, Later())
    assert finding.grade == "bad"
    assert "clock" in finding.remedy


def test_doctor_refuses_a_file_that_holds_no_certificate(tmp_path: Path) -> None:
    """Text in place of PEM is told with the key to mend."""
    path = tmp_path / "ca.crt"
    path.write_text("hello")
    (finding,) = doctor._certificates(config.Mqtt(broker="mqtts://h:1", ca_file=path), SystemClock())
    assert finding.grade == "bad"
    assert "mqtt.ca_file" in finding.remedy


def test_doctor_opens_cameras_and_hides_their_passwords(tmp_path: Path) -> None:
    """A camera that gives pictures is good, one that is not there is bad."""
    far = config.Camera(name="far", source=SecretStr("rtsp://u:hunter2@127.0.0.1:9/x"), open_timeout_s=1)
    near = config.Camera(name="near", source=SecretStr("strip:"))
    findings = list(doctor._cameras(settings(tmp_path, cameras=(near, far)), SystemClock()))
    assert [finding.grade for finding in findings] == ["good", "bad"]
    assert "hunter2" not in str(findings)


def test_doctor_reads_memory_and_power_of_the_box(tmp_path: Path) -> None:
    """Little memory is a warning, under-voltage now is bad, and under-voltage in the past a warning."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900000 kB\nMemAvailable: 90000 kB\n")
    assert doctor._memory(meminfo).grade == "warning"
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    for text, grade in (("0", "good"), ("50005", "bad"), ("50000", "warning")):
        flags.write_text(text + "\n")
        assert [finding.grade for finding in doctor._heat(tmp_path)] == [grade]
