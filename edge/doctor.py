"""What is wrong with this box, one finding a line, each with its remedy."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge import box, config
from edge.clock import NS_PER_S, Clock, clock_synced
from edge.daemon import prepare, probed
from edge.delivery.caller import Caller
from edge.delivery.mqtt import Acknowledged, Link, Notice, Protocol, Will
from edge.delivery.topics import Topics
from edge.errors import BrokerError, DefectdError

Grade = Literal["good", "warning", "bad"]

LEAST_DISK_BYTES: Final = 500 << 20
LEAST_MEMORY_BYTES: Final = 300 << 20
SOON_S: Final = 30 * 86_400
"""A certificate that ends within this time is worth a warning."""
ANSWER_S: Final = 5.0
PI_NOW: Final = 0xF
"""The Raspberry Pi's flags of this moment; those above bit 15 are since boot."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    grade: Grade
    says: str
    remedy: str = ""


def examine(settings: config.Config, clock: Clock, *, cameras: bool = True) -> Iterator[Finding]:
    """Findings as they are made.  cameras: also open each for a moment, unless a daemon has them."""
    yield _model(settings, clock)
    yield _disk(settings.state_dir)
    yield _memory()
    yield _clock()
    yield from _heat()
    yield from _certificates(settings.mqtt, clock)
    yield _broker(settings, clock)
    if cameras:
        yield from _cameras(settings, clock)


def _model(settings: config.Config, clock: Clock) -> Finding:
    try:
        card = prepare(settings, clock).classifier.card
    except DefectdError as error:
        return Finding("model", "bad", str(error), "Install a bundle that fits: model.bundle")
    return Finding("model", "good", f"{card.name} {card.version} gives the expected logits on this processor")


def _disk(state_dir: Path) -> Finding:
    there = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding("disk", "bad", f"{there} may not be written", "Give it to the user that runs defectd")
    free = shutil.disk_usage(there).free
    says = f"{free >> 20} MiB free at {there}"
    if free < LEAST_DISK_BYTES:
        return Finding("disk", "warning", says, "Make room: events and totals are kept there")
    return Finding("disk", "good", says)


def _memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text("ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError) as error:
        return Finding("memory", "warning", f"cannot be read: {error}", "Look with `free -m`")
    says = f"{free >> 20} MiB available"
    if free < LEAST_MEMORY_BYTES:
        return Finding("memory", "warning", says, "A camera takes up to 90 MiB: stop something, or use fewer cameras")
    return Finding("memory", "good", says)


def _clock() -> Finding:
    if clock_synced():
        return Finding("clock", "good", "synchronised")
    return Finding("clock", "warning", "not synchronised", "Set up NTP: timedatectl set-ntp true, or chrony")


def _heat(sys: Path = box.SYS) -> Iterator[Finding]:
    flags = box.pi_throttled(sys)
    if flags is not None:
        remedy = "Use the official power supply, and a heat sink with air around it"
        grade: Grade = "bad" if flags & PI_NOW else "warning" if flags else "good"
        yield Finding("power", grade, f"throttling flags 0x{flags:x}", remedy if flags else "")
    times = box.throttlings(sys)
    if times:
        yield Finding("heat", "warning", f"the processor was slowed down {times} times since boot", "Check the cooling")


def _certificates(mqtt: config.Mqtt, clock: Clock) -> Iterator[Finding]:
    """The end of the authority's certificates; the broker's own is judged by the connection."""
    if mqtt.ca_file is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=mqtt.ca_file)
        ends = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in context.get_ca_certs()]
    except (OSError, ValueError) as error:
        yield Finding("ca_file", "bad", f"{mqtt.ca_file}: {error}", "Give a PEM file: mqtt.ca_file")
        return
    if not ends:
        yield Finding("ca_file", "bad", f"{mqtt.ca_file} holds no authority", "Give the CA's certificate: mqtt.ca_file")
        return
    left_s = min(ends) - clock.wall_ns() / NS_PER_S
    says = f"{mqtt.ca_file} is valid for {left_s / 86_400:.0f} days"
    if left_s < 0:
        yield Finding("ca_file", "bad", f"{mqtt.ca_file} has expired", "Get a new CA certificate, or set the clock")
    elif left_s < SOON_S:
        yield Finding("ca_file", "warning", says, "Renew it in time; the file is read anew at each connect")
    else:
        yield Finding("ca_file", "good", says)


def _broker(settings: config.Config, clock: Clock) -> Finding:
    """Connect as the node would, under another client id, and publish one message below the node's topics."""
    mqtt = settings.mqtt
    if mqtt.is_embedded:
        return Finding("broker", "good", f"the one inside defectd, on port {mqtt.address[1]}")
    host, port, tls = mqtt.address
    where = f"{host}:{port}, {'TLS' if tls else 'clear text'}"
    client_id = f"defectd-doctor-{secrets.token_hex(4)}"

    def open_link(*, deliver: Callable[[Notice], None], protocol: Protocol, will: Will) -> Link:
        del will  # nobody shall hear that the doctor has gone
        return Link(mqtt, client_id=client_id, deliver=deliver, protocol=protocol)

    caller = Caller(open_link, mqtt, clock)
    topics = Topics(mqtt.topic_prefix, settings.node)
    try:
        link, connected = caller.call(lambda: Will(topics.status, b""), lambda: None)
        try:
            answer = _published(link, caller, topics.doctor, clock)
        finally:
            link.disconnect(1.0)
    except BrokerError as error:
        return Finding("broker", "bad", f"{where}: {error}", "Events wait on disk until it is mended")
    says = f"{where}: connected, MQTT {connected.protocol}"
    if answer is None:
        return Finding("broker", "bad", f"{says}, but it confirms nothing", "Look into the broker's log")
    if not answer.ok:
        return Finding("broker", "bad", f"{says}, but it refuses {topics.doctor}: {answer.reason}", "Mend its ACL")
    if connected.protocol == "3.1.1":
        remedy = "Use a broker that speaks MQTT 5 if you can: 3.1.1 cannot say that it refuses an event"
        return Finding("broker", "warning", says, remedy)
    return Finding("broker", "good", f"{says}, and it takes what this node may publish")


def _published(link: Link, caller: Caller, topic: str, clock: Clock) -> Acknowledged | None:
    """The broker's answer to one empty message."""
    mid = link.publish(topic, b"")
    until_ns = clock.monotonic_ns() + int(ANSWER_S * NS_PER_S)
    while (left_ns := until_ns - clock.monotonic_ns()) > 0:
        match caller.hear(left_ns / NS_PER_S):
            case Acknowledged(mid=found) as answer if found == mid:
                return answer
            case _:
                pass
    return None


def _cameras(settings: config.Config, clock: Clock) -> Iterator[Finding]:
    if _daemon_runs(settings.state_dir):
        remedy = "Their state is in the state topics; stop the daemon to open them here"
        yield Finding("cameras", "good", "not opened: a daemon has them", remedy)
        return
    for name, found in probed(settings.active_cameras, clock).items():
        about = f"camera {name}"
        if "error" in found:
            yield Finding(about, "bad", str(found["error"]), "Check cable, address and password, or cameras[].source")
        else:
            given = found["given"]
            size = f"{given['width']}x{given['height']}"
            yield Finding(about, "good", f"{given['backend']} {size} at {given['fps']:g} fps")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _daemon_runs(state_dir: Path) -> bool:
    """Whether a daemon holds this state directory."""
    try:
        with _opened(state_dir / "lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
