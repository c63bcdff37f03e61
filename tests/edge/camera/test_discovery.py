"""Cameras are found on this machine and in the network; what answers may be hostile."""

import errno
import socket
import struct
import threading
from pathlib import Path

import pytest

from edge.camera.discovery import FoundCamera, local_cameras, network_cameras
from edge.camera.sources import v4l2_query
from edge.host.clock import SystemClock

ANSWER = """<?xml version="1.0"?><e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><e:Body><d:ProbeMatches><d:ProbeMatch>
 <d:Scopes>onvif://www.onvif.org/name/Line%20cam onvif://www.onvif.org/hardware/LX-2</d:Scopes>
 <d:XAddrs>http://10.0.0.20/onvif/device_service</d:XAddrs></d:ProbeMatch></d:ProbeMatches></e:Body></e:Envelope>"""


@pytest.fixture
def answered():
    """Search with a camera that answers each probe with these datagrams."""

    def search(*answers):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
            camera.bind(("127.0.0.1", 0))
            camera.settimeout(10)
            probes = []

            def answer():
                probe, sender = camera.recvfrom(65_535)
                probes.append(probe)
                for data in answers:
                    camera.sendto(data, sender)

            thread = threading.Thread(target=answer)
            thread.start()
            found = network_cameras(SystemClock(), ["127.0.0.1"], camera.getsockname(), wait_s=0.3)
            thread.join()
        assert b"NetworkVideoTransmitter" in probes[0]
        return found

    return search


def test_an_onvif_camera_is_found_with_its_name_and_address(answered):
    """The address of its services counts, not that of the sender; a second answer of it changes nothing."""
    found = answered(ANSWER.encode(), ANSWER.encode())
    assert found == [FoundCamera("rtsp://10.0.0.20/", "Line cam LX-2", "10.0.0.20")]


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00" * 20,
        b"<a><b></a>",
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + ANSWER.encode(),
        ANSWER.replace("ProbeMatch", "Other").encode(),
    ],
)
def test_an_answer_that_is_no_answer_is_left_out(answered, answer):
    """Broken XML, entities and other messages find no camera."""
    assert answered(answer) == []


def test_a_hostile_name_becomes_one_printable_line(answered):
    """The name comes from the network: an escape in it cannot act on the terminal."""
    hostile = ANSWER.replace("Line%20cam", "%1b%5b2J%0aX" + "x" * 500)
    (camera,) = answered(hostile.encode())
    assert camera.description.isprintable()
    assert len(camera.description) <= 80


def test_an_interface_without_multicast_finds_nothing():
    """An address that is not one of this machine costs no error."""
    assert network_cameras(SystemClock(), ["192.0.2.1"], ("127.0.0.1", 9), wait_s=0.1) == []


def test_local_cameras_have_their_stable_names(tmp_path):
    """Only devices that take pictures count, by-id where the kernel gives that name."""
    for name in ("video0", "video1", "video2"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    by_id = tmp_path / "dev/v4l/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-cam-video-index0").symlink_to("../../video1")
    ioctl = driver_of(tmp_path, {"video0": (b"Meta", 0x800000), "video1": (b"Cam \x1b", 0x1)})
    assert local_cameras(tmp_path, ioctl) == [FoundCamera("/dev/v4l/by-id/usb-cam-video-index0", "Cam \\x1b")]


def driver_of(root, devices):
    """An ioctl for these devices, by name: card and capabilities.  A device that is not among them does not answer."""

    def ioctl(handle, request, reply):
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if name not in devices or request != v4l2_query._QUERYCAP:
            raise OSError(errno.ENOTTY, "not a camera")
        card, capabilities = devices[name]
        reply[:] = struct.pack("16s32s36xII12x", b"driver", card, capabilities, 0)
        return 0

    return ioctl
