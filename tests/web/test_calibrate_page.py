"""The page of the calibration in a browser, over the real command line: what is drawn is what is written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.ports import free_port

HERE = Path(__file__).parent
pytestmark = pytest.mark.system
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a made-up node with one camera, and the folder of its state."""
    port, folder = free_port(), tmp_path_factory.mktemp("node")
    command = [sys.executable, str(HERE / "fake_page.py"), "--port", str(port), "--cameras", "1"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(HERE.parents[1])}
    with subprocess.Popen(command, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{url}/", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield url, folder
        finally:
            process.terminate()


def opened(browser: Any, url: str, **options: Any) -> tuple[Any, list[str]]:
    """A page, and everything that its console objects to."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    return page, problems


def saved(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("defectd-fake-*/var/calibration/top.yaml")
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_region_drawn_by_mouse_and_moved_by_keys_is_the_saved_one(page_url: tuple[str, Path], browser: Any) -> None:
    """An exclusion, too; tiles are the node's; nothing is written before Apply; Undo takes it back."""
    url, folder = page_url
    page, problems = opened(browser, f"{url}/calibrate/top?step=roi", viewport={"width": 1440, "height": 900})
    picture = page.locator(".polygon-editor svg").bounding_box()

    def drag(x1: float, y1: float, x2: float, y2: float) -> None:
        """From one place to another, as shares of the picture."""
        page.mouse.move(picture["x"] + x1 * picture["width"], picture["y"] + y1 * picture["height"])
        page.mouse.down()
        page.mouse.move(picture["x"] + x2 * picture["width"], picture["y"] + y2 * picture["height"], steps=4)
        page.mouse.up()

    page.get_by_role("button", name="Draw the region").click()
    drag(0.1, 0.1, 0.9, 0.9)
    page.get_by_role("button", name="Draw an exclusion").click()
    drag(0.4, 0.2, 0.7, 0.8)
    corner = page.get_by_role("button", name="Point 1 of 4 of the region")
    corner.focus()
    corner.press("ArrowRight")
    corner.press("Shift+ArrowDown")
    page.get_by_text("What would change").wait_for()
    assert not list(folder.glob("defectd-fake-*/var/calibration"))
    corners = [
        tuple(int(part.split()[-1]) for part in point.get_attribute("aria-label").split(",")[1:])
        for point in page.get_by_role("button", name="of the region, x").all()
    ]
    assert "as the daemon lays them" in page.locator(".calibrate-count").inner_text()
    tiles = page.locator(".calibrate-tiles rect").count()
    page.get_by_role("button", name="Apply", exact=True).click()
    page.get_by_text("Applied. The daemon uses it.").wait_for()
    region = saved(folder)["roi"]
    assert [tuple(corner) for corner in region["roi"]] == corners
    assert len(region["exclude"]) == 1
    page.get_by_text("as the daemon lays them").wait_for()
    page.locator(".calibrate-guide").get_by_text("top.yaml").wait_for()
    assert page.locator(".calibrate-tiles rect").count() == tiles  # laid by the page and by the node
    page.get_by_role("button", name="Undo the last change").click()
    page.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_text("The calibration before is used again.").wait_for()
    assert "roi" not in saved(folder)
    assert problems == []
    page.close()


def test_every_step_fits_a_phone_and_says_nothing_in_the_console(page_url: tuple[str, Path], browser: Any) -> None:
    """No sideways scrolling at 390 px, in the dark."""
    url, _ = page_url
    options = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
    page, problems = opened(browser, f"{url}/calibrate/top", **options)
    for step in (
        "Region",
        "Tile size",
        "Light",
        "Scale",
        "Good surface",
        "Taught classes",
        "Thresholds",
        "Speed",
        "Checklist",
    ):
        page.locator(".calibrate-steps").get_by_text(step).click()
        page.get_by_role("heading", name=step, level=1).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, step
    assert page.locator(".calibrate-list li").count() == 8
    assert problems == []
    page.close()
