"""Frames for a calibration: the expected number, and the pace of a live camera."""

import cv2
import numpy as np
from fakes.clock import FakeClock
from pydantic import SecretStr

from edge import config
from edge.calibration.footage import Shot, expected_frames, shots, thinned


def test_length_of_recordings_is_known_before_they_are_read(tmp_path):
    """Images count one, videos as many as their container states: the progress bar uses that, not --frames."""
    picture = np.full((64, 96), 90, np.uint8)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (96, 64), isColor=False)
    for _ in range(7):
        writer.write(picture)
    writer.release()
    (tmp_path / "junk.mp4").write_bytes(b"no video")
    assert expected_frames([str(tmp_path)], 50) == 10
    assert expected_frames([str(tmp_path), str(tmp_path / "0.png")], 50) == 11
    assert expected_frames([str(tmp_path)], 5) == 5
    assert expected_frames([], 50) == expected_frames([str(tmp_path / "nowhere")], 50) == 50


def test_frames_of_a_live_camera_can_be_thinned_out():
    """One per second by grab time; frames of files have no grab time and all count."""
    pixels = np.zeros((2, 2), np.uint8)
    live = [Shot("", pixels, number=number, grabbed_ns=number * 300_000_000) for number in range(12)]
    assert [shot.number for shot in thinned(iter(live), 1.0)] == [0, 4, 8]
    assert len(list(thinned(iter(live), 0.0))) == 12
    assert len(list(thinned(iter([Shot("", pixels)] * 5), 1.0))) == 5


def test_files_that_the_shell_lists_are_one_recording_if_they_are_consecutive(tmp_path):
    """As the files of a folder are; without `consecutive` each picture is alone."""
    paths = []
    for number in range(4):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], np.full((40, 40), 100 + number, np.uint8))
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    listed = [shot.follows for shot in shots(camera, paths, FakeClock(), consecutive=True)]
    assert listed == [shot.follows for shot in shots(camera, [str(tmp_path)], FakeClock(), consecutive=True)]
    assert listed == [False, True, True, True]
    assert not any(shot.follows for shot in shots(camera, paths, FakeClock()))
