"""The flat field: measured on good surface, used on every frame, watched for drift."""

import json
from functools import cache

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.bundles import bundle
from fakes.clock import FakeClock
from fakes.configured import calibrated_camera
from pydantic import SecretStr

from edge import config
from edge.calibration.flatfield import coded, measure, overlay
from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.config import calibration
from edge.errors import CalibrationError, ConfigError, ImageError
from edge.model.classifier import Classifier
from edge.vision.drawing import png
from edge.vision.flatfield import Flatfield
from edge.vision.inspector import Inspector

WIDTH, HEIGHT = 800, 400
LAMP = np.exp(-(((np.arange(WIDTH) - 300) / 420) ** 2)).astype(np.float32)
"""Bright left of the middle, a third of that at the right border."""


@cache
def surface(number):
    """Evenly lit steel."""
    seen = cv2.GaussianBlur(Strip(width=WIDTH, height=HEIGHT).frame(number), (0, 0), 1).astype(np.float32)
    return seen - cv2.resize(cv2.resize(seen, (8, 4), interpolation=cv2.INTER_AREA), (WIDTH, HEIGHT)) + 150


def lit(number, lamp=LAMP):
    """A frame of the generated strip's surface under a lamp."""
    return np.clip(surface(number) * lamp, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frames():
    return [lit(number) for number in range(0, 120, 5)]


def test_gain_is_the_inverse_of_the_light(frames):
    """Within 5 % of the inverse light, where it is not clipped; the frames of the check become more even."""
    light = measure(frames)
    wanted = np.median(LAMP) / cv2.resize(LAMP[None], (100, 1), interpolation=cv2.INTER_AREA)[0]
    got = light.gain.mean(axis=0)
    assert light.gain.shape == (50, 100)
    assert np.abs(got / got[50] / (wanted / wanted[50]) - 1)[8:-8].max() < 0.05
    assert light.before > 0.5
    assert light.after < 0.15


def test_background_beside_the_strip_is_not_brightened(frames):
    """With a region, the gain ignores the dark background."""
    framed = [np.pad(frame[:, 100:700], ((0, 0), (100, 100)), constant_values=4) for frame in frames]
    gain = measure(framed, (100, 0, 600, 400)).gain
    assert gain[:, :12].max() < 1.6
    assert measure(frames).gain[:, 12:88] == pytest.approx(gain[:, 12:88], rel=0.12)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([lit(0)] * 5, "at least 10"),
        ([lit(0)] * 20, "repeat"),
        ([lit(n) // 20 for n in range(20)], "too dark"),
        ([np.full((400, 800), 255, np.uint8) - (n % 2) for n in range(20)], "saturated"),
        ([np.random.default_rng(n).integers(90, 160, (400, 800), np.uint8) for n in range(20)], "would not help"),
    ],
)
def test_bad_footage_is_refused(bad, words):
    """Too short, one picture repeated, too dark, saturated, or evenly lit already."""
    with pytest.raises(CalibrationError, match=words):
        measure(bad)


@pytest.mark.parametrize(("border_px", "gap_px"), [(120, 0), (0, 60), (120, 60), (40, 0)])
def test_background_and_gaps_are_no_surface(frames, border_px, gap_px):
    """Beside the strip and in a gap there is no light to even out; a region that leaves them out is accepted."""
    shown = [frame.copy() for frame in frames]
    for frame in shown:
        frame[:, WIDTH - border_px :] = 3
        frame[:, :gap_px] = 3
    with pytest.raises(CalibrationError, match=r"are dark in most frames.*calibrate roi"):
        measure(shown)
    left, right = gap_px, WIDTH - border_px
    assert measure(shown, (left, 0, right - left, HEIGHT)).after < 0.15


def test_a_slanting_edge_outside_the_outline_is_not_surface(frames):
    """The rectangle around a polygon contains background; the polygon does not."""
    outline = np.array([(30, 0), (799, 0), (799, 399), (0, 399)], np.int32)
    surface = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [outline], 1)
    shown = [frame * surface for frame in frames]
    with pytest.raises(CalibrationError, match="are dark"):
        measure(shown, (0, 0, WIDTH, HEIGHT))
    assert measure(shown, (0, 0, WIDTH, HEIGHT), outline).after < 0.15


def test_a_gain_that_leaves_the_frame_uneven_is_refused(frames):
    """A shadow that only some frames show is not the lamp: less uneven is not even."""
    shadow = np.ones((HEIGHT, WIDTH), np.float32)
    shadow[:, 300:420] = 0.2
    lit_worse = [np.asarray(f * (shadow if n % 3 else 1), np.uint8) for n, f in enumerate(frames)]
    with pytest.raises(CalibrationError, match=r"still varies|would not help"):
        measure(lit_worse)


