"""The whole node: real daemon processes, a real Mosquitto, real streams, and kills of each."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from fakes.strip_defects import defects_of
from node import Node, needs_data, running, subscriber, until
from slides import SlideShow, needs_gstreamer

import edge
from edge.camera.sources.simulator import Strip
from edge.delivery.outbox.reader import read_events

pytestmark = pytest.mark.system
log = logging.getLogger(__name__)
SCHEMAS = Path(edge.__file__).parent / "schema"
EVENT = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "event-1.json").read_text()))
COVERAGE = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "coverage-1.json").read_text()))


def check_stream(client: Any) -> list[dict[str, Any]]:
    """Check every message against its schema, and seq for gaps and order.  Returns the events."""
    for _, topic, message in client.all():
        if topic.endswith("/event"):
            EVENT.validate(message)
        elif topic.endswith("/coverage"):
            COVERAGE.validate(message)
            assert message["delivered"] == sum(message["frames"].values())
            assert message["since_start"]["delivered"] == sum(message["since_start"]["frames"].values())
    events = client.events()
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(1, len(seqs) + 1)), "seq has holes or is out of order"
    return events


def test_generated_strip_gives_one_opening_and_one_closing_for_each_defect(broker: Any, tmp_path: Path) -> None:
    """Each known defect of the strip gives one pair of events with the right class."""
    camera = {"name": "top", "source": "strip:?seed=1", "fps": 60, "budget_ms": 200, "live": False}
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, [camera]) as node:
        node.start("--for", "14s")
        assert node.process is not None
        assert node.process.wait(30) == 0, node.log()
        until(lambda: "node.stopped" in [e["type"] for e in client.events()], 5, "the last event")
        events = check_stream(client)
        opened = [e for e in events if e["type"] == "defect.opened"]
        closed = [e for e in events if e["type"] == "defect.closed"]
        assert Counter(e["defect"]["track_id"] for e in opened) == Counter(e["defect"]["track_id"] for e in closed)
        frames = client.latest("defectd/line3/top/coverage")["since_start"]["delivered"]
        truth = defects_of(Strip(seed=1), frames, 10)
        assert len(truth) >= 5
        wrong = _compare(truth, closed)
        assert not wrong, f"{wrong}\n{node.log()}"


def _compare(truth: list[tuple[str, int, int]], closed: list[dict[str, Any]]) -> list[str]:
    """What differs between the defects that passed and those that were reported."""
    wrong = []
    rest = [(e["defect"]["class"], e["frame"]["number"] if e["frame"] else None) for e in closed]
    for name, first, last in truth:
        match = next((item for item in rest if item[0] == name and item[1] and first < item[1] <= last + 12), None)
        if match is None:
            wrong.append(f"missed {name} in frames {first} to {last}; reported: {rest}")
        else:
            rest.remove(match)
    wrong += [f"nothing there: {item}" for item in rest if item[1] and item[1] <= truth[-1][2]]
    return wrong


def test_events_of_neu_images_from_a_folder_have_the_right_class(broker: Any, tmp_path: Path) -> None:
    """At least 69 of 72 pictures are classified correctly through camera, network, outbox and a real broker."""
    folder = needs_data("neu-cls/test")
    camera = {"name": "bench", "source": str(folder), "mode": "parts"}
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, [camera]) as node:
        node.start()
        until(lambda: "camera.ended" in [e["type"] for e in client.events()], 40, "the end of the folder")
        assert node.stop() == 0
        events = check_stream(client)
        found = {e["frame"]["label"]: e["defect"]["class"] for e in reversed(events) if e["type"] == "defect.opened"}
        right = sum(label.split("/")[-2] == name for label, name in found.items())
        log.info("folder: %d of %d pictures classified correctly", right, len(found))
        assert right >= 69, f"{right} of 72"
        until(lambda: client.latest("defectd/line3/bench/coverage")["since_start"]["delivered"] == 72, 5, "72 frames")


@needs_gstreamer
def test_most_events_of_neu_images_through_rtsp_have_the_right_class(broker: Any, tmp_path: Path) -> None:
    """For at least 66 of 72 images, shown for a third of a second each, most events have the right class."""
    folder = needs_data("neu-cls/test")
    files = sorted(folder.glob("*/*.png"))
    slides = tmp_path / "slides"
    slides.mkdir()
    for number, path in enumerate(files):
        (slides / f"{number:03d}.png").write_bytes(path.read_bytes())
    show_s = float(os.environ.get("DEFECTD_SLIDE_S", "0.34"))
    with SlideShow(slides, show_s) as server, subscriber(broker.port) as client:
        camera = {"name": "cam", "source": server.url, "mode": "parts", "budget_ms": 200}
        with Node(tmp_path / "node", broker.port, [camera]) as node:
            node.start()
            until(lambda: len(client.events("camera.lost")) > 0, 72 * show_s + 30, "the end of the show")
            node.stop()
        opened = client.events("defect.opened")
        right = _right_by_majority(opened, files)
        log.info(
            "RTSP, %g s each: %d of %d pictures classified correctly by %d events",
            show_s,
            right,
            len(files),
            len(opened),
        )
        assert right >= 66, f"{right} of 72"


def _right_by_majority(opened: list[dict[str, Any]], files: list[Path]) -> int:
    """Count the pictures most of whose events are right.  The number of the frame identifies the picture."""
    first = min(e["frame"]["number"] for e in opened)
    last = max(e["frame"]["number"] for e in opened)
    per_slide = (last - first + 1) / len(files)
    votes: dict[int, Counter[str]] = {}
    for event in opened:
        slide = min(len(files) - 1, int((event["frame"]["number"] - first) / per_slide))
        votes.setdefault(slide, Counter())[event["defect"]["class"]] += 1
    return sum(votes[i].most_common(1)[0][0] == path.parent.name for i, path in enumerate(files) if i in votes)


def test_killed_camera_process_is_restarted_and_the_other_loses_nothing(broker: Any, tmp_path: Path) -> None:
    """The node reports the loss and restarts the process within 5 s; the other camera loses no frame."""
    cameras = [
        {"name": name, "source": f"strip:?seed={seed}", "fps": 20, "budget_ms": 1000}
        for name, seed in (("left", 3), ("right", 4))
    ]
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, cameras) as node:
        node.start()
        running(client, "left", "right")
        until(lambda: len(node.camera_processes()) == 2, 5, "two camera processes")
        os.kill(node.camera_processes()[0], signal.SIGKILL)
        killed = time.monotonic()
        lost = until(lambda: client.events("camera.lost"), 5, "the loss")
        until(lambda: client.events("camera.restored"), 5, "the return")
        assert time.monotonic() - killed < 5
        victim = lost[0]["camera"]
        other = {"left": "right", "right": "left"}[victim]
        running(client, victim)
        assert node.stop() == 0
        check_stream(client)
        totals = client.latest(f"defectd/line3/{other}/coverage")["since_start"]
        assert totals["frames"]["dropped"] == totals["frames"]["late"] == 0
        assert [e["camera"] for e in client.events("camera.")] == [victim, victim]


def test_events_stored_while_the_broker_is_away_survive_kill_9(broker: Any, tmp_path: Path) -> None:
    """The daemon is killed while the broker is dead; after the restart every event arrives, in order."""
    camera = {"name": "top", "source": "strip:?seed=5", "fps": 90, "live": False}
    with subscriber(broker.port, client_id="first") as client, Node(tmp_path / "node", broker.port, [camera]) as node:
        node.start()
        until(lambda: len(client.events("defect.opened")) >= 1, 20, "the first defect")
        broker.kill()
        outbox = node.folder / "var" / "outbox.db"
        stored = len(read_events(outbox, 0, 100_000))
        until(lambda: len(read_events(outbox, 0, 100_000)) >= stored + 6, 30, "events in the outbox")
        node.kill()
        decided = _stored(node)
        assert sum(event["delivery"] == "waiting" for event in decided) >= 6
        before = client.subscriptions
        broker.start()
        # A broker killed by force may have forgotten the session: what it confirms now must find its subscriber.
        until(lambda: client.subscriptions > before, 20, "the subscriber back")
        node.start()
        ids = [event["event_id"] for event in decided]
        until(lambda: set(ids) <= {e["event_id"] for e in client.events()}, 30, "everything that was decided")
        assert node.stop() == 0
        events = check_stream(client)
        assert [e["event_id"] for e in events][: len(ids)] == ids
        assert all(event["replayed"] for event in events if event["seq"] in range(len(ids) - 4, len(ids) + 1))


def _stored(node: Node) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "edge.cli", "events", "-c", str(node.config), "--json", "-n", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_first_run_needs_nothing_but_the_daemon_and_ends_quickly(tmp_path: Path, free_port: int) -> None:
    """With embedded broker and generated strip `defectd tail` shows defects; Ctrl-C ends the daemon within 3 s."""
    pytest.importorskip("amqtt")
    camera = {"name": "top", "source": "strip:?mm_per_px=0.25", "fps": 30, "budget_ms": 500}
    with Node(tmp_path / "node", 0, [camera], mqtt={"broker": f"embedded:{free_port}"}) as node:
        began = time.monotonic()
        node.start()
        until(lambda: "embedded broker on" in node.log(), 30, "the embedded broker")
        command = [sys.executable, "-m", "edge.cli", "tail", "-c", str(node.config), "--json", "-n", "40"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
            assert tail.stdout is not None
            for line in tail.stdout:
                event = json.loads(line)
                EVENT.validate(event)
                if event["type"] == "defect.opened":
                    break
            assert all(event["defect"][key] is not None for key in ("position_m", "length_mm", "box_mm"))
            assert time.monotonic() - began < 40
            tail.kill()
        interrupted = time.monotonic()
        os.kill(node.pid, signal.SIGINT)
        assert node.process is not None
        assert node.process.wait(10) == 0, node.log()
        assert time.monotonic() - interrupted < 3
        assert "every event is delivered" in node.log()


def test_second_daemon_on_the_same_state_is_refused(broker: Any, tmp_path: Path) -> None:
    """Two daemons on one outbox would assign a seq twice: the second ends with 78 and the reason."""
    camera = {"name": "top", "source": "strip:"}
    with Node(tmp_path / "node", broker.port, [camera]) as first:
        first.start()
        until(lambda: "inspects" in first.log(), 30, "the first daemon")
        command = [sys.executable, "-m", "edge.cli", "run", "-c", str(first.config)]
        second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
        assert second.returncode == 78
        assert "another defectd uses it" in second.stderr
        assert first.stop() == 0


def test_missing_cameras_do_not_stop_the_others(broker: Any, tmp_path: Path) -> None:
    """Any subset of the cameras may be missing at the start; the state topic shows which."""
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(1).integers(0, 255, (200, 200), np.uint8))
    cameras = [
        {"name": "there", "source": str(tmp_path / "a.png"), "mode": "parts"},
        {"name": "gone", "source": "rtsp://admin:hunter2@127.0.0.1:9/x", "open_timeout_s": 1},
        {"name": "nofile", "source": str(tmp_path / "none.mp4")},
    ]
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, cameras) as node:
        node.start()
        until(lambda: {e["camera"] for e in client.events("camera.lost")} == {"gone", "nofile"}, 30, "both losses")
        until(lambda: client.events("camera.ended"), 10, "the image")
        assert client.latest("defectd/line3/gone/state")["state"] == "no_signal"
        assert node.stop() == 0
        assert "hunter2" not in node.log() + str(client.all())
        assert client.latest("defectd/line3/status")["online"] is False
