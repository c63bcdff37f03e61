"""How exact the width of the strip is.

    python tests/bench/strip_width.py [FRAMES] [FOLDER]     # FOLDER holds severstal/, line-scan frames with an edge

Generated strip with a wandering, tapering edge: the error of single frames and of samples of one meter, px. Line-scan
frames: each is moved by known parts of a pixel, and the edge must move as far; they show one edge each, so no width.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from edge.camera.sources.simulator import Strip
from edge.config.camera_calibration import Track
from edge.coverage.width_curve import WidthCurve
from edge.vision import strip_edges
from edge.vision.strip_edges import NEW_FRAMES, StripFollower, locate


def errors(noise: float, frames: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, float]:
    """Errors of frames and of meters (1 px is 1 mm here: 1000 rows), px; and the share of frames with a width."""
    strip = Strip(
        width=1600, height=256, seed=seed, speed_px=200, noise=noise, border_px=160, wander_px=60.0, taper_px=80.0
    )
    track = Track(seen_px={"left": (100.0, 260.0), "right": (1340.0, 1500.0)}, margin_px=4)
    follower, curve = StripFollower(track, (270, 0, 1060, 256)), WidthCurve()
    single, whole, truths = [], [], {}
    for number in range(frames):
        follower.step(strip.frame(number))
        top = number * strip.speed_px
        left, right = strip.edges(np.array([top + 127.5]))
        truth = float(right[0] - left[0])
        first, last = follower.edges["left"], follower.edges["right"]
        if number < NEW_FRAMES or first.state != "seen" or last.state != "seen":
            continue
        truths.setdefault(int((top + 128) / 1000), []).append(truth)
        width = last.middle_px - first.middle_px
        single.append(width - truth)
        sample = curve.add(width, None, (top + 128) / 1000, 0)
        if sample is not None:
            whole.append(sample.median_mm - float(np.median(truths[int(sample.at_m)])))
    return np.array(single), np.array(whole), len(single) / (frames - NEW_FRAMES)


def moved_edges(folder: Path) -> tuple[np.ndarray, int]:
    """Errors of known movements of real edges, px, and the number of frames with an edge."""
    found, frames = [], 0
    for path in sorted(folder.glob("severstal/frames*/*.jpg")):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        height, width = picture.shape
        level = strip_edges._brightness_of_strip(picture)
        whole = {"left": (0, width), "right": (0, width)}
        places = {side: place for side, place in locate(picture, whole, level).items() if place is not None}
        frames += bool(places)
        for side, place in places.items():
            near = {side: (max(0, int(place.innermost_px) - 40), min(width, int(place.innermost_px) + 40))}
            start = locate(picture, near, level)[side]
            for off in (0.25, 0.5, 1.0, 1.75, 3.4, 7.6, -0.5, -2.3, -6.2):
                move = np.float32([[1, 0, off], [0, 1, 0]])
                other = cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
                after = locate(other, near, level)[side]
                if start is not None and after is not None:
                    found.append(after.middle_px - start.middle_px - off)
    return np.array(found), frames


def main(frames: int, folder: Path | None) -> None:
    for noise in (0.0, 2.0, 4.0):
        single, whole, share = errors(noise, frames)
        for name, found in (("frames", single), ("meters", whole)):
            off = np.abs(found)
            sys.stdout.write(
                f"noise {noise:g}: {name} n = {len(found)}, bias {found.mean():+.3f} px, "
                f"95 % within {np.quantile(off, 0.95):.2f} px, worst {off.max():.2f} px"
                + (f", {100 * share:.1f} % of the frames" if name == "frames" else "")
                + "\n"
            )

    if folder is not None:
        found, count = moved_edges(folder)
        off = np.abs(found)
        sys.stdout.write(
            f"line-scan: {count} frames, n = {len(found)} movements, bias {found.mean():+.3f} px, "
            f"median {np.median(off):.2f} px, 95 % within {np.quantile(off, 0.95):.2f} px, worst {off.max():.2f} px\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
