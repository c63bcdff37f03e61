"""Picture files: what is decoded, how it turns gray, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes.recordings import steel

from edge.camera.image_files import read_image, to_gray
from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.registry import open_source
from edge.errors import CameraError, ImageError


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "pgm"])
def test_read_image_returns_the_pixels_of_every_lossless_format(tmp_path, suffix):
    """The pixels that were written are read, bit for bit."""
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


def test_read_image_names_what_is_wrong(tmp_path):
    """Missing, directory, empty, text: each has its own message."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    for name, words in (
        ("missing.png", "does not exist"),
        (".", "is a directory"),
        ("empty.png", "is empty"),
        ("text.png", "not an image"),
    ):
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / name)


def test_read_image_names_the_file_whose_pixels_are_not_whole_numbers(tmp_path):
    """A float TIFF cannot be inspected, and in a folder of thousands its name is what counts."""
    cv2.imwrite(str(tmp_path / "depth.tif"), np.ones((30, 40), np.float32))
    with pytest.raises(ImageError, match=r"depth\.tif: pixels are float32; only 8 and 16 bit"):
        read_image(tmp_path / "depth.tif")


def test_read_image_does_not_read_a_pipe_or_a_device(tmp_path):
    """A pipe or a device among the files cannot hang an inspection."""
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a regular file"):
            read_image(path)
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(CameraError, match="not a regular file"):
        open_source(SourceSpec(str(tmp_path / "a.mp4")))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "pgm", "webp"])
def test_read_image_refuses_a_cut_file(tmp_path, suffix):
    """No part of a file passes for a picture: neither half of it, nor all but the last bytes."""
    whole = cv2.imencode(f".{suffix}", steel(200, 300))[1].tobytes()
    for size in (4, 30, len(whole) // 2, len(whole) - 3):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(ImageError):
            read_image(tmp_path / "cut")


def test_read_image_names_the_cut_of_png_and_jpeg(tmp_path):
    """For the two common formats the message is that the file is cut off, not that it is unknown."""
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


def test_read_image_refuses_garbage_in_linear_time(tmp_path):
    """Megabytes of 0xff, as on erased flash, or of blanks take no longer than their size."""
    head = cv2.imencode(".jpg", steel())[1].tobytes()[:400]
    for n, data in enumerate((head + b"\xff" * 4_000_000, b"P5" + b" " * 4_000_000, b"P5 " + b"#\n" * 1_000_000)):
        (tmp_path / f"{n}.jpg").write_bytes(data)
        start = time.monotonic()
        with pytest.raises(ImageError):
            read_image(tmp_path / f"{n}.jpg")
        assert time.monotonic() - start < 10


def test_read_image_refuses_giants_before_it_decodes(tmp_path):
    """A header that states 10 gigapixels is refused without reserving them."""
    (tmp_path / "a.bmp").write_bytes(b"BM" + bytes(16) + (100_000).to_bytes(4, "little") * 2 + bytes(30))
    (tmp_path / "a.pgm").write_bytes(b"P5\n# by hand\n100000 100000\n255\n")
    png = bytearray(cv2.imencode(".png", steel())[1].tobytes())
    png[16:24] = (100_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
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
    """Only 8 and 16 bit have a fixed conversion to gray."""
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones((5, 5), np.float32))
    with pytest.raises(ImageError, match="float32"):
        read_image(tmp_path / "a.tif")


def test_read_image_prints_nothing(tmp_path):
    """Broken files raise an exception and nothing else; the libraries below stay quiet."""
    whole = cv2.imencode(".png", steel())[1].tobytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    jpeg = cv2.imencode(".jpg", steel())[1].tobytes()
    for n, data in enumerate((whole[:-9], bytes(flipped), jpeg[:-30], b"II*\x00" + b"\x08" * 40, b"RIFF" + jpeg)):
        (tmp_path / f"{n}.png").write_bytes(data)
    code = (
        "import sys; from edge.camera.recordings import *\n"
        "for item in iter_recording(sys.argv[1]): assert isinstance(item, Unreadable)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_to_gray_keeps_a_gray_stream_exactly():
    """Where B, G and R are equal, the weighted sum is that very value, for all 256."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_gray(cv2.cvtColor(ramp, cv2.COLOR_GRAY2BGR)), ramp)
    assert np.array_equal(to_gray(ramp[:, :, None]), ramp)
    assert np.array_equal(to_gray(np.dstack([ramp, ramp[::-1]])), ramp)
    assert np.array_equal(to_gray(ramp.astype(np.uint16) * 257), ramp)
