"""Finds cameras that a configuration may name: V4L2 devices of this machine, and ONVIF cameras in its networks."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

from edge.camera.sources import v4l2_query
from edge.host.clock import NS_PER_S, Clock
from edge.host.text import one_line

ANSWER_S: Final = 2.0
"""How long cameras have to answer; WS-Discovery lets them wait up to 0.5 s."""
GROUP: Final = ("239.255.255.250", 3702)
"""The multicast group of WS-Discovery (OASIS, 2009, section 2.4)."""
MAX_ANSWERS: Final = 256
MAX_ANSWER_BYTES: Final = 65_535
SIOCGIFADDR: Final = 0x8915
"""ioctl: the IPv4 address of an interface (netdevice(7))."""
_DISCOVERY: Final = "{http://schemas.xmlsoap.org/ws/2005/04/discovery}"
_PROBE: Final = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
    ' xmlns:n="http://www.onvif.org/ver10/network/wsdl">'
    "<e:Header><a:MessageID>urn:uuid:{id}</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>"
    "<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action></e:Header>"
    "<e:Body><d:Probe><d:Types>n:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"
)
"""Who is a network video transmitter? (ONVIF Core Specification, section 7.3)"""


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answers.  source: as a configuration names it, without a user; host: of a network camera."""

    source: str
    description: str
    host: str | None = None


def local_cameras(root: Path = Path("/"), ioctl: v4l2_query.Ioctl = fcntl.ioctl) -> list[FoundCamera]:
    """V4L2 devices that take pictures, by the names that stay the same when a camera is plugged in again.

    root: of the file system.  A device that does not answer is left out.
    """
    names = {path.resolve(): path for path in sorted((root / "dev/v4l/by-id").glob("*"), reverse=True)}
    found = []
    for path in sorted((root / "dev").glob("video*")):
        named = names.get(path.resolve(), path)
        try:
            device = v4l2_query.ask(path, ioctl)
        except OSError:
            continue
        if device.captures:
            found.append(FoundCamera(f"/{named.relative_to(root)}", one_line(device.card, 80)))
    return found


def network_cameras(
    clock: Clock, interfaces: Sequence[str] | None = None, group: tuple[str, int] = GROUP, wait_s: float = ANSWER_S
) -> list[FoundCamera]:
    """ONVIF cameras that answer a probe on any interface.  Takes `wait_s`.

    interfaces: IPv4 addresses of this machine; None: all.  The source names the camera's RTSP port alone: its path and
    its user are the camera's own.  An interface without multicast is left out.
    """
    sockets = []
    for address in _addresses() if interfaces is None else interfaces:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            probe.bind((address, 0))
            probe.sendto(_PROBE.format(id=uuid.uuid4()).encode(), group)
        except OSError:
            probe.close()
            continue
        sockets.append(probe)
    try:
        answers = list(_answers(sockets, clock, wait_s))
    finally:
        for probe in sockets:
            probe.close()
    found = {camera.host: camera for answer, host in answers for camera in _read(answer, host)}
    return [found[host] for host in sorted(found, key=str)]


def _addresses() -> Iterator[str]:
    """The IPv4 address of each interface but the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as query:
        for _, name in socket.if_nameindex():
            if name == "lo":
                continue
            try:
                reply = fcntl.ioctl(query.fileno(), SIOCGIFADDR, struct.pack("256s", os.fsencode(name)[:15]))
            except OSError:  # it has none
                continue
            yield socket.inet_ntoa(reply[20:24])


def _answers(sockets: Sequence[socket.socket], clock: Clock, wait_s: float) -> Iterator[tuple[bytes, str]]:
    """What arrives within that time, with the address of the sender."""
    until_ns = clock.monotonic_ns() + int(wait_s * NS_PER_S)
    count = 0
    for probe in sockets:
        while count < MAX_ANSWERS:
            probe.settimeout(max(0.001, (until_ns - clock.monotonic_ns()) / NS_PER_S))
            try:
                answer, sender = probe.recvfrom(MAX_ANSWER_BYTES)
            except OSError:
                break
            count += 1
            yield answer, sender[0]


def _read(answer: bytes, host: str) -> Iterator[FoundCamera]:
    """The camera in an answer.  Anything in the network can send one: entities are refused, text is made valid."""
    if b"<!" in answer:  # a document type could define entities that grow without end
        return
    try:
        tree = ET.fromstring(answer)  # noqa: S314 (no document type, at most 64 KiB)
    except ET.ParseError:
        return
    for match in tree.iter(f"{_DISCOVERY}ProbeMatch"):
        scopes = (match.findtext(f"{_DISCOVERY}Scopes") or "").split()
        words = [
            unquote(scope.rsplit("/", 1)[1])
            for kind in ("name", "hardware")
            for scope in scopes
            if f"/{kind}/" in scope
        ]
        address = _host_of((match.findtext(f"{_DISCOVERY}XAddrs") or "").split()) or host
        yield FoundCamera(f"rtsp://{address}/", one_line(" ".join(dict.fromkeys(words)) or "ONVIF camera", 80), address)


def _host_of(addresses: Sequence[str]) -> str | None:
    """The first IPv4 address in the URLs of the camera's services."""
    for address in addresses:
        host = urlsplit(address).hostname if "://" in address else None
        if host and re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", host):
            return host
    return None
