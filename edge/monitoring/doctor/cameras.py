"""Cameras: checks OpenCV, permissions, formats, and the USB or network path to this machine."""

from __future__ import annotations

import fcntl
import grp
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import cv2

from edge import config
from edge.camera.probe import PictureFault, probe
from edge.camera.sources import v4l2_query
from edge.camera.sources.contract import SourceType
from edge.camera.sources.device import device_path
from edge.camera.sources.registry import find
from edge.control.startup import prepare
from edge.control.unix_socket import ask
from edge.errors import CommandError, DefectdError
from edge.host import machine
from edge.host.clock import Clock
from edge.monitoring.doctor import calibrations
from edge.monitoring.doctor.finding import Finding

PROC: Final = Path("/proc")
ASK_S: Final = 3.0
_BACKENDS: Final = {"V4L2", "FFMPEG"}
"""Of OpenCV, worth naming."""
MIN_MTU: Final = 1500
SLOW_MBIT: Final = 100
MAX_LOST_SHARE: Final = 1e-4
"""Of the packets received; with more losses the pictures of a stream are damaged."""
MIN_UDP_BUFFER_BYTES: Final = 2 << 20
"""A key frame of a large picture arrives as a burst of about this size."""
PICTURE_REMEDY: Final = "Check lamp, lens cap and exposure, and cameras[].roi, exclude and tile_px against the frame"


def opencv(cameras: Sequence[config.Camera]) -> Finding:
    """Whether this build of OpenCV can open what is configured."""
    backends = cv2.videoio_registry
    has = {backends.getBackendName(backend) for backend in backends.getBackends()}
    needs = {_type(camera).opencv_backend(_url(camera)) for camera in cameras} - {""}
    lacks = needs - has
    if lacks:
        remedy = "Install the wheel: pip install --force-reinstall opencv-python-headless"
        return Finding("opencv", "fail", f"{cv2.__version__} lacks {', '.join(sorted(lacks))}", remedy)
    return Finding("opencv", "ok", f"{cv2.__version__} with {', '.join(sorted(has & _BACKENDS))}")


def devices(
    cameras: Sequence[config.Camera], root: Path = Path("/"), ioctl: v4l2_query.Ioctl = fcntl.ioctl
) -> Iterator[Finding]:
    """For each V4L2 camera: permission, name and formats; and the setup of USB."""
    found = [camera for camera in cameras if _type(camera).doctor_checks == "device"]
    for camera in found:
        about = f"device of {camera.name}"
        path = root / str(device_path(_url(camera)))[1:]
        if not path.exists():
            there = " ".join(f"/dev/{p.name}" for p in sorted((root / "dev").glob("video*"))) or "none"
            remedy = f"Plug it in; devices here: {there}. Stable names are in /dev/v4l/by-id"
            yield Finding(about, "fail", f"{path} does not exist", remedy)
            continue
        if not os.access(path, os.R_OK | os.W_OK):
            group = _group(path)
            remedy = f"usermod -aG {group} {_user()}, then log in again; a unit needs SupplementaryGroups={group}"
            yield Finding(about, "fail", f"{path} may not be opened by {_user()}", remedy)
            continue
        yield _formats(about, camera, path, ioctl)
        yield from _stable_name(about, path, root)
        yield from _usb(about, path.resolve().name, root / "sys")
    if found:
        yield from _usbfs(root / "sys")


