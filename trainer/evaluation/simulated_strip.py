"""The simulated strip as the daemon sees it: false tiles, and for how long each defect is recognised."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge.camera.sources.simulator import Strip
from edge.model.classifier import Classifier
from edge.vision.tiles import lay
from trainer.evaluation.evaluate import CONFIDENCE, verdicts


def measure_strip(
    classifier: Classifier, strip: Strip, frames: range, *, temperature: float, overlap: float = 0.1
) -> dict[str, Any]:
    """Counts over the frames of a simulated strip.

    A tile is defect-free if it touches no box. A frame recognises a defect if the most confident of the tiles that
    meet the defect's box names its class with at least CONFIDENCE.
    """
    card = classifier.card
    grid = lay((strip.height, strip.width), tile_px=card.tile_px, input_px=card.input_px, overlap=overlap)
    good, false, unsure, highest = 0, 0, 0, 0.0
    complete: set[int] = set()
    runs: dict[int, tuple[int, int]] = {}
    wrong_frames = 0
    for n in frames:
        probabilities = classifier.score(grid.cut(strip.frame(n))).probabilities(temperature)
        visible = strip.truth(n)
        meets = {d.track: _meeting(grid.boxes, box) for d, box in visible}
        clean = ~np.any([*meets.values(), np.zeros(len(grid), bool)], axis=0)
        tile_defect, tile_unsure = verdicts(probabilities)
        good, false = good + int(clean.sum()), false + int((tile_defect & clean).sum())
        unsure += int((tile_unsure & clean).sum())
        highest = max(highest, float(probabilities[clean].sum(1).max(initial=0)))
        for defect, box in visible:
            near = probabilities[meets[defect.track]]
            best = near[near.max(1).argmax()]
            predicted = card.classes[int(best.argmax())]
            confident = float(best.max()) >= CONFIDENCE
            longest, run = runs.get(defect.track, (0, 0))
            run = run + 1 if confident and predicted == defect.class_name else 0
            runs[defect.track] = max(longest, run), run
            wrong_frames += int(confident and predicted != defect.class_name)
            if box[3] == defect.box[3]:  # the frame shows the whole length of the defect
                complete.add(defect.track)
    longest_runs = [runs[track][0] for track in complete]
    return {
        "frames": len(frames),
        "sound_tiles": good,
        "sound_tiles_defect": false,
        "sound_tiles_unsure": unsure,
        "highest_defect_probability_on_sound": round(highest, 4),
        "defects": len(longest_runs),
        "defects_right_3_frames_running": sum(run >= 3 for run in longest_runs),
        "shortest_run_frames": min(longest_runs, default=0),
        "frames_of_wrong_class": wrong_frames,
    }


def _meeting(boxes: npt.NDArray[np.int32], box: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    x, y, w, h = box
    left, top, right, bottom = boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    return np.asarray((left < x + w) & (x < right) & (top < y + h) & (y < bottom))
