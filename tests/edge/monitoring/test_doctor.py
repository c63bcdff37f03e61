"""The doctor's findings, on machines that are made for the test."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from edge import config
from edge.camera.sources.v4l2_query import Device, Format, ask
from edge.cli import main
from edge.config.state_dir import StateDir
from edge.control.audit import Call
from edge.control.requests import State
from edge.control.unix_socket import CommandSocket
from edge.errors import CommandError
from edge.host.clock import SystemClock
from edge.monitoring.doctor import Finding, cameras, certificates, examine, machine, outputs, pictures

if TYPE_CHECKING:
    from collections.abc import Iterator


def settings(folder: Path, **changes: object) -> config.Config:
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return config.Config(**{"node": "n1", "state_dir": folder, "cameras": (camera,), **changes})  # type: ignore[arg-type]


def found(folder: Path, **changes: object) -> dict[str, Finding]:
    return {f.about: f for f in examine(settings(folder, **changes), SystemClock(), open_cameras=False)}


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, days: int, name: str = "ca", *more: str) -> Path:
    """A certificate that signs itself, and its key."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", "-x509", *key, "-days", str(days), "-subj", f"/CN={name}", "-out", f"{name}.crt", *more)
    return folder / f"{name}.crt"


class Later(SystemClock):
    """The time in 500 days."""

    def wall_ns(self) -> int:
        return super().wall_ns() + 500 * 86_400 * 10**9


def test_healthy_node_is_ok(tmp_path: Path) -> None:
    """The model, the disk and the embedded broker of a new node are OK."""
    findings = found(tmp_path)
    assert {findings[about].grade for about in ("model", "disk", "broker")} == {"ok"}


def test_every_finding_that_is_not_ok_names_a_remedy(tmp_path: Path) -> None:
    """A person can act on each of them."""
    findings = found(tmp_path, model=config.Model(bundle="nowhere"), mqtt=config.Mqtt(broker="mqtt://127.0.0.1:1"))
    assert (findings["model"].grade, findings["broker"].grade) == ("fail", "fail")
    assert all(finding.remedy for finding in findings.values() if finding.grade != "ok")


def test_damaged_calibration_is_no_fault_of_the_model(tmp_path: Path) -> None:
    """The remedy is about the calibration file: another bundle would change nothing."""
    path = StateDir(tmp_path).calibration("top")
    path.parent.mkdir()
    path.write_text("{")
    findings = found(tmp_path)
    assert "Remove the file" in findings["model"].says
    assert "bundle" not in findings["model"].remedy


@pytest.mark.parametrize(("days", "grade"), [(400, "ok"), (10, "warning")])
def test_authority_that_expires_soon_is_a_warning(tmp_path: Path, days: int, grade: str) -> None:
    """Within a month."""
    mqtt = config.Mqtt(broker="mqtts://127.0.0.1:1", ca_file=certificate(tmp_path, days))
    assert found(tmp_path, mqtt=mqtt)["ca_file"].grade == grade


def test_authority_that_has_expired_fails(tmp_path: Path) -> None:
    """The clock is named as the other possible cause."""
    mqtt = config.Mqtt(broker="mqtts://127.0.0.1:1", ca_file=certificate(tmp_path, 400))
    (finding,) = certificates.files(mqtt, Later())
    assert finding.grade == "fail"
    assert "clock" in finding.remedy


def test_file_without_a_certificate_fails(tmp_path: Path) -> None:
    """The remedy names the configuration key."""
    path = tmp_path / "ca.crt"
    path.write_text("hello")
    (finding,) = certificates.files(config.Mqtt(broker="mqtts://h:1", ca_file=path), SystemClock())
    assert finding.grade == "fail"
    assert "mqtt.ca_file" in finding.remedy


