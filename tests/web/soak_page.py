"""An hour of the live page in a browser, over a real daemon: does anything grow?

    PYTHONPATH=. python tests/web/soak_page.py [--minutes 60] [--fps 10]

Prints a line for each of the minutes 1, 5, 15, 30, 45 and 60, and at the end: heap of the browser's page after a
garbage collection, MB; its DOM nodes and listeners; memory of the page process (private) and of the daemon (resident),
MB; the number of the frame shown; the last event, and how many the page holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
for folder in (TESTS, TESTS / "system", TESTS / "web"):
    sys.path.insert(0, str(folder))

from chromium import DESK, chromium  # noqa: E402
from page_node import CAMERA, PageNode, private_mb, resident_mb  # noqa: E402

MARKS = (1, 5, 15, 30, 45, 60)
READ = """async () => {
  const { store } = await import("/static/js/store.js");
  const shown = document.querySelector(".picture");
  return { frame: Number(shown?.dataset.frame), seq: store.lastSeq, kept: store.events.length };
}"""


def measured(node: PageNode, session: Any, page: Any) -> dict[str, float]:
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")
    dom = session.send("Memory.getDOMCounters")
    return {
        "heap_mb": heap["usedSize"] / 1e6,
        "nodes": dom["nodes"],
        "listeners": dom["jsEventListeners"],
        "page_private_mb": private_mb(node.page_process()),
        "page_rss_mb": resident_mb(node.page_process()),
        "daemon_rss_mb": resident_mb(node.pid),
        **page.evaluate(READ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--fps", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        camera = {**CAMERA, "fps": arguments.fps}
        with (
            PageNode(Path(folder), [camera], report_s=10, log={"format": "plain", "level": "info"}) as node,
            chromium() as browser,
        ):
            node.start()
            node.wait()
            node.defectd("coil", "start", "SOAK")
            page = browser.new_page(viewport=DESK)
            page.goto(node.link())
            page.wait_for_selector(".picture-live")
            session = page.context.new_cdp_session(page)
            started = time.monotonic()
            for mark in [mark for mark in MARKS if mark < arguments.minutes] + [arguments.minutes]:
                page.wait_for_timeout(max(0.0, started + 60 * mark - time.monotonic()) * 1000)
                values = measured(node, session, page)
                words = "  ".join(f"{name} {value:.6g}" for name, value in values.items())
                sys.stdout.write(f"minute {mark:g}: {words}\n")
                sys.stdout.flush()
            node.stop(20)


if __name__ == "__main__":
    main()
