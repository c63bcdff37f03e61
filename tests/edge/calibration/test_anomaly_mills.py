"""Real steel of two mills, as a user does it: calibrate on half of the good pictures, inspect the rest."""

import json
from pathlib import Path

import cv2
import normal_surface
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edge.calibration.binomial import interval
from edge.cli import main

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "normal-steel"
AUROC = {"cr7-det": 0.95, "severstal": 0.85}
RECALL = {"cr7-det": 0.9, "severstal": 0.5}
"""Of defective tiles, with a false alarm rate of 5 %; Severstal has 25 tiles to calibrate with."""


@pytest.fixture(scope="module", params=sorted(AUROC))
def mill(request, tmp_path_factory):
    """Name and folder: good tiles for the calibration, other good tiles, and defective tiles from other frames."""
    if not DATA.is_dir():
        pytest.skip("no pictures of good surface beside the repository: shared/data/normal-steel")
    good, bad = normal_surface.crops(DATA / request.param)
    frames = sorted({frame for _, frame in good})
    chosen = set(np.random.default_rng(0).permutation(frames)[: len(frames) // 2])
    folder = tmp_path_factory.mktemp(request.param)
    for name, tiles in (
        ("calibrate", [one for one in good if one[1] in chosen]),
        ("good", [one for one in good if one[1] not in chosen]),
        ("defects", [one for one in bad if one[1] not in chosen]),
    ):
        (folder / name).mkdir()
        for number, (tile, frame) in enumerate(sorted(tiles, key=lambda one: one[1])):
            cv2.imwrite(str(folder / name / f"{Path(frame).stem}-{number:04d}.png"), tile)
    return request.param, folder


def command(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.stdout


def inspected(config, folder):
    """The score of every tile in units of the threshold."""
    lines = [json.loads(line) for line in command("inspect", "-c", config, "--json", folder).splitlines()]
    scores = np.array([line["anomaly"] for line in lines])
    assert [line["state"] == "defect" for line in lines] == (scores > 1).tolist()
    return scores


def test_good_tiles_give_no_more_false_alarms_than_allowed(mill, tmp_path):
    """Within the exact interval for this number of tiles; and defective tiles are separated from good ones."""
    name, folder = mill
    config = tmp_path / "my.yaml"
    camera = {"name": "top", "source": "strip:", "mode": "parts"}
    config.write_text(yaml.safe_dump({"node": "n", "state_dir": str(tmp_path / "var"), "cameras": [camera]}))

    def threshold(asked):
        words = ("--source", folder / "calibrate", "--json", "--false-alarm-rate", asked)
        consent = ("--i-have-looked",) if asked == 0.001 else ()  # 25 tiles do not support a rate of one in a thousand
        printed = command("calibrate", "normal", "-c", config, *words, *consent)
        return json.loads(printed)["promised"]["threshold"]

    thresholds = {asked: threshold(asked) for asked in (0.001, 0.01, 0.05)}  # the last one is in use
    good, defects = (inspected(config, folder / kind) for kind in ("good", "defects"))
    for asked, level in thresholds.items():
        false = int((good > level / thresholds[0.05]).sum())
        assert interval(false, len(good))[0] <= asked
    assert (defects > 1).mean() >= RECALL[name]
    assert normal_surface.auroc(good, defects) >= AUROC[name]