def test_cameras_are_opened_and_their_passwords_hidden(tmp_path: Path) -> None:
    """A camera that delivers images is OK, one that is absent fails."""
    far = config.Camera(name="far", source=SecretStr("rtsp://u:hunter2@127.0.0.1:9/x"), open_timeout_s=1)
    near = config.Camera(name="near", source=SecretStr("strip:"))
    findings = list(cameras.opened(settings(tmp_path, cameras=(near, far)), SystemClock()))
    assert [finding.grade for finding in findings] == ["ok", "fail"]
    assert "hunter2" not in str(findings)


def test_a_region_outside_the_frame_is_a_failure(tmp_path: Path) -> None:
    """Such a camera opens and delivers, and not one of its frames is inspected."""
    beside = config.Camera(name="beside", source=SecretStr("strip:"), roi=(5000, 0, 100, 100))
    (finding,) = cameras.opened(settings(tmp_path, cameras=(beside,)), SystemClock())
    assert (finding.grade, "outside" in finding.says) == ("fail", True), finding


def test_bad_pictures_of_a_running_daemon_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor asks the daemon that has the cameras, and gives its reason."""
    node = settings(tmp_path)
    answer = {"cameras": {"top": {"state": "bad_image", "reason": "dark"}, "side": {"state": "running"}}}
    monkeypatch.setattr(cameras, "ask", lambda *_: answer)
    with node.state.locked():
        found = [finding for finding in cameras.opened(node, SystemClock()) if finding.grade == "fail"]
    assert [(finding.about, "dark" in finding.says) for finding in found] == [("camera top", True)]


def test_memory_and_power_of_the_machine_are_graded(tmp_path: Path) -> None:
    """Little memory is a warning, under-voltage now a failure, and under-voltage in the past a warning."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900000 kB\nMemAvailable: 90000 kB\n")
    assert machine.memory(meminfo).grade == "warning"
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    for text, grade in (("0", "ok"), ("50005", "fail"), ("50000", "warning")):
        flags.write_text(text + "\n")
        assert [finding.grade for finding in machine.power_and_heat(tmp_path)] == [grade]


# Certificates


def test_node_certificate_is_read_too(tmp_path: Path) -> None:
    """cert_file is dated like ca_file; of several certificates in one file the first to expire counts."""
    old = certificate(tmp_path, 10, "old", "-addext", "basicConstraints=critical,CA:FALSE")
    new = certificate(tmp_path, 400, "new")
    both = tmp_path / "both.crt"
    both.write_text("a remark\n" + new.read_text() + old.read_text())
    mqtt = config.Mqtt(broker="mqtts://h:1", ca_file=new, cert_file=both, key_file=tmp_path / "old.key")
    findings = {f.about: f for f in certificates.files(mqtt, SystemClock())}
    assert {about: f.grade for about, f in findings.items()} == {"ca_file": "ok", "cert_file": "warning"}
    assert "valid for 10 days" in findings["cert_file"].says


