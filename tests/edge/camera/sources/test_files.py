"""Recordings as sources: order, pace, loops, and what is refused."""

from __future__ import annotations

import cv2
import pytest
from fakes.recordings import read_all, steel, write_video

from edge.camera.sources.contract import SourceInfo, SourceSpec
from edge.camera.sources.registry import open_source
from edge.errors import CameraError, EndOfRecording


def test_folder_is_shown_once_in_natural_order(tmp_path):
    """2 comes before 10, folders are walked, hidden files are not, labels are relative."""
    for name in ("10.png", "2.png", "b/1.pgm", ".hidden.png", ".dir/3.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), steel()) if not name.endswith("txt") else (tmp_path / name).touch()
    source = open_source(SourceSpec(str(tmp_path)))
    assert source.actual == SourceInfo("images", 80, 60, 30.0, "GREY")
    assert source.period_s == 1 / 30
    assert [p.label for p in read_all(source)] == ["2.png", "10.png", "b/1.pgm"]


def test_glob_may_reach_into_folders(tmp_path):
    """`**` stands for any depth; labels are relative to the part before the pattern."""
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
    """A folder with nothing to show is an error with its reason, not an empty recording."""
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
    assert (source.actual.backend, source.actual.width, source.actual.height) == ("FFMPEG", 96, 64)
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
    (tmp_path / "text.mp4").write_text("not a video")
    cut = write_video(tmp_path / "cut.mp4", code="mp4v")
    cut.write_bytes(cut.read_bytes()[:200])
    for name, words in (("missing.mp4", "does not exist"), ("text.mp4", "not a video"), ("cut.mp4", "not a video")):
        with pytest.raises(CameraError, match=words):
            open_source(SourceSpec(str(tmp_path / name)))
