"""Real steel of two mills, as a user does it: calibrate on half of the good pictures, inspect what is left."""

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
"""Of tiles with a defect, where 5 of 100 good ones may be called one; 25 tiles of Severstal calibrate."""


@pytest.fixture(scope="module", params=sorted(AUROC))
def mill(request, tmp_path_factory):
    """Name, and folders of good tiles for calibration, of others, and of tiles with a defect from other frames."""
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
    """Every tile's score in units of the threshold, and whether it was called a defect."""
    lines = [json.loads(line) for line in command("inspect", "-c", config, "--json", folder).splitlines()]
    scores = np.array([line["anomaly"] for line in lines])
    assert [line["state"] == "defect" for line in lines] == (scores > 1).tolist()
    return scores


def test_good_tiles_are_called_defects_no_more_often_than_asked(mill, tmp_path):
    """Within the exact interval of as many tiles; and defects are told from good tiles."""
    name, folder = mill
    config = tmp_path / "my.yaml"
    camera = {"name": "top", "source": "strip:", "mode": "parts"}
    config.write_text(yaml.safe_dump({"node": "n", "state_dir": str(tmp_path / "var"), "cameras": [camera]}))

    def threshold(asked):
        said = command(
            "calibrate", "normal", "-c", config, "--source", folder / "calibrate", "--json", "--false-alarm-rate", asked
        )
        return json.loads(said)["promised"]["threshold"]

    thresholds = {asked: threshold(asked) for asked in (0.001, 0.01, 0.05)}  # the last one is in use
    good, defects = (inspected(config, folder / kind) for kind in ("good", "defects"))
    for asked, level in thresholds.items():
        false = int((good > level / thresholds[0.05]).sum())
        assert interval(false, len(good))[0] <= asked
    assert (defects > 1).mean() >= RECALL[name]
    assert normal_surface.auroc(good, defects) >= AUROC[name]
