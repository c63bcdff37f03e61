"""One configuration for all: what the daemon runs with, `inspect -c` inspects with, and calibrations measure with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from fakes.bundles import bundle_of
from fakes.networks import SIDE

from edge import config
from edge.cli import main
from edge.config import calibration, overrides, tuning
from edge.config.calibration import RegionPart, Reliability, ScalePart, ThresholdsPart
from edge.config.camera_calibration import Made
from edge.control.effective_config import MAX_CANARY_STARTS, effective_config, with_calibrations
from edge.control.startup import prepare
from edge.host.clock import SystemClock
from edge.model.store import ActiveModel, Store
from edge.vision.anomaly import AnomalyModel, Gaussians
from edge.vision.learned_file import Model

CLOCK = SystemClock()
SIZE = (12 * SIDE, 4 * SIDE)
"""Width and height of the frames, px."""
CRAZING = {"weights": (9, 0, 0, 0, 0, 0), "offsets": (-2, 0, 0, 0, 0, 0)}
SCRATCHES = {"weights": (0, 0, 0, 0, 0, 9), "offsets": (0, 0, 0, 0, 0, -2)}
PATCHES = {"weights": (0, 0, 9, 0, 0, 0), "offsets": (0, 0, -2, 0, 0, 0)}


class Scene:
    """A node's folder: a configuration, bundles, a state directory, and frames that get brighter to the right."""

    def __init__(self, folder: Path, **camera: Any) -> None:
        self.folder = folder
        self.path = folder / "config.yaml"
        self.configured = bundle_of(folder, "configured", **CRAZING)
        own = {"name": "top", "source": "frames", "tile_px": 2 * SIDE, "overlap": 0.0, "mode": "parts", **camera}
        content = {"node": "n", "model": {"bundle": "vconfigured"}, "cameras": [own]}
        self.path.write_text(yaml.safe_dump(content))
        self.file = config.load(self.path)
        self.store = Store(self.file.state_dir)
        self.file.state_dir.mkdir()
        (folder / "frames").mkdir()
        rng = np.random.default_rng(7)
        for number in range(4):
            ramp = np.linspace(10 + 20 * number, 255, SIZE[0])[None, :].repeat(SIZE[1], 0)
            frame = np.clip(ramp + rng.normal(0, 3, ramp.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "frames" / f"{number}.png"), frame)

    def install(self, version: str, **network: Any) -> str:
        """Install a bundle and let it decide.  Returns its digest."""
        digest = self.store.put(bundle_of(self.folder, version, **network), None, CLOCK)
        before = self.store.active(self.file.model.bundle)
        self.store.write(before.with_canary(digest, {}).promoted())
        return digest

    def change_active(self, **changed: Any) -> None:
        active: ActiveModel = self.store.active(self.file.model.bundle)
        self.store.write(replace(active, **changed))

    def set(self, **thresholds: Any) -> None:
        """Thresholds as the command `set` keeps them."""
        overrides.save(self.file.state_dir, {"top": thresholds})

    def calibrate(self, **parts: Any) -> None:
        calibration.save(self.file.state.calibration("top"), **parts)

    def daemon(self) -> list[dict[str, Any]]:
        """What a daemon that starts now decides about the frames."""
        (session,) = prepare(config.load(self.path), CLOCK).sessions
        found = []
        for path in sorted((self.folder / "frames").iterdir()):
            pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            verdict = session.inspector.inspect(session.inspector.check(pixels, CLOCK.monotonic_ns()))
            regions = [(r.class_name, round(r.confidence, 4), list(r.box_px)) for r in verdict.detections.regions]
            found.append({"state": verdict.state, "tiles": verdict.tiles, "regions": regions})
        return found

    def call(self, *options: str) -> Result:
        arguments = ["inspect", "--json", "-c", str(self.path), *options, str(self.folder / "frames")]
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    def inspect(self, *options: str) -> list[dict[str, Any]]:
        """What `defectd inspect -c` decides about them."""
        done = self.call(*options)
        assert done.exit_code == 0, done.output
        found = []
        for text in done.stdout.splitlines():
            line = json.loads(text)
            regions = [(r["class"], r["confidence"], r["box_px"]) for r in line["regions"]]
            found.append({"state": line["state"], "tiles": line["tiles"], "regions": regions})
        return found


def classes(verdicts: list[dict[str, Any]]) -> set[str]:
    return {name for verdict in verdicts for name, *_ in verdict["regions"]}


def made(frame_px: tuple[int, int] | None = SIZE) -> Made:
    return Made(time="2026-11-22T12:00:00Z", version="1", source="by hand", frames=1, frame_px=frame_px)


