"""The fastest settings of the network on a machine: candidates, choice, capacity, and where the result holds."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.bundles import bundle, with_int8, write_bundle
from fakes.clock import FakeClock
from fakes.networks import network
from pydantic import SecretStr

from edge import config
from edge.calibration import latency
from edge.calibration.latency import RunSettings, best, capacity_at, combinations, measure, parity
from edge.camera.sources.simulator import Strip
from edge.cli import main
from edge.config import tuning
from edge.config.camera_calibration import Made
from edge.config.state_dir import StateDir
from edge.errors import CalibrationError
from edge.host.clock import SystemClock
from edge.model.bundle import load

WEIGHTS, OFFSETS = (0, 0, 0, 0, 0, 40), (0, 0, 0, 0, 0, -17)
"""Bright tiles are scratches, dark ones anything, those between unsure."""
FRAMES = [Strip(width=256, height=64).frame(n) for n in range(3)]


def camera(**keys):
    return config.Camera(name="top", source=SecretStr("strip:"), tile_px=32, **keys)


def timed(precision, threads, batch, ms):
    return tuning.Timed(
        precision=precision, threads=threads, batch=batch, calm_ms=ms, p50_ms=ms, p95_ms=ms, p99_ms=ms, n=20
    )


def test_threads_up_to_the_cores_and_batches_up_to_a_frame_are_tried():
    """The simplest combination first; their number is bounded."""
    tried = combinations(["fp32", "int8"], 3, 18)
    assert tried[0] == RunSettings("fp32", 1, 1)
    assert {one.threads for one in tried} == {1, 2, 3}
    assert {one.batch for one in tried} == {1, 4, 8, 18}
    assert len(tried) == 3 * 2 * 4
    assert len(combinations(["fp32", "int8"], 128, 2000)) < 120


def test_the_fastest_wins_unless_a_simpler_one_is_almost_as_fast():
    """Within 5 %, fp32 and the smaller batch are preferred."""
    rows = [timed("fp32", 1, 8, 2.0), timed("int8", 1, 8, 1.03), timed("int8", 1, 18, 1.0)]
    assert best(rows) == rows[1]
    assert best([*rows, timed("fp32", 1, 18, 1.04)]).precision == "fp32"


def test_more_threads_must_save_much():
    """They take time from the cameras: a tenth is not enough, a third is."""
    one, two = timed("int8", 1, 18, 1.0), timed("int8", 2, 18, 0.9)
    assert best([one, two]) == one
    assert best([one, timed("int8", 2, 18, 0.66)]).threads == 2


@pytest.mark.parametrize(
    ("int8", "why"),
    [
        (None, "no int8"),
        ({"weights": WEIGHTS, "offsets": OFFSETS}, None),
        ({"weights": (40, 0, 0, 0, 0, 0), "offsets": (-17, 0, 0, 0, 0, 0)}, "contradicts"),
        ({"weights": WEIGHTS, "offsets": (0, 0, 0, 0, 0, -17.6)}, "moves"),
    ],
)
def test_int8_counts_only_where_it_gives_the_same_verdicts(int8, why):
    """On tiles of the camera and of the generated strip; its self-test alone would accept all of these."""
    made = bundle(weights=WEIGHTS, offsets=OFFSETS)
    if int8 is not None:
        made = with_int8(made, network(**int8), tolerance=1, logits=own_logits(int8))
    found = parity(made, camera(), FRAMES, FakeClock())
    assert (found.why_not is None) == (why is None)
    assert why is None or why in found.why_not
    if int8 is not None:
        assert found.tiles > 100
        assert 0 < found.defects < found.tiles


def own_logits(options):
    """Logits of a network for the tiles of its self-test, whose mean is about a half."""
    made = bundle(**options)
    return made.card.selftest.logits


def test_int8_that_fails_its_self_test_is_left_out_with_the_reason():
    """As on a processor whose integer kernels overflow."""
    made = bundle()
    found = parity(with_int8(made, network(offsets=(5,) * 6)), camera(), FRAMES, FakeClock())
    assert "self-test failed" in found.why_not


def test_every_combination_is_timed_in_every_round():
    """The same n for each, a call per round, and the time limit ends them after the minimum of rounds."""
    wanted, calls = combinations(["fp32"], 2, 8), []
    rows = measure(
        bundle(), camera(), FRAMES, SystemClock(), wanted, rounds=500, limit_s=1e-6, on_round=lambda: calls.append(1)
    )
    assert [RunSettings(row.precision, row.threads, row.batch) for row in rows] == wanted
    assert {row.n for row in rows} == {20} == {len(calls)}
    assert all(0 < row.calm_ms <= row.p50_ms <= row.p99_ms for row in rows)


def test_frames_that_show_no_surface_are_not_timed():
    """They end before the network: their time would measure nothing."""
    with pytest.raises(CalibrationError, match="bad images"):
        measure(bundle(), camera(), [FRAMES[0] * 0], SystemClock(), [RunSettings("fp32", 1, 8)], rounds=20, limit_s=1)


@pytest.mark.parametrize(("holds", "tried"), [(0, [1, 1]), (1, [1, 2, 2]), (5, [1, 2, 4, 8, 8, 6, 6, 5]), (99, None)])
def test_the_most_cameras_are_found_by_doubling_and_halving(holds, tried):
    """A number that fails is tried twice; the search ends."""
    counts = []

    def run(count):
        counts.append(count)
        verdict = "stable" if count <= holds else "failing"
        return SimpleNamespace(verdict=verdict, stages={"total": SimpleNamespace(p99=3.0, n=150)})

    found = capacity_at(run, 30.0)
    assert found.cameras == min(holds, latency.MAX_CAMERAS)
    assert found.at_least == (holds == 99)
    assert tried is None or counts == tried


def test_one_bad_moment_does_not_reduce_the_capacity():
    """The second measurement decides."""
    verdicts = iter(["failing", "stable", "failing", "failing"])
    load = {"stages": {"total": SimpleNamespace(p99=3.0, n=150)}}
    assert capacity_at(lambda _count: SimpleNamespace(verdict=next(verdicts), **load), 10.0).cameras == 1


# ---- the result, and where it holds ---------------------------------------------------------------


def kept(digest, **place):
    here = tuning.here(digest).model_copy(update=place)
    row = timed("int8", 2, 18, 1.0)
    made = Made(time="2026-11-22T12:00:00Z", version="1", source="x", frames=1, frame_px=(256, 64))
    agreed = tuning.Parity(tiles=9, defects=1, moved=0, contradicted=0)
    return tuning.Tuning(
        schema=tuning.SCHEMA, place=here, camera="top", tiles=18, chosen=row, rows=(row,), parity=agreed, made=made
    )


def fitted(tmp_path, digest="d", **model):
    found = tuning.fitted(config.Model(**model), digest, tmp_path)
    return found.precision, found.threads, found.batch


def test_the_result_fills_the_keys_that_the_configuration_leaves_open(tmp_path):
    """Only those: values of the configuration override it."""
    assert fitted(tmp_path) == ("auto", None, None)
    tuning.save(StateDir(tmp_path).tuning, kept("d"))
    assert fitted(tmp_path) == ("int8", 2, 18)
    assert fitted(tmp_path, precision="fp32", threads=1, batch=4) == ("fp32", 1, 4)
    assert fitted(tmp_path, batch=4) == ("int8", 2, 4)


@pytest.mark.parametrize(
    "place", [{"processor": "another"}, {"cores": 777}, {"onnxruntime": "0.1"}, {"bundle": "another"}]
)
def test_a_result_from_elsewhere_is_not_used(tmp_path, caplog, place):
    """Another processor, onnxruntime or model: the log names the command to calibrate again."""
    tuning.save(StateDir(tmp_path).tuning, kept("d", **place))
    assert fitted(tmp_path) == ("auto", None, None)
    assert "calibrate latency" in caplog.text
    assert next(iter(map(str, place.values()))) in caplog.text


def test_a_damaged_file_does_not_prevent_the_start(tmp_path, caplog):
    """The daemon runs with default settings and logs the reason."""
    path = StateDir(tmp_path).tuning
    path.parent.mkdir()
    path.write_text("schema: defectd.tuning/1\nplace: 3\n")
    assert fitted(tmp_path) == ("auto", None, None)
    assert "place" in caplog.text


# ---- the command --------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    """A configuration with a tiny bundle, and recorded frames."""
    made = bundle(weights=WEIGHTS, offsets=OFFSETS)
    described = made.card.model_dump(mode="json", by_alias=True)
    write_bundle(tmp_path / "bundle", made.networks["student.onnx"], described)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(FRAMES):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), frame)
    settings = {
        "node": "n",
        "state_dir": str(tmp_path / "var"),
        "model": {"bundle": str(tmp_path / "bundle")},
        "cameras": [{"name": "top", "source": str(tmp_path / "frames"), "tile_px": 32}],
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def calibrated(site, *more):
    where = ["--source", str(site / "frames"), "-c", str(site / "c.yaml")]
    return CliRunner().invoke(main, ["calibrate", "latency", *where, "--rounds", "20", "--no-hold", *more])


def test_the_command_writes_the_settings_of_the_next_start(site):
    """The file, a picture beside it, and the settings of the network from it."""
    done = calibrated(site, "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    path = StateDir(site / "var").tuning
    found = tuning.load(path)
    assert printed["written"] == [str(path), str(path.with_name("node.latency.png"))]
    assert printed["chosen"]["batch"] == found.chosen.batch
    assert found.made.frame_px == (256, 64)
    assert cv2.imread(str(path.with_name("node.latency.png"))).shape[1] == 900
    digest = load(site / "bundle").digest
    assert tuning.fitted(config.Model(), digest, site / "var").batch == found.chosen.batch


def test_a_dry_run_and_an_interrupted_one_write_nothing(site, monkeypatch):
    """Neither file nor picture."""
    assert "dry run" in calibrated(site, "--dry-run").stderr

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(latency, "chart", interrupted)
    assert calibrated(site).exit_code == 1
    assert not (site / "var" / "calibration").exists()


def test_values_of_the_configuration_are_reported(site):
    """A note reports that they override the result."""
    settings = yaml.safe_load((site / "c.yaml").read_text())
    settings["model"]["threads"] = 1
    (site / "c.yaml").write_text(yaml.safe_dump(settings))
    assert "model.threads: 1, which overrides" in calibrated(site, "--dry-run").stderr


def test_the_chart_shows_every_combination():
    """One bar each, also where one bad moment is a hundred times longer than the rest."""
    rows = [timed("fp32", 1, 8, 1.0), timed("int8", 1, 8, 0.5), timed("int8", 2, 8, 90.0)]
    drawn = latency.chart(rows, rows[1])
    bars = [drawn[40 + 22 * n + 8, 250:].astype(int) for n in range(3)]
    assert all(np.ptp(bar, axis=1).max() > 50 for bar in bars)