def _formats(about: str, camera: config.Camera, path: Path, ioctl: v4l2_query.Ioctl) -> Finding:
    try:
        device = v4l2_query.ask(path, ioctl)
    except OSError as error:
        says = f"{path} does not answer as a V4L2 device: {error.strerror}"
        return Finding(about, "fail", says, "Name another device")
    if not device.captures:
        remedy = "Cameras have several nodes: take the first, video-index0 in /dev/v4l/by-id"
        return Finding(about, "fail", f"{path} ({device.card}) takes no pictures", remedy)
    offered = {form.code: form for form in device.formats}
    formats = ", ".join(f"{code} {_largest(form)}".rstrip() for code, form in offered.items())
    says = f"{device.card} offers {formats or 'no list of formats'}"
    wanted = camera.pixel_format
    if wanted and offered and wanted not in offered:
        return Finding(about, "warning", f"{says}; not {wanted}", "Set cameras[].pixel_format to one of them, or null")
    size = camera.width, camera.height
    forms = [form for code, form in offered.items() if wanted in (None, code)]
    if all(size) and forms and not any(form.is_range or not form.sizes or size in form.sizes for form in forms):
        sizes = " ".join(sorted({f"{w}x{h}" for form in forms for w, h in form.sizes}))
        return Finding(about, "warning", f"{says}; not {size[0]}x{size[1]}", f"Set width and height to one of {sizes}")
    return Finding(about, "ok", says)


def _largest(form: v4l2_query.Format) -> str:
    if not form.sizes:
        return ""
    w, h = max(form.sizes, key=lambda size: size[0] * size[1])
    return f"up to {w}x{h}"


def _stable_name(about: str, path: Path, root: Path) -> Iterator[Finding]:
    """The kernel gives a bare number to the camera that it finds first."""
    if not path.name.startswith("video"):
        return
    links = sorted(p for p in (root / "dev/v4l/by-id").glob("*") if p.resolve() == path.resolve())
    if links:
        remedy = f"cameras[].source: {links[0]}"
        yield Finding(about, "warning", f"{path} may be another camera after a restart", remedy)


def _usb(about: str, node: str, sysfs: Path) -> Iterator[Finding]:
    """Speed of the port, and whether the kernel may suspend the camera."""
    usb = (sysfs / "class/video4linux" / node / "device").resolve().parent
    speed = _number(usb / "speed")
    if speed is None:
        return
    if _word(usb / "power/control") == "auto" and (_number(usb / "power/autosuspend_delay_ms") or 0) >= 0:
        remedy = 'udev: ACTION=="add", SUBSYSTEM=="usb", ATTR{product}=="...", ATTR{power/control}="on"'
        yield Finding(about, "warning", "the kernel may suspend it (power/control is auto)", remedy)
    if speed <= 12:
        remedy = "Use another port or cable, without a hub"
        yield Finding(about, "warning", f"USB at {speed:g} Mbit/s is too slow for pictures", remedy)
    else:
        yield Finding(about, "ok", f"USB at {speed:g} Mbit/s")


def _usbfs(sysfs: Path) -> Iterator[Finding]:
    """Memory for USB transfers from user space: USB3 Vision drivers of vendors need it, V4L2 cameras do not."""
    megabytes = _number(sysfs / "module/usbcore/parameters/usbfs_memory_mb")
    if megabytes is not None:
        yield Finding("usbfs", "ok", f"usbfs_memory_mb is {megabytes:g}; V4L2 cameras do not use it")


def networks(cameras: Sequence[config.Camera], sysfs: Path = machine.SYS, proc: Path = PROC) -> Iterator[Finding]:
    """The network interfaces that streams arrive on: speed, losses, MTU; and the buffer for UDP."""
    streams = [camera for camera in cameras if _type(camera).doctor_checks == "network"]
    if not streams:
        return
    for link in sorted((sysfs / "class/net").glob("*")):
        if (link / "device").exists() and _word(link / "operstate") == "up":
            yield _interface(link)
    if any(camera.rtsp_transport == "udp" for camera in streams):
        yield _udp_buffer(proc)