def thresholds_for(digest: str, **classes: float) -> ThresholdsPart:
    found = config.CalibratedThresholds(bundle=digest, tile_px=2 * SIDE, classes=classes)
    reliability = Reliability(before=0.1, after=0.1, n=9)
    return ThresholdsPart(levels=found, classes=(), reliability=reliability, sound=9, made=made(None))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_each_model_gives_its_own_class(scene: Scene) -> None:
    """Some tiles are defects, some are not, and the class shows which model decided."""
    verdicts = scene.daemon()
    assert classes(verdicts) == {"crazing"}
    assert all(verdict["tiles"] == 12 for verdict in verdicts)
    assert all(region[2][0] > 0 for verdict in verdicts for region in verdict["regions"])


def installed(scene: Scene) -> None:
    scene.install("second", **SCRATCHES)


def installed_and_damaged(scene: Scene) -> None:
    network = scene.store.folder / scene.install("second", **SCRATCHES) / "student.onnx"
    network.write_bytes(network.read_bytes()[:-9])


def third_damaged(scene: Scene) -> None:
    scene.install("second", **SCRATCHES)
    network = scene.store.folder / scene.install("third", **PATCHES) / "student.onnx"
    network.write_bytes(network.read_bytes()[:-9])


def canary(scene: Scene) -> None:
    scene.install("second", **SCRATCHES)
    scene.change_active(is_canary=True, unclean_starts=MAX_CANARY_STARTS - 1)


def canary_that_kills_the_daemon(scene: Scene) -> None:
    scene.install("second", **SCRATCHES)
    scene.change_active(is_canary=True, unclean_starts=MAX_CANARY_STARTS)


def overridden(scene: Scene) -> None:
    scene.set(confidence=0.95)


def overridden_class(scene: Scene) -> None:
    scene.install("second", **SCRATCHES)
    scene.set(classes={"scratches": 0.98}, unsure=0.1)


def calibrated_region(scene: Scene) -> None:
    scene.calibrate(roi=RegionPart(roi=(4 * SIDE, 0, 8 * SIDE, 4 * SIDE), made=made()))


def calibrated_for_other_frames(scene: Scene) -> None:
    scene.calibrate(roi=RegionPart(roi=(0, 0, 64, 64), made=made((640, 480))))


def calibrated_thresholds(scene: Scene) -> None:
    scene.calibrate(thresholds=thresholds_for(scene.install("second", **SCRATCHES), scratches=0.97))


def calibrated_thresholds_of_another_model(scene: Scene) -> None:
    scene.calibrate(thresholds=thresholds_for("a" * 64, crazing=0.97))


def all_of_them(scene: Scene) -> None:
    digest = scene.install("second", **SCRATCHES)
    scene.calibrate(
        roi=RegionPart(roi=(2 * SIDE, 0, 10 * SIDE, 4 * SIDE), made=made()),
        scale=ScalePart(scale=config.Scale(mm_per_px=0.5), made=made()),
        thresholds=thresholds_for(digest, scratches=0.9),
    )
    scene.set(unsure=0.2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (installed, {"scratches"}),
        (installed_and_damaged, {"crazing"}),
        (third_damaged, {"scratches"}),
        (canary, {"scratches"}),
        (canary_that_kills_the_daemon, {"crazing"}),
        (overridden, {"crazing"}),
        (overridden_class, {"scratches"}),
        (calibrated_region, {"crazing"}),
        (calibrated_for_other_frames, set()),
        (calibrated_thresholds, {"scratches"}),
        (calibrated_thresholds_of_another_model, {"crazing"}),
        (all_of_them, {"scratches"}),
    ],
)
def test_inspect_decides_as_the_daemon_would(scene: Scene, change: Any, named: set[str]) -> None:
    """Installed model, overrides, calibrations: the same frames get the same verdicts."""
    plain = scene.daemon()
    change(scene)
    verdicts = scene.inspect()
    assert verdicts == scene.daemon()
    assert classes(verdicts) == named
    unchanged = (installed_and_damaged, canary_that_kills_the_daemon)
    assert (verdicts == plain) == (change in (*unchanged, calibrated_thresholds_of_another_model))


def test_inspect_takes_a_tile_side_from_the_calibrated_scale(tmp_path: Path) -> None:
    """`tile_mm` needs a scale: by the calibration, or by what a generated strip knows."""
    scene = Scene(tmp_path, tile_mm=SIDE, tile_px=200)
    scene.calibrate(scale=ScalePart(scale=config.Scale(mm_per_px=0.5), made=made()))
    assert scene.inspect() == scene.daemon()
    assert scene.inspect()[0]["tiles"] == 12


def test_inspect_reports_an_installed_model_that_is_not_used(scene: Scene) -> None:
    """A person who tries thresholds has to know which model decides."""
    installed_and_damaged(scene)
    assert "the installed model is not used" in scene.call().stderr


