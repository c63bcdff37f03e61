"""Millimetres, measured on boards that are rendered with a known lens at known angles."""

import json

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.configured import calibrated_camera

from edge import config
from edge.calibration.scale import Board, known_length, measure, overlay, print_board
from edge.cli import main
from edge.errors import CalibrationError
from edge.vision.metrology import Ruler

BOARD = Board(10, 7, 20.0)
LENS = np.array([750, 750, 327, 235, -0.18, 0.05, 0.0005, -0.0003, 0.0])
"""fx, fy, cx, cy, k1, k2, p1, p2, k3: about 3 px of distortion in the corners."""
FLAT = ((0.05, -0.08, 0.15), (-95, -75, 400))
ANGLES = (
    ((0.3, 0, 0), (-100, -70, 420)),
    ((-0.35, 0.1, 0.1), (-100, -70, 430)),
    ((0, 0.35, -0.1), (-110, -60, 430)),
    ((0.1, -0.4, 0.2), (-90, -90, 450)),
    ((0.25, 0.25, 1.2), (20, -120, 450)),
)
SIZE = (640, 480)


def rays(lens, size):
    """Directions of all pixels, by iterating the distortion model, independent of the code under test."""
    u, v = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    xd, yd = (u.ravel() - lens[2]) / lens[0], (v.ravel() - lens[3]) / lens[1]
    k1, k2, p1, p2, k3 = lens[4:]
    x, y = xd.copy(), yd.copy()
    for _ in range(20):
        r2 = x * x + y * y
        grown = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        x = (xd - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / grown
        y = (yd - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / grown
    return np.stack([x, y, np.ones_like(x)], axis=1)


def render(pose, lens=LENS, board=BOARD, blur=0.6, seed=0):
    """The image of the printed board at a pose, with noise."""
    turn, _ = cv2.Rodrigues(np.array(pose[0], np.float64))
    to = np.array(pose[1], np.float64)
    directions = rays(lens, SIZE)
    normal = turn[:, 2]
    reach = (normal @ to) / (directions @ normal)
    on_board = (directions * reach[:, None] - to) @ turn
    sheet = board.picture(dpi=25.4 * 2, margin_mm=10).astype(np.float32)
    at = ((on_board[:, :2] + 10) * 2 - 0.5).astype(np.float32).reshape(SIZE[1], SIZE[0], 2)
    seen = cv2.remap(sheet, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderValue=90) * 0.7 + 30
    seen = cv2.GaussianBlur(seen, (0, 0), blur)
    return np.clip(seen + np.random.default_rng(seed).normal(0, 2, seen.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def views():
    return [render(pose, seed=seed) for seed, pose in enumerate((*ANGLES, FLAT))]


def worst_error(ruler, pose, lens=LENS):
    """Largest error of 300 lengths from 30 to 240 mm on the plane of the board."""
    rng = np.random.default_rng(1)
    ends = rng.uniform([0, 0], [200, 140], (2, 600, 2))
    lengths = np.linalg.norm(ends[0] - ends[1], axis=1)
    k = np.array([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1]])
    turn, to = np.array(pose[0], np.float64), np.array(pose[1], np.float64)
    seen = [
        cv2.projectPoints(np.hstack([e, np.zeros((600, 1))]), turn, to, k, lens[4:])[0].reshape(-1, 2) for e in ends
    ]
    measured = np.linalg.norm(ruler.points_mm(seen[0]) - ruler.points_mm(seen[1]), axis=1)
    return float(np.abs(measured / lengths - 1)[lengths > 30].max())


def test_lengths_are_right_with_a_lens_that_distorts(views):
    """Every length on the plane within 0.5 %, from six views; the lens is found."""
    found = measure(views, BOARD)
    assert worst_error(found.ruler, FLAT) < 0.005
    assert found.ruler.lens[0] == pytest.approx(750, rel=0.01)
    assert found.ruler.lens[4] == pytest.approx(-0.18, abs=0.03)
    assert found.rms_px < 0.15
    assert found.views == 6


@pytest.mark.parametrize("last", [0, 2, 3])
def test_plane_may_be_tilted(views, last):
    """For a camera tilted by 17 to 24 degrees: the last view gives the plane."""
    order = [*(view for n, view in enumerate(views) if n != last), views[last]]
    assert worst_error(measure(order, BOARD).ruler, ANGLES[last]) < 0.005


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.6, 3.0])
def test_one_view_is_enough_for_a_good_lens(angle):
    """Without distortion one frame gives the plane, however the board is turned on it."""
    lens = np.array([750, 750, 320, 240, 0, 0, 0, 0, 0.0])
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = ((0, 0, angle), (*(-turned @ [100, 70]), 420))
    found = measure([render(pose, lens)], BOARD)
    assert found.ruler.lens is None
    assert worst_error(found.ruler, pose, lens) < 0.005
    assert found.ruler.mm_per_px == pytest.approx(420 / 750, rel=0.005)
    x, y, w, h = found.ruler.box_mm((100, 50, 200, 100))
    assert (x, y, w, h) == pytest.approx((56, 28, 112, 56), abs=0.6)


def test_a_distorting_lens_needs_more_than_one_view(views):
    """One view through a lens that distorts does not fit a flat board; the message names what is missing."""
    with pytest.raises(CalibrationError, match="5 frames at different angles"):
        measure(views[-1:] * 8, BOARD)


@pytest.mark.parametrize(
    ("picture", "board", "words"),
    [
        (np.full((480, 640), 120, np.uint8), BOARD, "no marker is detected"),
        (None, Board(5, 4, 20.0), "is not on it"),
        (None, Board(24, 12, 20.0), "it has 144. Name the board with --squares"),
        ("blurred", BOARD, "sharp"),
    ],
)
def test_bad_boards_are_refused(views, picture, board, words):
    """No board, another board than was named, a blurred one."""
    if isinstance(picture, str):
        picture = cv2.GaussianBlur(views[-1], (0, 0), 9)
    with pytest.raises(CalibrationError, match=words):
        measure([views[-1] if picture is None else picture], board)


def test_markers_of_another_kind_are_reported():
    """A board from another source looks right to a person."""
    other = cv2.aruco.CharucoBoard((10, 7), 20, 14, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_100))
    sheet = np.pad(other.generateImage((600, 420)), 30, constant_values=255)
    with pytest.raises(CalibrationError, match="another kind: print this one"):
        measure([sheet], BOARD)


