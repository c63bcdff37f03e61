"""The registry: which type a source is, and what the rest of the program asks about it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edge
from edge import config
from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.files import kind_of
from edge.camera.sources.registry import environment, find, is_live


def test_find_goes_by_form_alone():
    """Numbers and device files, URLs, the strip; every other text is the path of a recording."""
    assert [find(u).name for u in ("0", "/dev/video2", "/dev/v4l/by-id/x")] == ["device"] * 3
    assert [find(u).name for u in ("rtsp://h/x", "https://h/x", "udp://@:5000")] == ["stream"] * 3
    assert find("strip:?seed=3").name == "strip"
    assert [find(u).name for u in ("a.mp4", "file:///a.mp4", "images/*.png", "/dev/shm/a.mp4")] == ["recording"] * 4


def test_kind_of_a_recording_is_what_lies_at_its_path(tmp_path):
    """Folder, glob, image or video, by the disk; by the suffix where nothing lies there."""
    (tmp_path / "odd[1].png").touch()
    assert kind_of(str(tmp_path)) == "folder"
    assert kind_of(f"file://{tmp_path}") == "folder"
    assert kind_of(str(tmp_path / "**/*.png")) == "glob"
    assert kind_of(str(tmp_path / "odd[1].png")) == "image"
    assert [kind_of(u) for u in ("a.JPG", "a.mp4")] == ["image", "video"]


def test_is_live_goes_by_form_unless_configured():
    """Frames of devices, streams and the strip cannot wait; those of recordings can."""
    assert all(is_live(u) for u in ("0", "/dev/video0", "rtsp://h/x", "strip:"))
    assert not any(is_live(u) for u in ("a.mp4", "images/*.png", "file:///a.mp4"))
    assert is_live("a.mp4", True)
    assert not is_live("0", False)


def test_environment_never_drops_the_first_key_frame():
    """`nobuffer` would: a camera with far key frames could not be opened within its read timeout."""
    options = environment(SourceSpec("rtsp://h/x", rtsp_transport="udp"))["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
    assert "rtsp_transport;udp" in options
    assert "nobuffer" not in options
    assert environment(SourceSpec("a.mp4"))["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == ""


def test_capture_is_the_only_door_to_video_capture():
    """No other module opens a camera or a video."""
    root = Path(edge.__file__).parent
    doors = [p.name for p in root.rglob("*.py") if re.search(r"cv2\.VideoCapture\b", p.read_text("utf-8"))]
    assert doors == ["capture.py"]


def test_camera_process_loads_neither_configuration_nor_inference():
    """Pydantic or onnxruntime in a camera process would cost memory and time for each camera."""
    code = (
        "import sys, edge.camera.process\n"
        "print([m for m in ('pydantic', 'yaml', 'onnxruntime', 'paho', 'click') if m in sys.modules])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    root = Path(edge.__file__).parents[1]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=root)
    assert done.stdout.strip() == "[]"


def test_identical_pictures_mean_a_fault_only_where_a_sensor_adds_noise():
    """Two pictures of a device or a stream always differ; those of the strip at rest and of recordings need not."""
    noisy = [u for u in ("0", "rtsp://h/x", "strip:", "a.mp4", "images/*.png") if find(u).has_sensor_noise]
    assert noisy == ["0", "rtsp://h/x"]


@pytest.mark.parametrize(
    ("url", "backend"), [("0", "V4L2"), ("rtsp://h/x", "FFMPEG"), ("a.mp4", "FFMPEG"), ("a.png", ""), ("strip:", "")]
)
def test_doctor_asks_only_for_the_backend_that_is_needed(url, backend):
    """A node with pictures alone needs no FFmpeg."""
    assert find(url).opencv_backend(url) == backend


def anchored(url):
    """The source of a camera as a file in /etc gives it."""
    raw = {"node": "n", "cameras": [{"name": "top", "source": url}]}
    (camera,) = config.parse(raw, origin="x", base=Path("/etc"), env={}).cameras
    return camera.source.get_secret_value()


@pytest.mark.parametrize("url", ["0", "17", "strip:", "strip:?seed=2", "rtsp://h/x", "udp://@:5000", "other:thing"])
def test_configuration_anchors_only_paths(url):
    """Without knowing the registry: a number or a scheme is no path, also of a source that is still to come."""
    assert anchored(url) == url


@pytest.mark.parametrize("url", ["a.mp4", "images/*.png", "./line3:top.mp4", "2026-11-29T10:00:00.png"])
def test_configuration_anchors_a_path_that_only_looks_like_a_scheme(url):
    """A file whose name starts like a scheme is written with its folder."""
    assert anchored(url) == str(Path("/etc") / url)