@pytest.mark.parametrize("years", [10, 40])
def test_end_of_a_certificate_is_that_of_openssl(tmp_path: Path, years: int) -> None:
    """Both forms of time: years have two digits before 2050, and four from then on."""
    path = certificate(tmp_path, 365 * years)
    output = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-enddate"], check=True, capture_output=True, text=True
    ).stdout
    end_s = certificates.ends_s(ssl.PEM_cert_to_DER_cert(path.read_text()))
    assert end_s == ssl.cert_time_to_seconds(output.strip().partition("=")[2])


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x82", b"\x30\x03\x02\x01\x01", b"\xff" * 50, bytes(300)])
def test_invalid_certificate_is_one_kind_of_error(der: bytes) -> None:
    """Whatever the bytes are, ValueError is raised."""
    with pytest.raises(ValueError, match=r"X\.509|unpack"):
        certificates.ends_s(der)


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """The port of a TLS server whose self-signed certificate is valid for ten days, and which sends nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, 10, "server"), tmp_path / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            connection, _ = listener.accept()
            with connection, context.wrap_socket(connection, server_side=True) as link:
                link.recv(1)

        thread = threading.Thread(target=shake_hands)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(("clock", "grade"), [(SystemClock(), "warning"), (Later(), "fail")])
def test_certificate_of_the_broker_is_dated_without_trusting_it(tls_port: int, clock: SystemClock, grade: str) -> None:
    """The doctor reports its end in time, whatever authority signed it."""
    mqtt = config.Mqtt(broker=f"mqtts://127.0.0.1:{tls_port}")
    (finding,) = certificates.of_broker(mqtt, clock)
    assert (finding.about, finding.grade) == ("broker certificate", grade)


def test_broker_without_a_certificate_has_no_finding_about_one(free_port: int) -> None:
    """No TLS, or no broker: the finding about the connection gives the reason."""
    for broker in ("embedded", f"mqtts://127.0.0.1:{free_port}"):
        assert list(certificates.of_broker(config.Mqtt(broker=broker), SystemClock())) == []


# The unit

UNIT = "[Service]\nExecStart=/opt/defectd/venv/bin/defectd run\nMemoryMax=1G\n"


@pytest.mark.parametrize(
    ("installed", "grade", "words"),
    [
        ("# another comment\n\n" + UNIT, "ok", "the unit of this version"),
        (UNIT.replace("1G", "2G"), "warning", "not the unit of this version"),
    ],
)
def test_unit_that_differs_from_the_shipped_is_a_warning(
    tmp_path: Path, installed: str, grade: str, words: str
) -> None:
    """Directives count, comments do not; drop-ins, the place for the site's changes, are named."""
    (tmp_path / "shipped").write_text(UNIT)
    folder = tmp_path / "etc/systemd/system"
    (folder / "defectd.service.d").mkdir(parents=True)
    (folder / "defectd.service.d/site.conf").write_text("[Service]\nMemoryMax=2G\n")
    (folder / "defectd.service").write_text(installed)
    (finding,) = machine.unit(tmp_path, (tmp_path / "shipped",))
    assert (finding.grade, words in finding.says) == (grade, True)
    assert ("site.conf" in finding.says) == (grade == "ok")


def test_shipped_unit_is_where_the_doctor_expects_it(tmp_path: Path) -> None:
    """In this checkout, and in an installation by pip."""
    assert machine.SHIPPED[0].is_file()
    listed = (Path(__file__).parents[3] / "setup.cfg").read_text().partition("[options.data_files]")[2]
    assert "share/defectd =\n    systemd/defectd.service" in listed
    assert Path(sys.prefix) / "share/defectd/defectd.service" in machine.SHIPPED
    assert list(machine.unit(tmp_path)) == []


# Outputs of a running daemon


@contextmanager
def running(state_dir: Path, reply: dict[str, object]) -> Iterator[None]:
    """A daemon whose `state` command gives this reply."""

    def perform(call: Call) -> dict[str, object]:
        assert isinstance(call.request, State)
        return reply

    console = CommandSocket(StateDir(state_dir).command_socket, perform, SystemClock())
    console.start()
    try:
        yield
    finally:
        console.stop(5)


def test_output_that_restarts_fails(tmp_path: Path) -> None:
    """With its last error; one that was restarted and runs is a warning, and one that runs is OK."""
    status = {"state": "running", "since": "2026-11-29T10:00:00.000Z", "restarts": 0, "last_error": None}
    replies = {
        "modbus": status,
        "opcua": {**status, "restarts": 2, "last_error": "it hung"},
        "sparkplug": {**status, "state": "restarting", "restarts": 7, "last_error": "no route to host"},
    }
    with running(tmp_path, {"outputs": replies}):
        findings = {finding.about: finding for finding in outputs.findings(tmp_path)}
    assert {about: finding.grade for about, finding in findings.items()} == {
        "output modbus": "ok",
        "output opcua": "warning",
        "output sparkplug": "fail",
    }
    assert "no route to host" in findings["output sparkplug"].says
    assert all(finding.remedy for finding in findings.values() if finding.grade != "ok")


