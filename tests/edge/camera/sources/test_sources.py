"""Sources: what is opened, how pictures turn gray, and what is said when there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.sources import device
from edge.camera.sources.device import (
    Picture,
    SourceInfo,
    SourceSpec,
    Unreadable,
    capture_environment,
    configure_device,
    is_live,
    iter_recording,
    kind_of,
    open_source,
    public,
    read_image,
    to_gray,
)
from edge.config import Camera
from edge.errors import CameraError, EndOfRecording, ImageError

SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "data"


def steel(h: int = 60, w: int = 80, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (h, w), np.uint8), (0, 0), 2)


def write_video(path: Path, frames: int = 5, fps: float = 25.0, code: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (96, 64))
    for n in range(frames):
        writer.write(np.full((64, 96, 3), 20 + 30 * n, np.uint8))
    writer.release()
    return path


def read_all(source: device.Source) -> list[Picture]:
    pictures = []
    try:
        while True:
            pictures.append(source.read())
    except EndOfRecording:
        return pictures
    finally:
        source.close()


# Image files


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_read_image_returns_the_pixels_of_every_lossless_format(tmp_path, suffix):
    """What was written is what is read, bit for bit."""
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), steel())
    assert np.array_equal(read_image(path), steel())


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_read_image_reads_lossy_formats_as_gray(tmp_path, suffix):
    """A colour file comes as one channel of the same size."""
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), cv2.cvtColor(steel(), cv2.COLOR_GRAY2BGR))
    gray = read_image(path)
    assert gray.shape == (60, 80)
    assert np.abs(gray.astype(int) - steel()).mean() < 6


def test_read_image_drops_the_low_byte_of_16_bit(tmp_path):
    """16 bit become 8 by >> 8, however dark the picture is."""
    deep = (steel().astype(np.uint16) << 8) | 0x7F
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((9, 9), 300, np.uint16))
    assert np.array_equal(read_image(tmp_path / "a.png"), steel())
    assert (read_image(tmp_path / "dark.png") == 1).all()


def test_read_image_ignores_alpha(tmp_path):
    """A transparent picture is inspected as if it were opaque."""
    bgra = cv2.cvtColor(steel(), cv2.COLOR_GRAY2BGRA)
    bgra[:, :, 3] = 7
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    assert np.array_equal(read_image(tmp_path / "a.png"), steel())


def test_read_image_reads_names_beyond_ascii(tmp_path):
    """A file's name may hold any characters."""
    path = tmp_path / "Größe 1 鋼.png"
    path.write_bytes(cv2.imencode(".png", steel())[1].tobytes())
    assert read_image(path).shape == (60, 80)


