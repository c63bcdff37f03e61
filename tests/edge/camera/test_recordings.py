"""Recordings read in this process: every picture once, and every failure reported."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from fakes.recordings import SHARED, steel, write_video

from edge.camera.recordings import count_pictures, iter_recording
from edge.camera.sources.contract import Picture, Unreadable
from edge.errors import ImageError


def test_iter_recording_goes_on_after_what_cannot_be_read(tmp_path):
    """A folder of images, videos and other files gives every picture and reports every failure."""
    cv2.imwrite(str(tmp_path / "a.png"), steel())
    (tmp_path / "b.png").touch()
    (tmp_path / "c.mp4").touch()
    write_video(tmp_path / "d.avi", 2)
    items = list(iter_recording(tmp_path))
    found = [(Path(i.label).name, "error" if isinstance(i, Unreadable) else i.number) for i in items]
    assert found == [("a.png", 0), ("b.png", "error"), ("c.mp4", "error"), ("d.avi", 0), ("d.avi", 1)]
    assert isinstance(items[1].error, ImageError)
    assert count_pictures(str(tmp_path)) == 4, "an estimate: it opens no image"


@pytest.mark.parametrize("url", ["missing.png", "missing.mp4", "missing/*.png", "rtsp://u:p@h/x", "0", "strip:"])
def test_iter_recording_reports_one_error_for_what_is_no_recording(url):
    """It raises nothing, and the one item it gives holds no secret."""
    (item,) = iter_recording(url)
    assert isinstance(item, Unreadable)
    assert "u:p" not in f"{item.label} {item.error}"


def test_iter_recording_reports_an_empty_folder(tmp_path):
    """A folder without images is an error of the input."""
    (item,) = iter_recording(tmp_path)
    assert isinstance(item, Unreadable)


def test_real_frames_and_video_are_read():
    """Photographs of steel as JPEG, a phone's video: every file comes through."""
    frames = SHARED / "normal-steel" / "severstal" / "frames"
    video = SHARED / "video" / "bottle-detection.mp4"
    if not frames.is_dir() or not video.is_file():
        pytest.skip("the real images are not on this machine")
    items = list(iter_recording(f"{frames}/*.jpg"))
    assert items
    assert all(isinstance(i, Picture) and i.pixels.shape == (256, 1600) for i in items)
    shown = list(iter_recording(video))
    assert len(shown) > 10
    assert all(isinstance(i, Picture) for i in shown)