def test_bundle_option_overrides_the_installed_model(scene: Scene) -> None:
    """Overrides and regions still apply; calibrations of another model do not, and a message reports it."""
    scene.calibrate(
        roi=RegionPart(roi=(4 * SIDE, 0, 8 * SIDE, 4 * SIDE), made=made()),
        thresholds=thresholds_for(scene.install("second", **SCRATCHES), scratches=0.99, patches=0.99),
    )
    scene.set(unsure=0.1)
    bundle_of(scene.folder, "candidate", **PATCHES)
    option = ("--bundle", str(scene.folder / "vcandidate"))
    verdicts = scene.inspect(*option)
    assert classes(verdicts) == {"patches"}
    assert verdicts[0]["tiles"] == 8
    stderr = scene.call(*option).stderr
    assert "calibrated thresholds are for another model" in stderr
    scene.file = config.load(scene.path)
    scene.calibrate(thresholds=thresholds_for("b" * 64))
    assert scene.inspect(*option) == verdicts, "at the thresholds of the configuration"


def test_bundle_option_is_honoured_although_it_is_the_builtin_one(scene: Scene) -> None:
    """The name of the default is a bundle like any other."""
    scene.install("second", **SCRATCHES)
    assert "scratches" not in classes(scene.inspect("--bundle", str(scene.folder / "vconfigured")))
    assert scene.call("--bundle", "builtin").exit_code == 0


def test_bundle_option_leaves_out_the_anomaly_model_of_another_network(tmp_path: Path) -> None:
    """The daemon refuses to start with it; to try a bundle the classes decide, and a message reports it."""
    other = tmp_path / "other.npz"
    surface = Gaussians(
        ("features",),
        np.array([0]),
        np.eye(2, dtype=np.float32),
        np.zeros(2, np.float32),
        np.ones(1, np.float32),
        np.ones(1, np.float32),
    )
    other.write_bytes(AnomalyModel(Model("tiny", "other", "c" * 64), surface, 2.0, 1.5).coded())
    scene = Scene(tmp_path, anomaly=["other.npz"])
    assert scene.call().exit_code == 78
    bundle_of(tmp_path, "candidate", **PATCHES)
    done = scene.call("--bundle", str(tmp_path / "vcandidate"))
    assert done.exit_code == 0
    assert "the classes decide" in done.stderr


def test_tuning_of_this_machine_holds_for_the_model_that_decides(scene: Scene) -> None:
    """Batch and threads are those that were measured for its bundle, and never part of the configuration's hash."""
    digest = scene.install("second", **SCRATCHES)
    before = effective_config(scene.file, CLOCK)
    row = tuning.Timed(precision="fp32", threads=2, batch=7, calm_ms=1, p50_ms=1, p95_ms=1, p99_ms=1, n=20)
    found = tuning.Tuning(
        schema=tuning.SCHEMA,
        place=tuning.here(digest),
        camera="top",
        tiles=12,
        chosen=row,
        rows=(row,),
        parity=tuning.Parity(tiles=9, defects=1, moved=0, contradicted=0),
        made=made(),
    )
    tuning.save(scene.file.state.tuning, found)
    effective = effective_config(scene.file, CLOCK)
    assert (before.model.classifier.batch, effective.model.classifier.batch) == (32, 7)
    assert effective.settings.sha256 == before.settings.sha256


def test_what_was_configured_is_kept_beside_what_commands_changed(scene: Scene) -> None:
    """`set` with null goes back to it."""
    scene.set(confidence=0.9)
    effective = effective_config(scene.file, CLOCK)
    assert effective.overrides == {"top": {"confidence": 0.9}}
    assert effective.settings.cameras[0].decision.confidence == 0.9
    assert effective.configured.cameras[0].decision.confidence == 0.6
    assert effective.configured == with_calibrations(scene.file)


def test_running_node_keeps_its_model_and_its_state_directory(scene: Scene) -> None:
    """What a running node cannot take over is named, and stays as it is."""
    scene.set(confidence=0.9)
    running = effective_config(scene.file, CLOCK)
    content = yaml.safe_load(scene.path.read_text())
    content |= {"state_dir": "elsewhere", "report_s": 3}
    scene.path.write_text(yaml.safe_dump(content))
    scene.install("second", **SCRATCHES)
    wanted = effective_config(config.load(scene.path), CLOCK, model=running.model, running=running.configured)
    assert wanted.needs_restart == ("state_dir",)
    assert (wanted.settings.state_dir, wanted.settings.report_s) == (running.settings.state_dir, 3)
    assert wanted.model is running.model
    assert wanted.overrides == running.overrides