def test_read_image_tells_what_is_wrong(tmp_path):
    """Missing, directory, empty, text: each has its own words."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    for name, words in (
        ("missing.png", "does not exist"),
        (".", "is a directory"),
        ("empty.png", "is empty"),
        ("text.png", "no image"),
    ):
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / name)


def test_read_image_does_not_read_what_has_no_end(tmp_path):
    """A pipe or a device among the files cannot hang an inspection."""
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="no regular file"):
            read_image(path)
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(CameraError, match="no regular file"):
        open_source(SourceSpec(str(tmp_path / "a.mp4")))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "pgm", "webp"])
def test_read_image_refuses_a_cut_file(tmp_path, suffix):
    """No part of a file passes for a picture: not the half, not all but the last bytes."""
    whole = cv2.imencode(f".{suffix}", steel(200, 300))[1].tobytes()
    for size in (4, 30, len(whole) // 2, len(whole) - 3):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(ImageError):
            read_image(tmp_path / "cut")


def test_read_image_names_the_cut_of_png_and_jpeg(tmp_path):
    """The two common formats say that they are cut, not that they are strange."""
    for suffix in ("png", "jpg"):
        whole = cv2.imencode(f".{suffix}", steel(200, 300))[1].tobytes()
        (tmp_path / "cut").write_bytes(whole[:-40])
        with pytest.raises(ImageError, match="is cut off"):
            read_image(tmp_path / "cut")


def test_read_image_finds_a_damaged_png(tmp_path):
    """One flipped byte in the pixels of a PNG is found by its checksum."""
    data = bytearray(cv2.imencode(".png", steel())[1].tobytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="checksum"):
        read_image(tmp_path / "a.png")


def test_read_image_accepts_a_jpeg_with_a_thumbnail_and_a_tail(tmp_path):
    """End marks inside a segment are not the end, and bytes after the end do no harm."""
    whole = cv2.imencode(".jpg", steel())[1].tobytes()
    thumbnail = cv2.imencode(".jpg", steel(20, 30))[1].tobytes()
    segment = b"\xff\xe5" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = whole[:2] + segment + whole[2:]
    (tmp_path / "a.jpg").write_bytes(data + b"camera's own bytes")
    assert read_image(tmp_path / "a.jpg").shape == (60, 80)
    (tmp_path / "cut.jpg").write_bytes(data[:-20])
    with pytest.raises(ImageError, match="is cut off"):
        read_image(tmp_path / "cut.jpg")


def test_read_image_is_quick_with_rubbish(tmp_path):
    """Megabytes of 0xff, as erased flash has them, or of blanks are refused in linear time."""
    head = cv2.imencode(".jpg", steel())[1].tobytes()[:400]
    for n, data in enumerate((head + b"\xff" * 4_000_000, b"P5" + b" " * 4_000_000, b"P5 " + b"#\n" * 1_000_000)):
        (tmp_path / f"{n}.jpg").write_bytes(data)
        start = time.monotonic()
        with pytest.raises(ImageError):
            read_image(tmp_path / f"{n}.jpg")
        assert time.monotonic() - start < 10


def test_read_image_refuses_giants_before_it_decodes(tmp_path):
    """A header that promises 10 gigapixels is refused without reserving them."""
    (tmp_path / "a.bmp").write_bytes(b"BM" + bytes(16) + (100_000).to_bytes(4, "little") * 2 + bytes(30))
    (tmp_path / "a.pgm").write_bytes(b"P5\n# by hand\n100000 100000\n255\n")
    png = bytearray(cv2.imencode(".png", steel())[1].tobytes())
    png[16:24] = (100_000).to_bytes(4, "big") * 2
    png[29:33] = device.zlib.crc32(png[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(png)
    for name in ("a.bmp", "a.pgm", "a.png"):
        with pytest.raises(ImageError, match="too large"):
            read_image(tmp_path / name)


def test_read_image_refuses_an_image_without_pixels(tmp_path):
    """Zero rows are no picture."""
    (tmp_path / "a.pgm").write_bytes(b"P5 0 5 255\n")
    with pytest.raises(ImageError, match="no pixels"):
        read_image(tmp_path / "a.pgm")


def test_read_image_refuses_floating_point(tmp_path):
    """Only 8 and 16 bit have a fixed way to gray."""
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones((5, 5), np.float32))
    with pytest.raises(ImageError, match="float32"):
        read_image(tmp_path / "a.tif")


def test_read_image_prints_nothing(tmp_path):
    """Broken files are told by an exception alone; the libraries beneath stay quiet."""
    whole = cv2.imencode(".png", steel())[1].tobytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    jpeg = cv2.imencode(".jpg", steel())[1].tobytes()
    for n, data in enumerate((whole[:-9], bytes(flipped), jpeg[:-30], b"II*\x00" + b"\x08" * 40, b"RIFF" + jpeg)):
        (tmp_path / f"{n}.png").write_bytes(data)
    code = (
        "import sys; from edge.camera.sources.device import *\n"
        "for item in iter_recording(sys.argv[1]): assert isinstance(item, Unreadable)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_to_gray_keeps_a_gray_stream_exactly():
    """Where B, G and R are equal, the weighing gives that very value, for all 256."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_gray(cv2.cvtColor(ramp, cv2.COLOR_GRAY2BGR)), ramp)
    assert np.array_equal(to_gray(ramp[:, :, None]), ramp)
    assert np.array_equal(to_gray(np.dstack([ramp, ramp[::-1]])), ramp)
    assert np.array_equal(to_gray(ramp.astype(np.uint16) * 257), ramp)


