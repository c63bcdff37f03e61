"""All calibration commands: help, options, refusals, and the files they leave."""

import json
import os
import signal
import stat

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.cli.progress import uninterrupted
from edge.config import calibration
from edge.config.camera_calibration import Made
from edge.config.state_dir import StateDir

COMMANDS = ("roi", "flatfield", "scale", "normal", "thresholds", "classes", "latency")
LAMP = (1 - 0.35 * np.linspace(-1, 1, 400) ** 2)[None]


def lit(number):
    """A frame of moving strip under a lamp that is brighter in the middle."""
    return np.clip(Strip(width=400, height=200).frame(20 * number) * LAMP, 0, 255).astype(np.uint8)


def recorded(folder, frames):
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), frame)


@pytest.fixture
def site(tmp_path):
    """A configuration, and recorded frames of its camera."""
    recorded(tmp_path / "recorded", [lit(number) for number in range(20)])
    content = {"node": "n", "state_dir": "var", "cameras": [{"name": "top", "source": "recorded", "tile_px": 100}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def call(site, *args, source="recorded"):
    words = ["calibrate", *args, "-c", str(site / "c.yaml"), "--source", str(site / source)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


def left(site):
    folder = site / "var/calibration"
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else None


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_line_by_line(command):
    """As a person types them, not joined into a paragraph."""
    shown = CliRunner().invoke(main, ["calibrate", command, "--help"]).stdout
    assert "\\b" not in shown
    assert any(line.strip().startswith(f"defectd calibrate {command}") for line in shown.splitlines())


@pytest.mark.parametrize(
    "option",
    [
        ("roi", "--wander-px", "nan"),
        ("scale", "--square-mm", "nan"),
        ("scale", "--length-mm", "nan", "--points", "0,0,100,0"),
        ("normal", "--false-alarms-per-hour", "nan"),
        ("normal", "--false-alarms-per-hour", "1e-300"),
        ("normal", "--false-alarm-rate", "nan"),
        ("normal", "--false-alarm-rate", "1e-300"),
        ("thresholds", "--recall", "nan", "--labelled", "."),
        ("thresholds", "--false-alarms-per-hour", "inf", "--labelled", "."),
        ("thresholds", "--fps", "nan", "--labelled", "."),
    ],
)
def test_numbers_that_are_not_finite_or_too_small_are_usage_errors(option):
    """`nan` passes every comparison with a bound."""
    done = CliRunner().invoke(main, ["calibrate", *option, "-c", "nowhere.yaml"])
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize("command", ["roi", "flatfield", "scale", "normal", "latency"])
@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((200, 400), 2, np.uint8), "dark"),
        (np.full((200, 400), 255, np.uint8), "saturated"),
    ],
)
def test_frames_that_show_nothing_are_refused_with_the_reason(site, command, picture, words):
    """The message names lens cap and exposure, not what the calibration would have missed in the frames."""
    recorded(site / "bad", [picture - np.uint8(number % 2) for number in range(12)])
    done = call(site, command, source="bad")
    assert (done.exit_code, left(site)) == (1, None)
    assert f"12 {words}" in done.stderr


@pytest.mark.parametrize(
    ("command", "words"), [("roi", "12 blurred"), ("flatfield", "12 blurred"), ("scale", "sharp?")]
)
def test_blurred_footage_is_refused(site, command, words):
    """Measured by the texture of steel; for a board, which has little, by its corners."""
    recorded(site / "bad", [cv2.GaussianBlur(lit(number), (0, 0), 8) for number in range(12)])
    done = call(site, command, source="bad")
    assert (done.exit_code, left(site)) == (1, None)
    assert words in done.stderr


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"schema: defectd.calibration/1\nroi: {roi: [0, 0]}\n"])
def test_damaged_calibration_is_reported_before_frames_are_gathered(site, content):
    """With a remedy that works: a new calibration over the damaged file would fail again."""
    path = StateDir(site / "var").calibration("top")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    done = call(site, "flatfield", source="nowhere")
    assert done.exit_code == 78
    assert "Remove the file, then calibrate again" in done.stderr


def test_source_takes_what_the_shell_makes_of_a_pattern(site):
    """`--source good/*.png`, in its order, also beside another --source; without the option the paths are refused."""
    paths = sorted(map(str, (site / "recorded").iterdir()))
    words = ["calibrate", "flatfield", "-c", str(site / "c.yaml")]
    done = CliRunner().invoke(main, [*words, "--source", *paths[:12], "--frames", "12"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    made = calibration.load(StateDir(site / "var").calibration("top")).flatfield.made
    assert made.frames == 12
    assert made.source == f"{paths[0]} to {paths[11]}, 12 in all"
    refused = CliRunner().invoke(main, [*words, *paths])
    assert refused.exit_code == 2
    assert "after --source" in refused.stderr
    assert len(refused.stderr) < 500


def test_folder_that_cannot_be_written_is_reported_before_frames_are_gathered(site):
    """Not after ten minutes of footage; a dry run needs no such folder."""
    (site / "var").write_text("a file")
    done = call(site, "flatfield", source="nowhere")
    assert done.exit_code == 1
    assert "is not a folder" in done.stderr
    assert call(site, "flatfield", "--dry-run").exit_code == 0


def test_disk_that_fails_in_the_middle_leaves_nothing(site):
    """The map and the picture could be written, the file that refers to them could not: neither stays."""
    folder = site / "var/calibration"
    (folder / "top.yaml.new").mkdir(parents=True)
    done = call(site, "flatfield")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
    assert [file.name for file in folder.iterdir()] == ["top.yaml.new"]


def test_interrupt_in_the_middle_of_writing_leaves_all_of_it(site, monkeypatch):
    """Ctrl-C while the first file is written: the others follow, and the output names them."""
    real, pressed = os.fsync, []

    def fsync(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode) and not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    done = call(site, "flatfield", "--json")
    assert (done.exit_code, len(pressed)) == (0, 1)
    kept = calibration.load(site / "var/calibration/top.yaml").flatfield
    assert set(left(site)) == {"top.yaml", "top.yaml~", "top.flatfield.png", kept.file}
    assert len(json.loads(done.stdout)["written"]) == 2


def test_second_interrupt_ends_a_disk_that_hangs():
    """The first one waits for the write, the second one does not."""
    pressed = []

    def press(times):
        with uninterrupted():
            for number in range(times):
                pressed.append(number)
                os.kill(os.getpid(), signal.SIGINT)

    press(1)
    with pytest.raises(KeyboardInterrupt):
        press(3)
    assert pressed == [0, 0, 1]


@pytest.mark.skipif("os.geteuid() != 0", reason="only root writes for another user")
def test_files_that_root_writes_belong_to_the_owner_of_the_state_folder(site):
    """Maps and pictures too: with a strict umask the daemon could not read them."""
    (site / "var").mkdir()
    os.chown(site / "var", 65_534, 65_534)
    assert call(site, "flatfield").exit_code == 0
    assert len(left(site)) == 4
    places = [site / "var/calibration", *(site / "var/calibration").iterdir()]
    assert {place.stat().st_uid for place in places} == {65_534}


def test_null_values_of_a_part_survive_the_next_calibration(site):
    """A part without a frame size keeps its null when another part is written beside it."""
    path = StateDir(site / "var").calibration("top")
    made = Made(time="now", version="1", source="tiles", frames=9, frame_px=None)
    region = calibration.RegionPart(roi=None, exclude=((0, 0, 9, 9),), made=made)
    calibration.save(path, roi=region)
    assert call(site, "flatfield").exit_code == 0
    assert calibration.load(path).roi == region
