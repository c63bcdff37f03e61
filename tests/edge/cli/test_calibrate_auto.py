"""calibrate auto: everything or nothing, from a recording of the generated strip with a dark border."""

import json

import cv2
import pytest
import yaml
from click.testing import CliRunner

from edge.calibration import summary
from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.cli.calibrate import anomaly
from edge.config import calibration

SIZE = {"width": 400, "height": 200, "border_px": 40}


def recorded(folder, frames, **more):
    strip = Strip(**SIZE, speed_px=48, **more)
    folder.mkdir()
    for number in range(frames):
        cv2.imwrite(str(folder / f"{number:03d}.png"), strip.frame(number))


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Recordings of good surface, and of defects."""
    folder = tmp_path_factory.mktemp("footage")
    recorded(folder / "good", 130, defects=0)
    recorded(folder / "bad", 70, spacing_px=480)
    return folder


@pytest.fixture
def site(tmp_path):
    source = "strip:?width=400&height=200&border_px=40&defects=0"
    content = {"node": "n", "state_dir": "var", "cameras": [{"name": "top", "source": source}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def auto(site, source, *options):
    words = ["calibrate", "auto", "-c", str(site / "c.yaml"), "--source", str(source)]
    allowed = ["--false-alarms-per-hour", "5000", "--no-latency", "--tile-px", "100"]
    return CliRunner().invoke(main, [*words, *allowed, *options], catch_exceptions=False)


def left(site):
    folder = site / "var/calibration"
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def test_one_command_measures_a_camera_and_one_takes_it_back(site, footage):
    """Region, light, scale over the width of the strip, good surface; the summary page holds its pictures."""
    done = auto(site, footage / "good", "--length-mm", "800", "--yes", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(step["name"], step["state"]) for step in found["steps"]] == [
        ("roi", "done"),
        ("flatfield", "done"),
        ("scale", "done"),
        ("normal", "done"),
        ("latency", "skipped"),
    ]
    kept = calibration.load(site / "var/calibration/top.yaml")
    x, _, width, _ = kept.roi.roi
    assert (abs(x - 44), abs(width - 312)) <= (1, 2)
    assert kept.scale.scale.mm_per_px == pytest.approx(800 / 320, rel=0.01)
    assert kept.normal[0].file in left(site)
    page = (site / "var/calibration/top.auto.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert "src=" in page
    assert "http" not in page
    shown = CliRunner().invoke(main, ["calibrate", "show", "-c", str(site / "c.yaml")]).output
    assert "tiles of 100 px, since" in shown
    assert shown.endswith("camera top is ready\n")
    undone = CliRunner().invoke(main, ["calibrate", "undo", "-c", str(site / "c.yaml"), "--camera", "top"])
    assert undone.exit_code == 0
    assert calibration.load(site / "var/calibration/top.yaml").coded() == b"{schema: defectd.calibration/1}\n"


def test_a_strip_that_fills_the_frame_is_inspected_as_a_whole(site, tmp_path):
    """No side shows an edge: region and tiles are stored nevertheless, and the camera is ready."""
    content = yaml.safe_load((site / "c.yaml").read_text())
    content["cameras"][0]["anomaly"] = "classes"  # good surface is not what this is about
    (site / "c.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "full").mkdir()
    for number in range(60):
        frame = Strip(width=400, height=200, speed_px=48, defects=0).frame(number)
        cv2.imwrite(str(tmp_path / f"full/{number:03d}.png"), frame)
    done = auto(site, tmp_path / "full", "--yes")
    assert done.exit_code == 0, done.output
    kept = calibration.load(site / "var/calibration/top.yaml").roi
    assert (kept.roi, kept.tile_px) == ((0, 0, 400, 200), 100)
    assert "no dark background" in done.stdout
    shown = CliRunner().invoke(main, ["calibrate", "show", "-c", str(site / "c.yaml")]).output
    assert shown.endswith("camera top is ready\n")


def test_footage_with_defects_is_refused_with_its_reason(site, footage):
    """Nothing is written; the summary that was asked for names the step."""
    done = auto(site, footage / "bad", "--yes", "--report", str(site / "r.html"))
    assert done.exit_code == 1
    assert "good surface:" in done.stderr
    assert left(site) == {}
    assert "Refused: good surface" in (site / "r.html").read_text()


def test_dark_frames_are_refused_before_any_step(site, tmp_path):
    """The reason is that of the frames."""
    (tmp_path / "dark").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"dark/{number}.png"), Strip(**SIZE, defects=0).frame(number) // 16)
    done = auto(site, tmp_path / "dark", "--yes")
    assert (done.exit_code, left(site)) == (1, {})
    assert "dark" in done.stderr


def test_without_consent_nothing_is_written(site, footage):
    """Where nobody can be asked, the command says what to give."""
    done = auto(site, footage / "good")
    assert (done.exit_code, left(site)) == (1, {})
    assert "--yes" in done.stderr


def test_an_interrupted_run_writes_nothing(site, footage, monkeypatch):
    """Ctrl-C in the middle of good surface leaves the calibration as it was."""

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(anomaly, "learn", interrupted)
    done = auto(site, footage / "good", "--yes")
    assert (done.exit_code, left(site)) == (1, {})


def test_what_the_configuration_gives_is_not_measured(site, footage):
    """Its values win, so the step is skipped and says so."""
    content = yaml.safe_load((site / "c.yaml").read_text())
    content["cameras"][0] |= {"roi": [44, 0, 312, 200], "anomaly": "classes"}
    (site / "c.yaml").write_text(yaml.safe_dump(content))
    found = json.loads(auto(site, footage / "good", "--yes", "--json").stdout)
    states = {step["name"]: step["state"] for step in found["steps"]}
    assert (states["roi"], states["flatfield"], states["normal"]) == ("skipped", "done", "skipped")


def test_text_from_outside_cannot_act_on_the_page():
    """What footage and camera are called is text."""
    step = summary.StepResult("roi", "region", "done", ("<script>",))
    page = summary.page("<b>", "ok", {"frames": "<i>"}, [step])
    assert not any(word in page for word in ("<script>", "<b>", "<i>"))
