"""How well `extent_px` locates a defect, compared with boxes drawn by people and with the generated strip's truth.

    python tests/bench/defect_extent.py FOLDER     # normal-steel/{cr7-det,severstal}, neu-cls/valid, neu-det/boxes.json

Pictures: the overlap (intersection over union) of a region's tiles, of the pixels that stand out (the tiles where none
does) and of its extent with the boxes of which more than half lies in its tiles; intervals over pictures. Strip: length
and place of closed defects, with tiles of 50 mm and a known speed.
"""

from __future__ import annotations

import itertools
import json
import sys
from functools import partial, reduce
from pathlib import Path

import cv2
import numpy as np
from intervals import resampled
from pydantic import SecretStr

from edge import config
from edge.camera.simulator_defaults import described
from edge.camera.sources.simulator import Strip
from edge.coverage.strip_position import PositionTracker
from edge.host.clock import NS_PER_S, SystemClock
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.boxes import overlap_px, union, within
from edge.vision.defect_extent import extent
from edge.vision.inspector import Inspector
from edge.vision.metrology import Heading, Ruler
from edge.vision.tracker import Tracker

SHIPPED = Path(__file__).parents[2] / "config.yaml"
FRAMES = 6000


def inspector_of(camera):
    return Inspector(camera, Classifier(bundle.load("builtin"), network="student.int8.onnx"), SystemClock())


def iou(a, b):
    """Intersection over union."""
    common = overlap_px(a, b)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def labelled(folder):
    """{picture: its boxes} of a folder with labels.json."""
    entries = json.loads((folder / "labels.json").read_text())
    return {folder / name: entry.get("boxes", ()) for name, entry in entries.items()}


def neu_valid(folder):
    """The same for the pictures of NEU with which the training was only checked."""
    boxes = json.loads((folder / "neu-det" / "boxes.json").read_text())
    return {path: boxes.get(path.stem, ()) for path in sorted((folder / "neu-cls" / "valid").glob("*/*.png"))}


def pictures(boxes):
    """Of each region that shows a box: overlap of the tiles, of what stands out, of the extent; and its picture."""
    camera = config.Camera(name="top", source=SecretStr("0"))
    inspector, found, shown = inspector_of(camera), [], []
    for path, entry in boxes.items():
        drawn = [(x, y, right - x, bottom - y) for _, x, y, right, bottom in entry]
        if not drawn:
            continue
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for region in inspector.inspect_alone(image).detections.regions:
            inside = [box for box in drawn if overlap_px(box, region.box_px) > 0.5 * box[2] * box[3]]
            if inside:
                truth = within(reduce(union, inside), region.box_px)
                pixels = extent(image, region, camera.tile_px)
                found.append([iou(box or region.box_px, truth) for box in (region.box_px, pixels, region.extent_px)])
                shown.append(path)
    return np.array(found), np.array(list(map(str, shown)))


def strip(frames=FRAMES):
    """[(error of the near end, of the length)], mm, of each closed defect of the shipped configuration's strip."""
    settings = described(config.load(SHIPPED))
    (camera,) = settings.cameras
    travel, heading = PositionTracker(settings.travel, 0), Heading.of(Ruler.of(camera.scale), camera.direction)
    steel, ids, inspector = Strip.from_url(camera.source.get_secret_value()), itertools.count(), inspector_of(camera)
    tracker, truths, errors = Tracker(camera.decision, camera.tile_px, lambda: str(next(ids))), {}, []
    for n in range(frames):
        at_ns = int(n / camera.fps * NS_PER_S)
        place = partial(heading.span, frame_px=(steel.width, steel.height), position=travel.at(at_ns))
        truths |= {defect.track: defect.box for defect, _ in steel.truth(n)}
        for change in tracker.step(inspector.inspect_alone(steel.frame(n)).detections, at_ns, place=place):
            if change.type == "defect.closed":
                near_mm = change.span.near.position.m * 1000
                _, y, _, h = min(truths.values(), key=lambda box: abs(box[1] * camera.scale.mm_per_px - near_mm))
                mm = camera.scale.mm_per_px
                errors.append((near_mm - y * mm, change.span.length_mm - h * mm))
    return np.abs(errors)


def write(text):
    sys.stderr.write(f"{text}\n")


def main(folder):
    cv2.setNumThreads(1)
    steel = folder / "normal-steel"
    for name, boxes in (
        ("NEU, valid", neu_valid(folder)),
        ("CR7", labelled(steel / "cr7-det")),
        ("Severstal", labelled(steel / "severstal")),
    ):
        found, shown = pictures(boxes)
        columns = zip(("tiles", "pixels that stand out", "extents"), found.T, strict=True)
        means = "; ".join(f"{what} {resampled(shown, lambda at, v=v: v[at].mean())}" for what, v in columns)
        write(f"{name}, {len(found)} regions: overlap with the drawn boxes: {means}")
    for what, values in zip(("place", "length"), strip().T, strict=True):
        median, high = np.quantile(values, (0.5, 0.9))
        error = f"median {median:.2f} mm, nine of ten below {high:.1f}"
        write(f"strip, {len(values)} closed defects: error of {what}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
