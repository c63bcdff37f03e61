"""The pictures of the documentation, from a real daemon: every page, light and dark, on a phone and on a wall.

    PYTHONPATH=. python tests/web/make_pictures.py [--out docs/web] [--seconds 170] [--only live,label]

Starts a node with two cameras over generated strips and two neighbours at its broker, runs a coil for some time with
holes in its coverage, gives labels, and writes docs/web/PAGE-light.png, PAGE-dark.png, PAGE-phone.png, and
live-wall.png. Needs Chromium, Playwright and Pillow.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TESTS = Path(__file__).resolve().parents[1]
for folder in (TESTS, TESTS / "system", TESTS / "web"):
    sys.path.insert(0, str(folder))

from chromium import DESK, PATIENCE_MS, PHONE, chromium  # noqa: E402
from fakes.ports import free_port  # noqa: E402
from node import Node  # noqa: E402
from page_node import PageNode  # noqa: E402

WALL = {"width": 1440, "height": 900}
EXACT = 24
COLOURS = 100
GRAY = 24
"""Of the palette: so many colours as they are, so many grays and so many others; the most chroma of a gray."""
PAGES = ("live", "coils", "events", "evidence", "label", "calibrate", "model", "node", "fleet")
STRIP = "strip:?width=1600&height=256&mm_per_px=0.75&speed_px=40&spacing_px=1400&border_px=48&seed="
CAMERA = {"fps": 12, "budget_ms": 200, "operator_side": "left", "across_at_mm": -36, "ring_frames": 32}
REGION = {"shape": [[56, 0], [1544, 0], [1544, 256], [56, 256]], "exclude": []}
CAMERAS = [
    {"name": "top", "source": f"{STRIP}3", "surface": "top", **CAMERA},
    {"name": "bottom", "source": f"{STRIP}8&classes=pitted_surface,inclusion,scratches", "surface": "bottom", **CAMERA},
]
GRADING = [
    {
        "product": "sheet",
        "coils": ["*"],
        "severity": [
            {"classes": ["scratches"], "min_length_mm": 100, "severity": "major"},
            {"classes": ["patches"], "min_length_mm": 110, "severity": "major"},
            {"classes": ["pitted_surface"], "min_length_mm": 168, "severity": "critical"},
        ],
        "grades": [
            {"grade": "A", "critical": 0, "major_in_100m": 4, "missed_share": 0.005},
            {"grade": "B", "critical": 12, "missed_share": 0.1},
        ],
    }
]
COMMAND = """([verb, fields]) => import("/static/js/api.js").then(({ command }) => command(verb, fields))"""
CALIBRATE = """async ([camera, region]) => {
  const { get, post } = await import("/static/js/api.js");
  let job = await post(`/calibration/${camera}/roi`, region);
  while (job.state === "waiting" || job.state === "running") {
    await new Promise((done) => setTimeout(done, 300));
    job = (await get(`/jobs/${job.id}`)).job ?? (await get(`/jobs/${job.id}`));
  }
  return post(`/calibration/${camera}/apply`, { job: job.id, before_sha256: job.result.change.before_sha256 });
}"""
SHOWN = """(which) => [...document.querySelectorAll(".picture")][which]((one) => {
  const boxes = [...one.querySelectorAll(".defect-box")];
  return boxes.some((box) => box.offsetHeight > one.clientHeight / 3);
})"""


def neighbour(folder: Path, name: str, broker: int) -> Node:
    """Another node at the same broker, without a page."""
    camera = {"name": "top", "source": "strip:?mm_per_px=0.25&seed=5", "fps": 2, "budget_ms": 2000}
    more = {"node": name, "state_dir": str(folder / "var"), "report_s": 5, "metrics": {"listen": None}}
    return Node(folder, broker, [camera], **more)


def few_colours(picture: Image.Image) -> Image.Image:
    """With a palette: the colours that fill the page as they are, grays of the strip, and the other colours."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    palette = colours[np.argsort(-counts)[:EXACT]].ravel().tolist()
    chroma = np.ptp(pixels.astype(int), axis=1)
    for part in (pixels[chroma <= GRAY], pixels[chroma > GRAY]):
        row = Image.fromarray(np.ascontiguousarray(part[None, :], np.uint8), "RGB")
        found = row.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1).getpalette() or []
        palette += found[: 3 * COLOURS]
    whole = Image.new("P", (1, 1))
    whole.putpalette(palette)
    return picture.quantize(palette=whole, dither=Image.Dither.NONE)


