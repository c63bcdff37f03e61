"""Recordings read in this process: every picture once, and every failure reported."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from fakes.recordings import SHARED, read_all, steel, write_video

from edge.camera.recordings import count_pictures, iter_recording
from edge.camera.sources.contract import Picture, SourceSpec, Unreadable
from edge.camera.sources.files import VideoSource
from edge.errors import ImageError
from edge.host.clock import SystemClock


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


def damaged(path: Path, *, cut: bool) -> Path:
    """The file with its last half gone, or with a sixth of it overwritten."""
    raw = bytearray(path.read_bytes())
    third, sixth = len(raw) // 3, len(raw) // 6
    if not cut:
        raw[third : third + sixth] = b"\xaa" * sixth
    path.write_bytes(raw[: len(raw) // 2] if cut else raw)
    return path


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "overwritten"])
@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v")])
def test_pictures_missing_from_a_damaged_video_are_reported(tmp_path, name, code, cut):
    """What can be decoded is inspected; the rest is one error with both counts, and lost in the camera process."""
    if cut and name == "a.mp4":
        pytest.skip("its list of pictures is at the end: a file that is cut off does not open")
    path = damaged(write_video(tmp_path / name, 100, code=code), cut=cut)
    *pictures, last = list(iter_recording(path))
    assert 5 < len(pictures) < 95
    assert isinstance(last, Unreadable)
    assert last.is_rest
    assert "100 pictures" in str(last.error)
    assert f"{len(pictures)} could be decoded" in str(last.error)
    source = VideoSource(SourceSpec(str(path)), SystemClock())
    assert len(read_all(source)) + sum(lost.count for lost in source.take_lost()) == 100


@pytest.mark.parametrize(
    ("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v"), ("a.mpg", "MPEG"), ("a.ts", "MPEG")]
)
@pytest.mark.parametrize("fps", [7.0, 29.97])
def test_whole_video_misses_nothing(tmp_path, name, code, fps):
    """Also where the container only states a duration, or a wrong number."""
    found = list(iter_recording(write_video(tmp_path / name, 60, fps, code)))
    assert [type(one) for one in found] == [Picture] * 60
