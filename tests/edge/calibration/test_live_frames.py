"""Frames of the running daemon: over the socket of its feed, without stopping it."""

import socket
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from edge.calibration.footage import gather, shots
from edge.calibration.live_frames import live_frames
from edge.config import Camera
from edge.delivery.page.framing import Decoder, encoded
from edge.errors import CalibrationError
from edge.host.clock import SystemClock

HELLO = {"kind": "hello", "node": "n", "version": "1", "epoch": "e", "last_seq": 0, "cameras": ["top"]}
TIME = "2026-11-29T21:00:00.{:03d}Z"


def raw(number, camera="top"):
    pixels = np.random.default_rng(number).integers(60, 190, (64, 96), np.uint8)
    header = {"kind": "raw", "camera": camera, "number": number, "time": TIME.format(number), "size_px": [96, 64]}
    return encoded(header, pixels.tobytes())


@contextmanager
def feed(folder, *messages):
    """A feed that answers the first want with these messages, and then ends; the reader may end first."""
    path, wants = folder / "web.sock", []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve():
            client, _ = listening.accept()
            with client, suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(encoded(HELLO))
                decoder = Decoder()
                while not wants:
                    data = client.recv(65_536)
                    if not data:
                        return
                    wants.extend(decoder.feed(data))
                for message in messages:
                    client.sendall(message)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path, wants
        thread.join(5.0)


def camera(name="top"):
    return Camera(name=name, source="0")


def test_frames_come_with_number_and_time_of_the_grab(tmp_path):
    """Other cameras' frames are left out; neighbours are known by their numbers."""
    with feed(tmp_path, raw(7), raw(8, "other"), raw(8), raw(10)) as (path, wants):
        found = shots(camera(), ["live:"], SystemClock(), feed=path)
        taken = [next(found) for _ in range(3)]
        found.close()
    assert [(shot.number, shot.follows) for shot in taken] == [(7, False), (8, True), (10, False)]
    assert taken[2].grabbed_ns - taken[0].grabbed_ns == 3_000_000
    assert wants[0].header["raw"]["top"] > 0
    assert taken[0].pixels.shape == (64, 96)


def test_source_of_the_calibration_is_the_camera(tmp_path):
    """The file records the camera, as for frames that the command took itself."""
    with feed(tmp_path, raw(1), raw(2)) as (path, _):
        footage = gather(camera(), ["live:"], SystemClock(), max_frames=2, surface=False, feed=path)
    assert (footage.source, footage.size_px) == ("0", (96, 64))


def test_daemon_that_ends_is_reported(tmp_path):
    """Instead of a calibration from too few frames."""
    with feed(tmp_path, raw(1)) as (path, _), pytest.raises(CalibrationError, match="ended the connection"):
        gather(camera(), ["live:"], SystemClock(), max_frames=2, feed=path)


def test_camera_that_the_daemon_does_not_have_is_refused(tmp_path):
    """With the names of those that it has."""
    with feed(tmp_path, raw(1)) as (path, _), pytest.raises(CalibrationError, match="only top"):
        next(live_frames(path, "side", SystemClock()))


def test_without_a_daemon_the_message_names_what_to_do(tmp_path):
    """Start it, or open the camera itself."""
    with pytest.raises(CalibrationError, match=r"web\.listen"):
        next(live_frames(tmp_path / "web.sock", "top", SystemClock()))


def test_camera_that_gives_nothing_is_reported(tmp_path):
    """After the longest silence."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "web.sock"))
        listening.listen()
        with pytest.raises(CalibrationError, match="no frame"):
            next(live_frames(tmp_path / "web.sock", "top", SystemClock(), wait_s=0.05))


def test_live_frames_stand_alone(tmp_path):
    """Recordings beside the running daemon would be footage of two places."""
    with pytest.raises(CalibrationError, match="alone"):
        next(shots(camera(), ["live:", "good.mp4"], SystemClock(), feed=tmp_path / "web.sock"))