@pytest.mark.parametrize(
    ("page", "grade", "says"),
    [
        ({"state": "running", "link": "http://127.0.0.1:8480/"}, "ok", "http://127.0.0.1:8480/"),
        ({"state": "starting", "link": None}, "ok", "starting"),
        ({"state": "restarting", "link": None, "last_error": "Address already in use"}, "fail", "already in use"),
    ],
)
def test_page_that_is_not_served_fails(tmp_path: Path, page: dict[str, object], grade: str, says: str) -> None:
    """With the reason and what to do; one that is served has its address."""
    with running(tmp_path, {"page": page}):
        (finding,) = outputs.findings(tmp_path)
    assert (finding.about, finding.grade) == ("page", grade)
    assert says in finding.says


@pytest.mark.parametrize("reply", [{}, {"outputs": {}}, {"outputs": None}])
def test_node_without_outputs_has_no_finding_about_them(tmp_path: Path, reply: dict[str, object]) -> None:
    """A node whose daemon does not run has none either."""
    assert list(outputs.findings(tmp_path)) == []
    with running(tmp_path, reply):
        assert list(outputs.findings(tmp_path)) == []


def test_daemon_that_refuses_to_answer_is_a_warning(tmp_path: Path) -> None:
    """The finding refers to the log of the daemon."""

    def refuse(_call: Call) -> dict[str, object]:
        raise CommandError("busy", "a reload is under way")

    console = CommandSocket(StateDir(tmp_path).command_socket, refuse, SystemClock())
    console.start()
    try:
        (finding,) = outputs.findings(tmp_path)
    finally:
        console.stop(5)
    assert (finding.grade, "a reload is under way" in finding.says) == ("warning", True)


def test_command_prints_grades_in_capitals_and_as_json(tmp_path: Path) -> None:
    """OK, WARNING and FAIL for a person, lower case for a script; exit code 1 when one finding is FAIL."""
    path = tmp_path / "c.yaml"
    path.write_text("node: n1\nstate_dir: state\ncameras: [{name: top, source: 'strip:'}]\n")
    run = CliRunner().invoke(main, ["doctor", "-c", str(path), "--no-cameras"])
    assert "OK       model: " in run.output
    lines = CliRunner().invoke(main, ["doctor", "-c", str(path), "--no-cameras", "--json"]).output.splitlines()
    assert {json.loads(line)["grade"] for line in lines} <= {"ok", "warning", "fail"}
    path.write_text(path.read_text() + "model: {bundle: nowhere}\n")
    failed = CliRunner().invoke(main, ["doctor", "-c", str(path), "--no-cameras"])
    assert (failed.exit_code, "FAIL     model: " in failed.output) == (1, True)


# Cameras


def driver(formats: dict[str, list[tuple[int, int]]], capabilities: int = 0x1, card: str = "Plant Cam") -> object:
    """An ioctl that answers like a V4L2 driver."""

    def ioctl(_handle: int, request: int, reply: bytearray) -> int:
        index, kind_or_format = struct.unpack_from("II", reply)
        try:
            if request == 0x80685600:  # VIDIOC_QUERYCAP
                words = (b"uvcvideo", card.encode(), b"usb-1", 0x50F00, 0x80000000 | 0x1, capabilities)
                reply[:] = struct.pack("16s32s32sIII12x", *words)
            elif request == 0xC0405602:  # VIDIOC_ENUM_FMT
                assert kind_or_format == (9 if capabilities & 0x1000 else 1)
                struct.pack_into("4s", reply, 44, list(formats)[index].encode())
            elif request == 0xC02C564A:  # VIDIOC_ENUM_FRAMESIZES
                code = struct.pack("I", kind_or_format).decode()
                struct.pack_into("III", reply, 8, 1, *formats[code][index])
            else:
                raise OSError(errno.ENOTTY, "another request")
        except IndexError:
            raise OSError(errno.EINVAL, "the end of the list") from None
        return 0

    return ioctl


SIZES = {"MJPG": [(1920, 1080), (640, 480)], "YUYV": [(640, 480)]}