# Kinds and names


def test_kind_of_goes_by_form_and_by_what_lies_there(tmp_path):
    """Devices, streams and the strip by their form; paths by the disk."""
    (tmp_path / "odd[1].png").touch()
    assert [kind_of(u) for u in ("0", "/dev/video2", "/dev/v4l/by-id/x")] == ["device"] * 3
    assert [kind_of(u) for u in ("rtsp://h/x", "https://h/x", "udp://@:5000")] == ["stream"] * 3
    assert kind_of("strip:?seed=3") == "strip"
    assert kind_of(str(tmp_path)) == "folder"
    assert kind_of(f"file://{tmp_path}") == "folder"
    assert kind_of(str(tmp_path / "**/*.png")) == "glob"
    assert kind_of(str(tmp_path / "odd[1].png")) == "image"
    assert [kind_of(u) for u in ("a.JPG", "a.mp4")] == ["image", "video"]


def test_is_live_goes_by_form_unless_configured():
    """Devices, streams and the strip cannot wait; recordings can."""
    assert all(is_live(u) for u in ("0", "/dev/video0", "rtsp://h/x", "strip:"))
    assert not any(is_live(u) for u in ("a.mp4", "images/*.png", "file:///a.mp4"))
    assert is_live("a.mp4", True)
    assert not is_live("0", False)


def test_public_hides_what_is_secret():
    """User, password and query never stand in a message."""
    assert public("rtsp://admin:p%40ss@10.0.0.5:554/ch1?token=abc#x") == "rtsp://10.0.0.5:554/ch1"
    assert public("http://[::1]:80/x") == "http://[::1]:80/x"
    assert public("rtsp://u:p@h:99999/x") == "rtsp://(not a valid URL)"
    assert public("/data/clip.mp4") == "/data/clip.mp4"
    assert "p%40ss" not in repr(SourceSpec("rtsp://admin:p%40ss@10.0.0.5/ch1"))


def test_spec_survives_json():
    """The camera process gets exactly what was configured."""
    camera = Camera.model_validate({"name": "a", "source": 0, "fps": 12, "gain": 3.5, "pixel_format": "GREY"})
    spec = SourceSpec.of(camera)
    assert spec.live
    assert SourceSpec.from_json(spec.to_json()) == spec
    assert SourceInfo.from_json(SourceInfo("x", 1, 2, 3.0, "GREY", None, 4.0).as_json()).gain == 4.0
    for text in ("", "[]", '{"nonsense": 1}'):
        with pytest.raises(CameraError):
            SourceSpec.from_json(text)


def test_every_camera_key_of_a_source_reaches_the_spec():
    """No key of the configuration is forgotten on the way."""
    fields = set(SourceSpec.__dataclass_fields__) - {"url"}
    assert fields <= set(Camera.model_fields)