def _interface(link: Path) -> Finding:
    about = f"network {link.name}"
    mtu, speed = _number(link / "mtu"), _number(link / "speed")
    packets = _number(link / "statistics/rx_packets") or 0
    lost = sum(_number(link / "statistics" / name) or 0 for name in ("rx_dropped", "rx_errors", "rx_missed_errors"))
    says = f"MTU {mtu or 0:g}" + (f", {speed:g} Mbit/s" if speed and speed > 0 else "")
    says += f", {lost:g} of {packets + lost:g} packets lost"
    if mtu is not None and mtu < MIN_MTU:
        return Finding(about, "warning", says, f"Set it to 1500: ip link set {link.name} mtu 1500")
    if speed is not None and 0 < speed <= SLOW_MBIT:
        return Finding(about, "warning", says, "Check cable and switch port: cameras want 1000 Mbit/s")
    if lost > MAX_LOST_SHARE * (packets + lost):
        return Finding(about, "warning", says, f"Check the cable; enlarge the ring: ethtool -G {link.name} rx 4096")
    return Finding(about, "ok", says)


def _udp_buffer(proc: Path) -> Finding:
    about, limit = "udp buffer", _number(proc / "sys/net/core/rmem_max")
    if limit is None:
        return Finding(about, "warning", "net.core.rmem_max cannot be read", "Check with: sysctl net.core.rmem_max")
    says = f"net.core.rmem_max is {limit:g} bytes"
    if limit < MIN_UDP_BUFFER_BYTES:
        remedy = f"sysctl -w net.core.rmem_max={MIN_UDP_BUFFER_BYTES}, or set rtsp_transport: tcp"
        return Finding(about, "warning", says, remedy)
    return Finding(about, "ok", says)


def opened(settings: config.Config, clock: Clock) -> Iterator[Finding]:
    """Open each camera for a moment, as the daemon does; unless a daemon has them."""
    if settings.state.is_locked():
        remedy = "Their state is in the state topics; stop the daemon to open them here"
        yield Finding("cameras", "ok", "not opened: a daemon has them", remedy)
        yield from _of_daemon(settings)
        return
    frame_px: dict[str, tuple[int, int]] = {}
    for name, result in probe(settings.active_cameras, clock, _picture_fault(settings, clock)).items():
        about, actual = f"camera {name}", result.actual
        if actual is not None:
            frame_px[name] = (actual.width, actual.height)
        if actual is None:
            yield Finding(about, "fail", result.error, "Check cable, address and password, or cameras[].source")
        elif result.error:
            yield Finding(about, "fail", result.error, PICTURE_REMEDY)
        else:
            yield Finding(about, "ok", f"{actual.backend} {actual.width}x{actual.height} at {actual.fps:g} fps")
    yield from calibrations.compared_with(settings, frame_px)


def _picture_fault(settings: config.Config, clock: Clock) -> PictureFault:
    """Judges pictures as the daemon does; without a model that runs, which is a finding of its own, none is judged."""
    try:
        return prepare(settings, clock).picture_fault
    except DefectdError:
        return lambda _frame: None


def _of_daemon(settings: config.Config) -> Iterator[Finding]:
    """Cameras that a running daemon does not inspect, and calibrations that it refuses, by its `state` command."""
    try:
        reply = ask(settings.state_dir, "state", ASK_S)
    except (CommandError, OSError) as error:
        yield Finding("cameras", "warning", f"the daemon gives no state: {error}", "Look at the state topics")
        return
    states: dict[str, Any] = (reply or {}).get("cameras") or {}
    for name, state in states.items():
        if state.get("state") in ("bad_image", "frozen"):
            says = f"its pictures are not inspected: {state.get('reason') or state['state']}"
            yield Finding(f"camera {name}", "fail", says, PICTURE_REMEDY)
    yield from calibrations.of_daemon(states)


def _type(camera: config.Camera) -> SourceType:
    return find(_url(camera))


def _url(camera: config.Camera) -> str:
    return camera.source.get_secret_value()


def _word(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_word(path))
    except ValueError:
        return None


def _group(path: Path) -> str:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "video"


def _user() -> str:
    return os.environ.get("USER") or str(os.geteuid())
