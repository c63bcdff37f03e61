"""The edges of the strip, on generated frames and on real ones where these are available."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.clock import FakeClock
from fakes.configured import calibrated_camera
from hypothesis import given, settings
from hypothesis import strategies as st
from node import SEVERSTAL, needs_data, until

from edge import config
from edge.calibration.roi import find, line_of, outline
from edge.camera.opening import OPENING_KEYS, needs_new_process
from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.config import calibration
from edge.config.camera_calibration import CameraCalibration
from edge.config.diff import compare
from edge.errors import CalibrationError, ConfigError, ImageError
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.inspector import Inspector
from edge.vision.tiles import lay


def frame(number=0, *, left=(0, 0), right=(800, 800), dark=8):
    """800x400 px: the strip between two lines from top to bottom, with soft edges and noise."""
    rng = np.random.default_rng(number)
    steel = Strip(width=800, height=400).frame(number).astype(np.float32)
    rows, columns = np.mgrid[0:400, 0:800].astype(np.float32)
    share = rows / 399
    inside = np.clip(columns - (left[0] + (left[1] - left[0]) * share) + 0.5, 0, 1)
    inside *= np.clip((right[0] + (right[1] - right[0]) * share) - columns + 0.5, 0, 1)
    soft = cv2.GaussianBlur(inside, (0, 0), 1.5)
    picture = steel * soft + dark * (1 - soft) + rng.normal(0, 2, steel.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("left", [120, 121.5, 300])
def test_edges_of_a_generated_strip_are_found(left):
    """Both sides within 2 px of the truth, and the region lies inside them by the margin."""
    frames = [frame(n, left=(left, left), right=(700, 700)) for n in range(5)]
    strip = find(frames, margin_px=4, max_wander_px=20)
    found = {edge.side: (edge.start_px, edge.end_px) for edge in strip.edges}
    assert set(found) == {"left", "right"}
    assert found["left"] == pytest.approx((left, left), abs=2)
    assert found["right"] == pytest.approx((700, 700), abs=2)
    x, y, w, h = strip.roi
    assert left + 3 < x < left + 9
    assert 693 <= x + w <= 698
    assert (y, h) == (0, 400)


def test_slanting_edge_gives_a_polygon():
    """A rotated camera sees slanting edges; the corners follow them."""
    strip = find([frame(n, left=(100, 140)) for n in range(3)], margin_px=0, max_wander_px=20)
    (top_left, top_right, bottom_right, bottom_left) = strip.roi
    assert top_left[0] == pytest.approx(100, abs=3)
    assert bottom_left[0] == pytest.approx(140, abs=3)
    assert (top_right, bottom_right) == ((800, 0), (800, 400))


def test_strip_that_lies_across_is_found_too():
    """With background above and below."""
    turned = [np.ascontiguousarray(frame(n, left=(90, 90), right=(710, 710)).T) for n in range(3)]
    strip = find(turned, margin_px=0, max_wander_px=20)
    assert [edge.side for edge in strip.edges] == ["top", "bottom"]
    assert strip.roi[1] == pytest.approx(90, abs=3)


def test_strip_that_wanders_far_can_be_followed():
    """With `track`: the range of each edge, and a fixed region for lost edges; a slant is refused."""
    frames = [frame(n, left=(100 + 30 * n, 100 + 30 * n)) for n in range(5)]
    with pytest.raises(CalibrationError, match="--track"):
        find(frames, margin_px=4, max_wander_px=20)
    strip = find(frames, margin_px=4, max_wander_px=20, track=True)
    low, high = strip.track.seen_px["left"]
    assert (low, high) == (pytest.approx(100, abs=2), pytest.approx(220, abs=2))
    assert strip.track.margin_px == 4
    assert 220 < strip.roi[0] < 232
    with pytest.raises(CalibrationError, match="slants by"):
        find([frame(n, left=(100, 140)) for n in range(3)], margin_px=4, max_wander_px=20, track=True)


def test_strip_that_wanders_a_little_is_inside_the_region_at_any_time():
    """The region starts where the strip is in every frame; a strip that wanders far is refused."""
    frames = [frame(n, left=(100 + 2 * n, 100 + 2 * n)) for n in range(5)]
    strip = find(frames, margin_px=0, max_wander_px=20)
    assert strip.roi[0] >= 107
    with pytest.raises(CalibrationError, match="moves too much"):
        find([frame(n, left=(100 + 30 * n, 100 + 30 * n)) for n in range(5)], margin_px=0, max_wander_px=20)


@pytest.mark.parametrize("picture", [frame(), np.full((400, 800), 3, np.uint8), np.full((400, 800), 200, np.uint8)])
def test_frames_without_an_edge_are_refused(picture):
    """Steel from side to side, a dark room and a white wall have no edge."""
    with pytest.raises(CalibrationError, match="no side of the frames"):
        find([picture], margin_px=4, max_wander_px=20)


def test_edge_that_is_out_of_focus_is_refused():
    """Despite the noise of the sensor, which is sharp: the edge would be found ten px beside the strip."""
    soft = [cv2.GaussianBlur(frame(n, left=(150, 150)), (0, 0), 8) for n in range(3)]
    noisy = [np.clip(f + np.random.default_rng(7).normal(0, 2, f.shape), 0, 255).astype(np.uint8) for f in soft]
    assert line_of(noisy[0], "left")[0] < 142
    with pytest.raises(CalibrationError, match="left edge is too soft"):
        find(noisy, margin_px=4, max_wander_px=20)


def test_real_edges_are_found_within_8_px_and_no_others():
    """Every Severstal frame that shows an edge: eight of 27, labelled by eye."""
    folder = needs_data("normal-steel/severstal")
    for path in sorted(folder.glob("frames*/*.jpg")):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        found = {side: line for side in ("left", "right", "top", "bottom") if (line := line_of(picture, side))}
        side, truth = SEVERSTAL.get(f"{path.parent.name}/{path.stem}", (None, None))
        assert set(found) == ({side} if side else set()), path.stem
        if side:
            assert abs(sum(found[side]) / 2 - truth) <= 8, path.stem
            assert max(abs(end - truth) for end in found[side]) <= 8, path.stem


def test_excluded_zone_has_no_tiles():
    """Tiles of which more than half lies in the zone are left out."""
    plain = lay((256, 1600), tile_px=200, input_px=100)
    without = lay((256, 1600), tile_px=200, input_px=100, exclude=[(600, 0, 400, 256)])
    inside = [box for box in plain.boxes.tolist() if box[0] >= 600 and box[0] + box[2] <= 1000]
    assert inside
    assert not {tuple(box) for box in inside} & {tuple(box) for box in without.boxes.tolist()}
    triangle = lay((256, 1600), tile_px=200, input_px=100, exclude=[((0, 0), (400, 0), (0, 512))])
    assert 0 < len(plain) - len(triangle) < 5


# ---- the command and its file ---------------------------------------------------


@pytest.fixture
def site(tmp_path):
    """A configuration, and six recorded frames of its camera."""
    (tmp_path / "recorded").mkdir()
    for number in range(6):
        cv2.imwrite(str(tmp_path / "recorded" / f"{number}.png"), frame(number, left=(150, 150)))
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"node": "n", "state_dir": "var", "cameras": [{"name": "top", "source": "recorded"}]})
    )
    return tmp_path


def call(site, *args):
    result = CliRunner().invoke(main, ["calibrate", *args, "-c", str(site / "c.yaml")], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_command_writes_file_and_picture_that_the_daemon_uses(site):
    """The region applies unless the configuration has one; the file records its origin."""
    code, printed, _ = call(site, "roi", "--source", str(site / "recorded"), "--exclude", "500,0,100,400", "--json")
    assert code == 0
    found = json.loads(printed)
    assert found["written"] == [str(site / "var/calibration/top.yaml"), str(site / "var/calibration/top.roi.png")]
    picture = cv2.imread(found["written"][1])
    assert picture.shape == (400, 800, 3)
    assert picture[200, 50].max() < picture[200, 300].max()
    kept = calibration.load(site / "var/calibration/top.yaml").roi
    assert (kept.made.frames, kept.made.frame_px, kept.made.source) == (6, (800, 400), str(site / "recorded"))
    camera = calibrated_camera(site / "c.yaml")
    assert camera.roi == kept.roi == tuple(found["roi"])
    assert camera.exclude == [(500, 0, 100, 400)]
    raw = yaml.safe_load((site / "c.yaml").read_text())
    raw["cameras"][0]["roi"] = [1, 2, 300, 300]
    (site / "c.yaml").write_text(yaml.safe_dump(raw))
    assert calibrated_camera(site / "c.yaml").roi == (1, 2, 300, 300)


def test_command_stores_that_edges_are_followed(site):
    """In the file, and on the camera of the daemon; a region of the configuration is not followed."""
    code, printed, _ = call(site, "roi", "--source", str(site / "recorded"), "--track", "--json")
    assert code == 0
    assert set(json.loads(printed)["track"]["seen_px"]) == {"left"}
    picture = cv2.imread(str(site / "var/calibration/top.roi.png"))
    assert picture[100, 148:154].tolist().count([0, 200, 240]) >= 1  # where the edge was seen
    camera = calibrated_camera(site / "c.yaml")
    assert calibration.track(camera) == calibration.load(site / "var/calibration/top.yaml").roi.track
    assert calibration.track(camera.with_calibration(CameraCalibration())) is None
    code, _, remark = call(site, "roi", "--track", "--shape", "0,0,100,100")
    assert (code, "one of them" in remark) == (2, True)


def test_dry_run_writes_nothing(site):
    """It prints the result."""
    code, printed, remark = call(site, "roi", "--dry-run")
    assert code == 0
    assert "left edge at 1" in printed
    assert "nothing was written" in remark
    assert not (site / "var").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--source", "nowhere"], "cannot be read"),
        (["--camera", "side"], "no such camera"),
        (["--shape", "900,0,10,10"], "outside the frame"),
        (["--shape", "0,0,800,400", "--exclude", "0,0,800,400"], "no tile is left"),
        (["--shape", "1,2,3"], "at least three corners"),
        (["--exclude", "9000,0,10,10"], "leaves out nothing"),
        (["--exclude", "10,10,0,0"], "leaves out nothing"),
        (["--frames", "2"], "at least 3 are needed"),
    ],
)
def test_bad_input_is_refused_with_the_reason(site, args, words):
    """Nothing is written."""
    code, _, remark = call(site, "roi", *args)
    assert code != 0
    assert words in remark
    assert not (site / "var").exists()


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shown_region_is_the_written_one_and_its_tiles_are_those_of_the_daemon(site):
    """A drawn polygon with a zone and another tile size: looked at, applied, laid over the next frame by the loop."""
    (site / "var").mkdir()
    before = everything(site)
    drawn = ("--shape", "160,10 780,10 790,390 170,390", "--exclude", "500,0 640,0 600,400 520,400", "--tile-px", "100")
    code, printed, remark = call(site, "roi", *drawn, "--dry-run", "--plates", str(site / "look"), "--json")
    assert code == 0, remark
    found = json.loads(printed)
    unchanged = {path: content for path, content in everything(site).items() if path.parts[0] != "look"}
    assert unchanged == before
    assert found["change"]["plates"] == ["top.roi.png", "top.tiles.png"]
    assert (site / "look/top.roi.png").exists()
    code, printed, _ = call(site, "apply", str(site / "look"), "--json")
    applied = json.loads(printed)
    assert (code, applied["after_sha256"]) == (0, found["change"]["after_sha256"])
    camera = calibrated_camera(site / "c.yaml")
    assert [list(corner) for corner in camera.roi] == found["roi"]
    assert camera.tile_px == 100
    inspector = Inspector(camera, Classifier(bundle.load("builtin")), FakeClock())
    laid = inspector.prepare(frame(), follow=False).boxes()
    assert [list(box) for box in laid] == found["tiles"]
    assert {size["tile_px"]: size["tiles"] for size in found["tile_sizes"]}[100] == len(laid)


def test_size_of_the_tiles_is_changed_without_the_region(site):
    """The region, its zones and how it follows the edges stay; undo brings the other size back."""
    assert call(site, "roi", "--track", "--exclude", "500,0,100,400")[0] == 0
    first = calibrated_camera(site / "c.yaml")
    code, _, remark = call(site, "roi", "--keep-region", "--tile-px", "150")
    assert code == 0, remark
    second = calibrated_camera(site / "c.yaml")
    assert (second.roi, second.exclude, second.calibration.track) == (first.roi, first.exclude, first.calibration.track)
    assert (first.tile_px, second.tile_px) == (200, 150)
    assert call(site, "undo")[0] == 0
    assert calibrated_camera(site / "c.yaml") == first


def test_configuration_overrides_the_size_of_the_tiles(site):
    """The command refuses, and names the key; a size that was calibrated before is not used."""
    assert call(site, "roi", "--shape", "160,0,600,400", "--tile-px", "150")[0] == 0
    raw = yaml.safe_load((site / "c.yaml").read_text())
    raw["cameras"][0]["tile_px"] = 120
    (site / "c.yaml").write_text(yaml.safe_dump(raw))
    assert calibrated_camera(site / "c.yaml").tile_px == 120
    code, _, remark = call(site, "roi", "--keep-region", "--tile-px", "150")
    assert (code, "its own tile_px" in remark) == (2, True)


def test_progress_is_lines_for_a_program(site):
    """From nothing to all, with what is being done."""
    code, _, remark = call(site, "roi", "--dry-run", "--progress-json")
    assert code == 0
    steps = [json.loads(line) for line in remark.splitlines() if line.startswith("{")]
    assert [step["what"] for step in steps][:2] == ["frames", "frames"]
    assert (steps[0]["progress"], steps[-1]["progress"], steps[-1]["left_s"]) == (0.0, 1.0, 0.0)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=3, max_size=6, unique=True), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_tile_that_lies_more_than_half_in_a_zone_is_laid(corners, is_rectangle):
    """By an independent count of the pixels; tiles that lie less than half inside all stay."""
    zone = tuple((100 * x, 100 * y) for x, y in corners)
    if is_rectangle:
        (x, y), (right, below) = np.min(zone, axis=0).tolist(), np.max(zone, axis=0).tolist()
        zone = (x, y, max(1, right - x), max(1, below - y))
    inside = np.zeros((400, 800), np.uint8)
    cv2.fillPoly(inside, [outline(zone, inside)], (1,))
    plain = lay((400, 800), tile_px=100, input_px=100, overlap=0.1)
    try:
        left = lay((400, 800), tile_px=100, input_px=100, overlap=0.1, exclude=[zone])
        kept = {tuple(box) for box in left.boxes.tolist()}
    except ImageError:
        kept = set()
    for x, y, w, h in plain.boxes.tolist():
        share = inside[y : y + h, x : x + w].mean()
        if abs(share - 0.5) > 0.04:  # the border itself is drawn a pixel wide
            assert ((x, y, w, h) in kept) == (share < 0.5)


def test_mixed_sizes_and_damaged_files_are_refused(site):
    """All frames have one size; the message names a file that cannot be read."""
    cv2.imwrite(str(site / "recorded/7.png"), np.zeros((100, 100), np.uint8))
    assert "7.png is 100x100 px" in call(site, "roi", "--source", str(site / "recorded"))[2]
    (site / "recorded/7.png").write_bytes(b"no picture")
    assert "7.png cannot be read" in call(site, "roi", "--source", str(site / "recorded"))[2]


def test_calibration_that_cannot_be_read_refuses_the_start(site):
    """The daemon never inspects uncalibrated by accident."""
    path = site / "var/calibration/top.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("schema: defectd.calibration/1\nroi: {roi: [0, 0, -5, 3]}\n")
    with pytest.raises(ConfigError, match=r"top\.yaml"):
        calibration.applied(config.load(site / "c.yaml"))


@pytest.mark.system
def test_region_is_calibrated_from_the_camera_itself(site):
    """Without --source frames come from the camera, in a process of its own."""
    code, printed, _ = call(site, "roi", "--frames", "3", "--json")
    assert code == 0
    found = json.loads(printed)
    assert found["edges"]["left"]["frames"] == 3
    assert found["roi"][0] == pytest.approx(156, abs=4)


def test_reload_uses_a_new_calibration(site):
    """The camera is inspected differently, its process continues, and the hash of the configuration changes."""
    before = calibration.applied(config.load(site / "c.yaml"))
    assert call(site, "roi", "--source", str(site / "recorded"))[0] == 0
    after = calibration.applied(config.load(site / "c.yaml"))
    found = compare(before, after, opening_keys=OPENING_KEYS, needs_new_process=needs_new_process)
    assert (found.looked_at, found.reopened, found.needs_restart) == (("top",), (), ())
    assert before.sha256 != after.sha256


@pytest.mark.system
def test_interrupted_calibration_leaves_nothing(site):
    """Ctrl-C while frames are gathered: no file, no camera process, no traceback."""
    raw = yaml.safe_load((site / "c.yaml").read_text())
    raw["cameras"][0]["source"] = "strip:?width=640&height=256"
    (site / "c.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "edge.cli", "calibrate", "roi", "-c", str(site / "c.yaml"), "--frames", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        tasks = Path(f"/proc/{running.pid}/task")

        def children():
            return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

        try:
            camera = until(children, 30, "the camera process")
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=20)
        finally:
            running.kill()
    assert running.returncode == 1
    assert "Traceback" not in errors
    assert not (site / "var").exists()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in camera), 10, "no camera process is left")