def test_bent_board_is_refused():
    """Paper that bulges by a few mm is not a plane: the reprojection error shows it."""
    flat = render(((0, 0, 0), (-100, -70, 420)), np.array([750, 750, 320, 240, 0, 0, 0, 0, 0.0]))
    rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
    bent = cv2.remap(flat, columns + 4 * np.sin(columns / 90), rows, cv2.INTER_LINEAR)
    with pytest.raises(CalibrationError, match="bent"):
        measure([bent], BOARD)


def test_known_length_gives_one_number():
    """The strip's width between its edges, for example."""
    ruler = known_length(1250, (150, 130), (1400, 130))
    assert ruler.mm_per_px == pytest.approx(1.0)
    assert ruler.box_mm((10, 20, 30, 40)) == (10, 20, 30, 40)
    with pytest.raises(CalibrationError, match="far from each other"):
        known_length(10, (5, 5), (6, 6))
    with pytest.raises(CalibrationError, match="the frame has 640x480 px"):
        known_length(100, (0, 0), (5000, 0), SIZE)


def test_board_is_printed_at_its_size(tmp_path):
    """The PNG has its resolution, the page of the PDF is the board with its margin, and the markers are readable."""
    print_board(BOARD, tmp_path / "board.png")
    data = (tmp_path / "board.png").read_bytes()
    assert int.from_bytes(data[41:45], "big") == 11811  # pixels per m: 300 dpi
    picture = cv2.imread(str(tmp_path / "board.png"), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[1] / 300 * 25.4 == pytest.approx(220, abs=0.2)
    assert measure([cv2.resize(picture, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)], BOARD).rms_px < 0.3
    print_board(BOARD, tmp_path / "board.pdf")
    pdf = (tmp_path / "board.pdf").read_bytes()
    box = [float(n) for n in pdf.partition(b"/MediaBox [")[2].partition(b"]")[0].split()]
    assert [n / 72 * 25.4 for n in box[2:]] == pytest.approx([220, 160], abs=0.2)
    start = int(pdf.rpartition(b"startxref\n")[2].split()[0])
    assert pdf[start : start + 4] == b"xref"
    with pytest.raises(CalibrationError, match="longer than the 1500"):
        print_board(Board(20, 20, 500), tmp_path / "huge.pdf")
    with pytest.raises(CalibrationError, match=r"\.pdf or \.png"):
        print_board(BOARD, tmp_path / "board.doc")


def test_picture_shows_corners_and_grid(views):
    """An overlay of the frame's size, in colour."""
    picture = overlay(views[-1], BOARD, measure(views, BOARD).ruler)
    assert picture.shape == (480, 640, 3)
    assert (picture[..., 0] != picture[..., 1]).sum() > 500
    line = overlay(np.full((480, 640), 90, np.uint8), BOARD, Ruler(0.1), ((50, 60), (450, 60)))
    assert line[60, 250].tolist() == [80, 220, 80]


def test_command_measures_and_the_camera_uses_it(views, tmp_path):
    """Frames, file and picture; the camera has the scale of the file unless the configuration has one."""
    (tmp_path / "board").mkdir()
    for number, view in enumerate(views):
        cv2.imwrite(str(tmp_path / "board" / f"{number}.png"), view)
    path = tmp_path / "c.yaml"
    content = {"node": "n", "state_dir": "var", "cameras": [{"name": "top", "source": "board"}]}
    path.write_text(yaml.safe_dump(content))

    def call(*args):
        return CliRunner().invoke(main, ["calibrate", "scale", "-c", str(path), *args], catch_exceptions=False)

    result = call("--source", str(tmp_path / "board"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["views"] == 6
    assert (tmp_path / "var/calibration/top.scale.png").exists()
    camera = calibrated_camera(path)
    assert worst_error(Ruler.of(camera.scale), FLAT) < 0.005
    assert call("--source", str(tmp_path / "board"), "--squares", "5x4").exit_code == 1
    assert call("--length-mm", "100").exit_code == 2
    assert call("--length-mm", "100", "--points", "0,0,200,0", "--source", str(tmp_path / "board/5.png")).exit_code == 0
    assert calibrated_camera(path).scale == config.Scale(mm_per_px=0.5)
    assert call("--print", str(tmp_path / "b.pdf"), "--dry-run").exit_code == 0
    assert not (tmp_path / "b.pdf").exists()
    printed = call("--print", str(tmp_path / "b.pdf"), "--json")
    assert (printed.exit_code, json.loads(printed.stdout)) == (0, {"written": [str(tmp_path / "b.pdf")]})
