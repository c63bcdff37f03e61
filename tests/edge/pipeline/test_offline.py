"""Verdicts without a daemon, on files with any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes.recordings import steel, write_video

NAMES = (b"Pr\xfcfung.png", b"\x1b[31mred.png", "ש\u202egnp.png".encode(), b"two\nlines.png", b"n" * 240 + b".png")


def inspected(*arguments: str) -> tuple[int, list[dict], str]:
    """Exit code, lines and stderr of `defectd inspect`, in a process of its own: OpenCV can end a process."""
    command = [sys.executable, "-m", "edge.cli", "inspect", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_picture_with_any_name_is_inspected_and_drawn(tmp_path: Path, name: bytes) -> None:
    """Names are bytes: they are neither text nor short."""
    out = tmp_path / os.fsdecode(name[:100])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / os.fsdecode(name)).write_bytes(cv2.imencode(".png", steel(220, 220))[1].tobytes())
    code, (line,), stderr = inspected(str(tmp_path / "in"), "--pictures", str(out))
    assert (code, stderr) == (0, "")
    assert line["source"].isprintable()
    (drawn,) = out.iterdir()
    assert drawn.name.isprintable()
    assert cv2.imdecode(np.fromfile(drawn, np.uint8), cv2.IMREAD_COLOR).shape == (220, 220, 3)


def test_video_whose_name_is_not_utf8_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """OpenCV ends the process when it is given such a name."""
    write_video(tmp_path / "a.avi").rename(tmp_path / os.fsdecode(b"Pr\xfcfung.avi"))
    code, (line,), _ = inspected(str(tmp_path))
    assert code == 1
    assert line["source"].endswith("Pr\\xfcfung.avi")
    assert "rename it" in line["error"]


def test_folder_for_pictures_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The first picture ends the command with the folder, the reason and no traceback."""
    cv2.imwrite(str(tmp_path / "a.png"), steel(220, 220))
    code, _, stderr = inspected(str(tmp_path / "a.png"), "--pictures", str(tmp_path / "a.png" / "out"))
    assert code == 1
    assert stderr.startswith("defectd: ")
    assert "cannot be written" in stderr


@pytest.mark.parametrize("source", ["rtsp://u:secret@127.0.0.1:1/x?[1]", "0", "strip:", "strip:?seed=1", "/dev/video7"])
def test_source_that_is_not_a_recording_is_one_message(source: str) -> None:
    """A camera is not inspected here, and its password is not shown."""
    code, (line,), stderr = inspected(source)
    assert (code, stderr) == (1, "")
    assert "is not a recording" in line["error"]
    assert "secret" not in str(line)