def fitted(path, roi=None):
    """An inspector with this map, and one without."""
    camera = config.Camera(name="top", source=SecretStr("x"), tile_px=32, roi=roi)
    network = Classifier(bundle())
    with_map = camera.model_copy(update={"flatfield": path})
    return Inspector(with_map, network, FakeClock()), Inspector(camera, network, FakeClock())


@pytest.fixture
def written(frames, tmp_path):
    path = tmp_path / "map.png"
    path.write_bytes(png(coded(measure(frames).gain)))
    return path


@pytest.mark.parametrize("roi", [None, (200, 40, 500, 320)])
def test_tiles_are_cut_in_even_light(written, roi):
    """The tiles vary less in brightness, in the whole frame and in a region."""
    with_map, without = fitted(written, roi)
    unseen = lit(333)
    spread = [float(one.cut(one.prepare(unseen, follow=False)).mean(axis=(1, 2)).std()) for one in (with_map, without)]
    assert spread[0] < 0.4 * spread[1]


def test_frames_of_another_size_are_bad_images(written):
    """A map of another size is never stretched silently."""
    with_map, _ = fitted(written)
    verdict = with_map.inspect_alone(np.full((256, 1600), 90, np.uint8))
    assert verdict.state == "bad_image"
    assert "flat field" in verdict.reason
    with pytest.raises(ImageError):
        Flatfield.read(written).over((256, 1600), (0, 0, 1600, 256), (800, 128))


def test_unreadable_map_refuses_the_start(tmp_path):
    """A missing or foreign file is a configuration error, not a dark picture."""
    (tmp_path / "x.png").write_bytes(b"no picture")
    for name in ("missing.png", "x.png"):
        with pytest.raises(ConfigError, match=r"cameras\.flatfield"):
            Flatfield.read(tmp_path / name)


def test_lamp_that_drifts_is_reported_once_and_again_when_it_is_back(written, caplog):
    """A tube that fades on one side, over minutes; single frames do not count."""
    light = Flatfield.read(written)
    gain = light.over((HEIGHT, WIDTH), (0, 0, WIDTH, HEIGHT), (400, 200))
    faded = LAMP * np.linspace(1, 0.4, WIDTH, dtype=np.float32)
    clock = FakeClock()

    def shine(lamp, looks):
        for number in range(looks):
            light.watch(lit(number % 10, lamp), gain, clock.monotonic_ns())
            clock.advance(5.1)

    shine(LAMP, 20)
    shine(faded, 2)
    shine(LAMP, 20)
    assert "lamp" not in caplog.text
    shine(faded, 60)
    assert caplog.text.count("has drifted") == 1
    shine(LAMP, 60)
    assert caplog.text.count("as calibrated again") == 1


def test_command_measures_and_the_camera_uses_it(frames, tmp_path):
    """Map, file and picture; a second calibration replaces the first."""
    (tmp_path / "good").mkdir()
    for number, frame in enumerate(frames[:20]):
        cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), frame)
    path = tmp_path / "c.yaml"
    content = {"node": "n", "state_dir": "var", "cameras": [{"name": "top", "source": "good"}]}
    path.write_text(yaml.safe_dump(content))

    def call(*args):
        source = ["--source", str(tmp_path / "good")]
        return CliRunner().invoke(main, ["calibrate", "flatfield", "-c", str(path), *source, *args])

    assert call("--dry-run").exit_code == 0
    assert not (tmp_path / "var").exists()
    result = call("--json")
    assert result.exit_code == 0, result.output
    first = json.loads(result.stdout)["file"]
    camera = calibrated_camera(path)
    assert camera.flatfield == tmp_path / "var/calibration" / first
    assert call("--frames", "12").exit_code == 0
    second = calibration.load(tmp_path / "var/calibration/top.yaml").flatfield
    assert second.after < second.before
    names = {file.name for file in (tmp_path / "var/calibration").iterdir()}
    assert names == {"top.yaml", "top.yaml~", "top.flatfield.png", first, second.file}
    assert second.file != first
    assert call("--frames", "3").exit_code == 1


def test_picture_shows_frame_gain_and_result(frames):
    """Three panels, one above the other."""
    picture = overlay(frames[0], measure(frames))
    assert picture.shape == (3 * HEIGHT, WIDTH, 3)