class Album:
    """Takes the pictures of one page after the other."""

    def __init__(self, node: PageNode, browser: Any, out: Path) -> None:
        self._node, self._browser, self._out = node, browser, out

    def opened(self, size: dict[str, int], scheme: str) -> Any:
        context = self._browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(self._node.link())
        page.wait_for_selector(".picture-live")
        return page

    def take(self, page: Any, name: str) -> None:
        """Write a picture with few colours."""
        raw = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        few_colours(raw).save(self._out / f"{name}.png", optimize=True)
        sys.stdout.write(f"{name}: {(self._out / f'{name}.png').stat().st_size // 1024} kB\n")


def live(page: Any) -> None:
    """A moment at which both pictures show a defect; or one, when that takes long."""
    page.wait_for_selector(".picture-live")
    end = time.monotonic() + 15
    while not page.evaluate(SHOWN, "every"):
        if time.monotonic() > end and page.evaluate(SHOWN, "some"):
            return


def calibrate(page: Any) -> None:
    """A region drawn on the picture, with the tiles that would follow."""
    page.wait_for_selector(".calibrate-picture")
    page.get_by_role("button", name="Draw an exclusion").click()
    box = page.locator(".polygon-editor svg").bounding_box()
    page.mouse.move(box["x"] + 0.62 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.74 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    page.mouse.up()
    page.get_by_text("What would change").wait_for()
    page.evaluate("scrollTo(0, 0)")


def label(page: Any) -> None:
    page.wait_for_selector(".label-key:not(:disabled)")


def node_page(page: Any) -> None:
    """With what the doctor has found."""
    page.get_by_role("button", name="Examine again").and_(page.locator(":enabled")).wait_for(timeout=60_000)
    page.evaluate("scrollTo(0, 0)")


def coil(page: Any) -> None:
    """With its report so far."""
    page.locator(".coil-foot").wait_for(timeout=60_000)
    page.wait_for_timeout(1000)


def fleet(page: Any) -> None:
    page.get_by_text("line2").wait_for(timeout=60_000)


def settled(page: Any) -> None:
    page.wait_for_timeout(1500)


PATHS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "live": ("/", live),
    "coils": ("/coils/A4711", coil),
    "events": ("/events?type=defect.opened", settled),
    "evidence": ("/evidence", settled),
    "label": ("/label", label),
    "calibrate": ("/calibrate/top?step=roi", calibrate),
    "model": ("/model", settled),
    "node": ("/node", node_page),
    "fleet": ("/fleet", fleet),
}


def run_the_coil(node: PageNode, page: Any, seconds: float) -> None:
    """A coil with two holes in what was inspected, and labels of what was found."""
    for camera in CAMERAS:
        page.evaluate(CALIBRATE, [camera["name"], REGION])
    node.defectd("coil", "start", "A4711")
    page.wait_for_timeout(seconds * 400)
    page.evaluate(COMMAND, ["pause", {"camera": "bottom", "for_s": 1, "reason": "glass cleaned"}])
    page.goto(f"{node.url}/label")
    label(page)
    for key in ("Enter",) * 5 + ("g",) + ("Enter",) * 4:
        page.keyboard.press(key if page.locator(".label-key.guess").count() else "g")
        page.wait_for_timeout(250)
    page.wait_for_timeout(seconds * 600)
    page.evaluate(COMMAND, ["pause", {"camera": "top", "for_s": 1, "reason": "roll change"}])
    page.wait_for_timeout(3000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TESTS.parent / "docs" / "web")
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--only", default=",".join(PAGES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = free_port()
        more = {
            "mqtt": {"broker": f"embedded:{broker}"},
            "grading": GRADING,
            "evidence": {"unsure_per_hour": 900, "audit_per_hour": 360, "per_minute": 600},
            "log": {"format": "plain", "level": "info"},
        }
        node = stack.enter_context(PageNode(folder / "line3", CAMERAS, **more))
        node.start().wait()
        for name in ("line1", "line2"):
            stack.enter_context(neighbour(folder / name, name, broker)).start()
        browser = stack.enter_context(chromium())
        album = Album(node, browser, arguments.out)
        pages = {
            "light": album.opened(DESK, "light"),
            "dark": album.opened(DESK, "dark"),
            "phone": album.opened(PHONE, "light"),
        }
        run_the_coil(node, pages["light"], arguments.seconds)
        for name in arguments.only.split(","):
            path, ready = PATHS[name]
            for kind, page in pages.items():
                page.goto(node.url + path)
                ready(page)
                album.take(page, f"{name}-{kind}")
            if name == "live":
                wall = album.opened(WALL, "dark")
                wall.goto(f"{node.url}/?wall")
                live(wall)
                album.take(wall, "live-wall")
        node.stop(20)


if __name__ == "__main__":
    main()