@pytest.mark.parametrize("capabilities", [0x1, 0x1000])
def test_device_names_its_formats_without_an_image(tmp_path: Path, capabilities: int) -> None:
    """ioctl gives name, formats and sizes, also of drivers with several planes."""
    node = tmp_path / "video0"
    node.touch()
    device = ask(node, driver(SIZES, capabilities))  # type: ignore[arg-type]
    formats = (Format("MJPG", ((1920, 1080), (640, 480))), Format("YUYV", ((640, 480),)))
    assert device == Device("Plant Cam", "uvcvideo", captures=True, formats=formats)


def test_plain_file_is_no_device(tmp_path: Path) -> None:
    """It answers no ioctl."""
    (tmp_path / "video0").touch()
    with pytest.raises(OSError, match=r"ioctl|not implemented"):  # the second in an emulator
        ask(tmp_path / "video0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A machine with one USB camera: its device node, its stable name, its port."""
    root = tmp_path / "root"
    usb = root / "sys/devices/usb1/1-2"
    for folder in ("dev/v4l/by-id", "sys/class/video4linux/video0"):
        (root / folder).mkdir(parents=True)
    (usb / "1-2:1.0").mkdir(parents=True)
    (usb / "power").mkdir()
    (root / "dev/video0").touch()
    (root / "dev/v4l/by-id/usb-Plant_Cam-video-index0").symlink_to("../../video0")
    (root / "sys/class/video4linux/video0/device").symlink_to("../../../devices/usb1/1-2/1-2:1.0")
    (usb / "speed").write_text("480\n")
    (usb / "power/control").write_text("on\n")
    return root


def examined(root: Path, source: str = "/dev/v4l/by-id/usb-Plant_Cam-video-index0", **camera: object) -> list[Finding]:
    one = config.Camera(name="top", source=SecretStr(source), **camera)  # type: ignore[arg-type]
    return list(cameras.devices([one], root, driver(SIZES)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "grade", "words"),
    [
        ({}, "ok", "MJPG up to 1920x1080, YUYV up to 640x480"),
        ({"pixel_format": "MJPG", "width": 1920, "height": 1080}, "ok", "Plant Cam"),
        ({"pixel_format": "GREY"}, "warning", "not GREY"),
        ({"pixel_format": "YUYV", "width": 1920, "height": 1080}, "warning", "not 1920x1080"),
    ],
)
def test_wanted_format_is_compared_with_the_offered_ones(
    tree: Path, wanted: dict[str, object], grade: str, words: str
) -> None:
    """A format or size that the device does not have is a warning before the first image."""
    finding = examined(tree, **wanted)[0]
    assert (finding.grade, words in finding.says) == (grade, True), finding


def test_number_that_can_change_is_a_warning_with_the_stable_name(tree: Path) -> None:
    """/dev/video0 may be another camera after a restart; the remedy is its name by id."""
    assert all(finding.grade == "ok" for finding in examined(tree))
    (warning,) = (finding for finding in examined(tree, "0") if finding.grade == "warning")
    assert "by-id/usb-Plant_Cam-video-index0" in warning.remedy


def test_device_that_is_absent_or_takes_no_pictures_fails(tree: Path) -> None:
    """A missing node, and the metadata node that UVC cameras have in addition."""
    (missing,) = examined(tree, "7")
    assert missing.grade == "fail"
    assert "/dev/video0" in missing.remedy
    one = config.Camera(name="top", source=SecretStr("0"))
    node = next(cameras.devices([one], tree, driver(SIZES, 0x00800000)))  # type: ignore[arg-type]
    assert (node.grade, "takes no pictures" in node.says) == ("fail", True)


def test_device_without_permission_fails_and_names_the_group(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the usual cause of a camera that does not open."""
    monkeypatch.setattr(cameras.os, "access", lambda *_: False)
    (finding,) = (finding for finding in examined(tree) if finding.grade == "fail")
    assert "usermod -aG" in finding.remedy


def test_usb_that_is_slow_or_sleeps_is_a_warning(tree: Path) -> None:
    """A port at 12 Mbit/s is too slow for images; automatic suspend disconnects the camera."""
    usb = tree / "sys/devices/usb1/1-2"
    (usb / "speed").write_text("12\n")
    (usb / "power/control").write_text("auto\n")
    (usb / "power/autosuspend_delay_ms").write_text("2000\n")
    words = " ".join(finding.says for finding in examined(tree) if finding.grade == "warning")
    assert "12 Mbit/s" in words
    assert "suspend" in words


def interface(sysfs: Path, **numbers: object) -> None:
    link = sysfs / "class/net/eth0"
    for folder in ("device", "statistics"):
        (link / folder).mkdir(parents=True, exist_ok=True)
    usual = {"operstate": "up", "mtu": 1500, "speed": 1000, "statistics/rx_packets": 10**6, "statistics/rx_dropped": 3}
    for name, value in {**usual, **numbers}.items():
        (link / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("numbers", "grade", "remedy"),
    [
        ({}, "ok", ""),
        ({"mtu": 1400}, "warning", "mtu 1500"),
        ({"speed": 100}, "warning", "cable and switch"),
        ({"statistics/rx_dropped": 5000}, "warning", "ethtool -G eth0"),
    ],
)
def test_network_of_streams_is_examined(tmp_path: Path, numbers: dict[str, object], grade: str, remedy: str) -> None:
    """MTU, speed and losses of hardware interfaces that are up; only when a camera is a stream."""
    interface(tmp_path, **numbers)
    (tmp_path / "class/net/lo").mkdir()
    stream = config.Camera(name="a", source=SecretStr("rtsp://10.0.0.9/x"))
    (finding,) = cameras.networks([stream], tmp_path)
    assert (finding.about, finding.grade, remedy in finding.remedy) == ("network eth0", grade, True), finding
    assert list(cameras.networks([config.Camera(name="a", source=SecretStr("strip:"))], tmp_path)) == []


@pytest.mark.parametrize(("limit", "grade"), [("212992", "warning"), ("8388608", "ok")])
def test_buffer_of_udp_is_examined_where_it_is_used(tmp_path: Path, limit: str, grade: str) -> None:
    """The kernel's default is smaller than one key frame."""
    path = tmp_path / "sys/net/core/rmem_max"
    path.parent.mkdir(parents=True)
    path.write_text(limit + "\n")
    stream = config.Camera(name="a", source=SecretStr("rtsp://10.0.0.9/x"), rtsp_transport="udp")
    (finding,) = cameras.networks([stream], tmp_path, tmp_path)
    assert (finding.about, finding.grade) == ("udp buffer", grade)


def test_opencv_that_cannot_open_a_camera_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build without FFmpeg opens no stream; a build with everything needed is OK."""
    stream = config.Camera(name="a", source=SecretStr("rtsp://10.0.0.9/x"))
    assert cameras.opencv([stream]).grade == "ok"
    monkeypatch.setattr(cameras.cv2.videoio_registry, "getBackends", lambda: (cameras.cv2.CAP_V4L2,))
    assert cameras.opencv([config.Camera(name="a", source=SecretStr("0"))]).grade == "ok"
    finding = cameras.opencv([stream])
    assert (finding.grade, "FFMPEG" in finding.says) == ("fail", True)


# Evidence


def test_reason_why_no_images_are_stored_is_reported(tmp_path: Path) -> None:
    """Too little free space, a quota larger than the disk, an unusable folder: each has its remedy."""

    def found(**values: object) -> Finding:
        (finding,) = pictures.findings(settings(tmp_path, evidence=config.Evidence(**values)))  # type: ignore[arg-type]
        return finding

    assert found().grade == "ok"
    assert "0 images, 0 of 256 MiB" in found().says
    assert "lower evidence.min_free_mb" in found(min_free_mb=1_000_000).remedy
    assert "lower evidence.max_mb" in found(max_mb=1_000_000).remedy
    (tmp_path / "file").write_text("")
    assert found(dir=tmp_path / "file" / "below").grade == "fail"
    assert list(pictures.findings(settings(tmp_path, evidence=config.Evidence(enabled=False)))) == []