def test_environment_never_drops_the_first_key_frame():
    """`nobuffer` would: a camera with far key frames could not be opened within its read timeout."""
    options = capture_environment(SourceSpec("rtsp://h/x", rtsp_transport="udp"))["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
    assert "rtsp_transport;udp" in options
    assert "nobuffer" not in options
    assert capture_environment(SourceSpec("a.mp4"))["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == ""


# Recordings


def test_folder_is_shown_once_in_natural_order(tmp_path):
    """2 comes before 10, folders are walked, hidden files are not, labels are relative."""
    for name in ("10.png", "2.png", "b/1.pgm", ".hidden.png", ".dir/3.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), steel()) if not name.endswith("txt") else (tmp_path / name).touch()
    source = open_source(SourceSpec(str(tmp_path)))
    assert source.given == SourceInfo("images", 80, 60, 30.0, "GREY")
    assert source.period_s == 1 / 30
    assert [p.label for p in read_all(source)] == ["2.png", "10.png", "b/1.pgm"]


def test_glob_may_reach_into_folders(tmp_path):
    """`**` stands for any depth; labels are relative to where the pattern begins."""
    for name in ("a/x1.png", "a/b/x2.png", "a/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), steel())
    assert [p.label for p in read_all(open_source(SourceSpec(f"{tmp_path}/a/**/x*.png")))] == ["b/x2.png", "x1.png"]
    assert [p.label for p in read_all(open_source(SourceSpec(f"{tmp_path}/a/x*.png")))] == ["x1.png"]


def test_unreadable_images_are_skipped_and_counted(tmp_path):
    """One bad file does not end a folder; each is reported once per round."""
    for name in ("1.png", "3.png"):
        cv2.imwrite(str(tmp_path / name), steel())
    (tmp_path / "0.png").touch()
    (tmp_path / "2.jpg").write_bytes(b"nothing")
    source = open_source(SourceSpec(str(tmp_path), fps=0))
    assert source.period_s == 0
    assert [p.label for p in (source.read(), source.read())] == ["1.png", "3.png"]
    lost = source.take_lost()
    assert [(one.count, one.reason) for one in lost] == [(1, "unreadable")] * 2
    assert "0.png is empty" in lost[0].detail
    assert source.take_lost() == ()
    with pytest.raises(EndOfRecording):
        source.read()


def test_folder_without_a_readable_image_is_refused(tmp_path):
    """Nothing to show is an error that says why, not an empty recording."""
    with pytest.raises(CameraError, match="holds no images"):
        open_source(SourceSpec(str(tmp_path)))
    (tmp_path / "a.png").touch()
    with pytest.raises(CameraError, match=r"no image of 1 can be read.*is empty"):
        open_source(SourceSpec(str(tmp_path), loop=True))


def test_looped_images_that_vanish_are_an_error(tmp_path):
    """A loop over nothing does not spin for ever."""
    cv2.imwrite(str(tmp_path / "a.png"), steel())
    source = open_source(SourceSpec(str(tmp_path / "a.png"), loop=True))
    assert [source.read().label for _ in range(3)] == ["a.png"] * 3
    (tmp_path / "a.png").unlink()
    with pytest.raises(CameraError, match="does not exist"):
        source.read()


@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_video_is_shown_at_its_own_rate(tmp_path, name, code):
    """All frames in order, then the end; the pace is the file's unless configured."""
    path = write_video(tmp_path / name, 5, 12.5, code)
    source = open_source(SourceSpec(str(path)))
    assert source.period_s == pytest.approx(0.08)
    assert (source.given.backend, source.given.width, source.given.height) == ("FFMPEG", 96, 64)
    pictures = read_all(source)
    assert [round(float(p.pixels.mean()) / 30 - 20 / 30) for p in pictures] == [0, 1, 2, 3, 4]
    assert [p.number for p in pictures] == [0, 1, 2, 3, 4]
    assert pictures[0].label == name
    fast = open_source(SourceSpec(str(path), fps=0))
    assert fast.period_s == 0
    fast.close()


def test_looped_video_starts_again(tmp_path):
    """After the last frame comes the first."""
    source = open_source(SourceSpec(str(write_video(tmp_path / "a.avi", 3)), loop=True))
    assert [source.read().number for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    source.close()


def test_broken_videos_are_refused(tmp_path):
    """Missing, text, and cut before its index."""
    (tmp_path / "text.mp4").write_text("no video")
    cut = write_video(tmp_path / "cut.mp4", code="mp4v")
    cut.write_bytes(cut.read_bytes()[:200])
    for name, words in (("missing.mp4", "does not exist"), ("text.mp4", "no video"), ("cut.mp4", "no video")):
        with pytest.raises(CameraError, match=words):
            open_source(SourceSpec(str(tmp_path / name)))


def test_strip_is_endless_and_its_own_beginning():
    """The same URL gives the same first frame; pixels are what the strip draws."""
    first, again = (open_source(SourceSpec("strip:?width=320&height=80&seed=4")) for _ in range(2))
    assert np.array_equal(first.read().pixels, again.read().pixels)
    assert not np.array_equal(first.read().pixels, again.given)
    assert first.given == SourceInfo("strip", 320, 80, 30.0, "GREY")
    with pytest.raises(CameraError, match="only"):
        open_source(SourceSpec("strip:?colour=1"))


def test_iter_recording_goes_on_after_what_cannot_be_read(tmp_path):
    """Images, videos and rubbish in one folder: every picture comes, every failure is told."""
    cv2.imwrite(str(tmp_path / "a.png"), steel())
    (tmp_path / "b.png").touch()
    (tmp_path / "c.mp4").touch()
    write_video(tmp_path / "d.avi", 2)
    items = list(iter_recording(tmp_path))
    told = [(Path(i.label).name, "error" if isinstance(i, Unreadable) else i.number) for i in items]
    assert told == [("a.png", 0), ("b.png", "error"), ("c.mp4", "error"), ("d.avi", 0), ("d.avi", 1)]
    assert isinstance(items[1].error, ImageError)


@pytest.mark.parametrize("url", ["missing.png", "missing.mp4", "missing/*.png", "rtsp://u:p@h/x", "0", "strip:"])
def test_iter_recording_tells_one_error_for_what_is_no_recording(url):
    """Nothing is raised, nothing is silent, nothing secret is said."""
    (item,) = iter_recording(url)
    assert isinstance(item, Unreadable)
    assert "u:p" not in f"{item.label} {item.error}"


def test_iter_recording_tells_of_an_empty_folder(tmp_path):
    """A folder without images is an error of the input."""
    (item,) = iter_recording(tmp_path)
    assert isinstance(item, Unreadable)


# Devices and streams


class Capture:
    """A V4L2 device that notes what it was asked, in order, and refuses some of it."""

    def __init__(self, refused: tuple[tuple[int, float], ...] = ()) -> None:
        self.asked: list[tuple[int, float]] = []
        self.refused = refused

    def set(self, prop: int, value: float) -> bool:
        self.asked.append((prop, value))
        return (prop, value) not in self.refused


def test_device_is_asked_for_format_size_rate_exposure_and_gain_in_this_order():
    """Drivers list sizes per format and rates per size; automatic exposure would undo a set one."""
    capture = Capture()
    spec = SourceSpec("0", fps=60, width=1600, height=256, pixel_format="GREY", exposure=40, gain=2)
    configure_device(capture, spec)
    assert capture.asked == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"GREY")),
        (cv2.CAP_PROP_CONVERT_RGB, 0),
        (cv2.CAP_PROP_FRAME_WIDTH, 1600),
        (cv2.CAP_PROP_FRAME_HEIGHT, 256),
        (cv2.CAP_PROP_FPS, 60),
        (cv2.CAP_PROP_AUTO_EXPOSURE, 1),
        (cv2.CAP_PROP_EXPOSURE, 40),
        (cv2.CAP_PROP_GAIN, 2),
    ]


def test_device_without_exposure_is_left_to_its_automatic():
    """USB cameras know only mode 3, others only mode 0."""
    capture = Capture(refused=((cv2.CAP_PROP_AUTO_EXPOSURE, 3),))
    configure_device(capture, SourceSpec("0"))
    assert capture.asked == [(cv2.CAP_PROP_AUTO_EXPOSURE, 3), (cv2.CAP_PROP_AUTO_EXPOSURE, 0)]


def test_missing_device_is_told_with_those_that_exist():
    """The message names the path and the way out."""
    with pytest.raises(CameraError, match=r"/dev/video97 does not exist; devices here: .*by-id"):
        open_source(SourceSpec("97"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rtsp://admin:secret@nosuch.invalid/x", "the name nosuch.invalid is not known"),
        ("rtsp://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("http://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("rtsp://admin:secret@127.0.0.1:99999/x", "Port out of range"),
    ],
)
def test_stream_that_does_not_open_says_why_and_no_secret(free_port, url, words):
    """OpenCV only says no; the reason is asked for once more, without the login."""
    with pytest.raises(CameraError, match=words) as caught:
        open_source(SourceSpec(url.format(port=free_port)))
    assert "secret" not in str(caught.value)


class Script:
    """A capture whose grabs take as long as written; it moves the clock itself."""

    def __init__(self, waits_ms: list[float], now: list[int]) -> None:
        self.waits_ms = waits_ms
        self.now = now
        self.shown = -1

    def grab(self) -> bool:
        if not self.waits_ms:
            return False
        self.now[0] += round(self.waits_ms.pop(0) * 1e6)
        self.shown += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), self.shown % 256, np.uint8)

    def release(self) -> None:
        pass


class HandClock:
    def __init__(self, now: list[int]) -> None:
        self.now = now

    def monotonic_ns(self) -> int:
        return self.now[0]

    def wall_ns(self) -> int:
        return 0


def live(waits_ms: list[float], timeout_s: float = 2.0) -> device._LiveCapture:
    now = [0]
    return device._LiveCapture(
        Script(waits_ms, now), "cam", SourceInfo("FFMPEG", 6, 4, 10.0), timeout_s, HandClock(now)
    )


def test_backlog_after_open_is_discarded_and_counted():
    """Pictures that come without waiting are old; the first that was waited for is shown."""
    source = live([1, 0, 0, 95, 100])
    source.drain()
    assert [(one.count, one.reason) for one in source.take_lost()] == [(3, "stale")]
    assert [source.read().pixels[0, 0] for _ in range(2)] == [3, 4]


def test_no_backlog_is_nothing_lost():
    """A stream that begins with a wait loses no picture."""
    source = live([800, 100])
    source.drain()
    assert source.take_lost() == ()
    assert source.read().pixels[0, 0] == 0


def test_endless_backlog_is_given_up():
    """A file behind a URL is faster than its own clock for ever: it is shown after all."""
    source = live([1.0] * 1000)
    source.drain()
    assert source.take_lost()[0].count == device.DRAIN_MOST
    assert source.read().pixels[0, 0] == device.DRAIN_MOST % 256


def test_slow_read_has_failed_even_if_it_says_ok():
    """After a timeout FFmpeg hands out what its decoder still held."""
    source = live([100, 2000])
    source.read()
    with pytest.raises(CameraError, match="no picture within 2 s"):
        source.read()


def test_stopped_stream_is_an_error_not_an_end():
    """A live source has no end."""
    source = live([100])
    source.read()
    with pytest.raises(CameraError, match="stopped") as caught:
        source.read()
    assert not isinstance(caught.value, EndOfRecording)


# The room


def test_this_is_the_only_door_to_video_capture():
    """No other room opens a camera or a video."""
    root = Path(device.__file__).parents[2]
    doors = [p.name for p in root.rglob("*.py") if re.search(r"cv2\.VideoCapture\(", p.read_text("utf-8"))]
    assert doors == ["device.py"]


def test_camera_process_loads_neither_configuration_nor_inference():
    """A child that imports pydantic or onnxruntime would cost memory and time per camera."""
    code = (
        "import sys, edge.camera.process\n"
        "print([m for m in ('pydantic', 'yaml', 'onnxruntime', 'paho', 'click') if m in sys.modules])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    root = Path(device.__file__).parents[3]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=root)
    assert done.stdout.strip() == "[]"


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
