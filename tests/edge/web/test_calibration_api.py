"""Calibration over the API: what reaches the command line, and what is refused before anything is written."""

import asyncio
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from fakes.page_children import Children, Inline, Job

from edge.web import body
from edge.web.api import calibration, change
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.user import User

SCHEMAS = Path(__file__).parents[3] / "edge" / "schema"
EDDA = User("edda", "engineer")
JOB = "0123456789abcdef"
BEFORE = hashlib.sha256(b"before").hexdigest()


class Daemon:
    def __init__(self):
        self.asked = []
        self.refuses = False

    async def ask(self, verb, user, fields=None):
        if self.refuses:
            raise Refusal(503, "no_daemon", "it does not run")
        self.asked.append((verb, dict(fields or {})))
        return {}


@pytest.fixture
def page(tmp_path):
    settings = SimpleNamespace(state_dir=tmp_path, web_dir=tmp_path / "web", config_path=tmp_path / "c.yaml")
    return SimpleNamespace(settings=settings, cameras={"top"}, children=Children(JOB), commands=Daemon(), work=Inline())


def ask(page, handler, fields=None, schema=None, **params):
    content = json.dumps(fields or {}).encode()
    if schema is not None:
        body.parsed(content, schema)
    request = Request("", params={"camera": "top", **params}, body=content, user=EDDA)
    return asyncio.run(handler(page, request))


def previewed(page, **change):
    """A preview of the region that has ended, in the folder that the page gave it."""
    result = {
        "camera": "top",
        "change": {"kind": "roi", "file": "top.yaml", "before_sha256": BEFORE, "plates": ["top.roi.png"], **change},
    }
    folder = page.settings.web_dir / "previews" / ("aa" * 8)
    folder.mkdir(parents=True)
    (folder / "top.roi.png").write_bytes(b"plate")
    job = Job(id=JOB, state="done", arguments=("calibrate", "roi", "--plates", str(folder)), result=result)
    page.children.jobs = (job,)


def calibrated(page, content=b"before"):
    path = page.settings.state_dir / "calibration/top.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def test_drawn_region_is_a_dry_run_with_frames_of_the_daemon(page):
    """The only folder on the command line is one that the page has named itself."""
    drawn = {"shape": [[160, 10], [780, 10], [790, 390]], "exclude": [[500, 0, 100, 400]], "tile_px": 150}
    answer = ask(page, calibration.roi, drawn, calibration.ROI)
    assert answer.status == 202
    (words,) = page.children.ran
    folder = words[words.index("--plates") + 1]
    assert Path(folder).parent == page.settings.web_dir / "previews"
    assert " ".join(words).replace(folder, "F") == (
        f"calibrate roi -c {page.settings.config_path} --camera top --dry-run --json --progress-json --plates F "
        "--shape 160,10 780,10 790,390 --exclude 500,0,100,400 --tile-px 150 --frames 1 --source live:"
    )


@pytest.mark.parametrize(
    ("handler", "schema", "fields"),
    [
        (calibration.roi, calibration.ROI, {"shape": "0,0,9,9 --source /etc"}),
        (calibration.roi, calibration.ROI, {"shape": [1, 2, 3]}),
        (calibration.roi, calibration.ROI, {"shape": [[1, 2], 3, [4, 5]]}),
        (calibration.roi, calibration.ROI, {"shape": [[1, 2], [3, 4], [5, 1e9]]}),
        (calibration.roi, calibration.ROI, {"source": "/etc/passwd"}),
        (calibration.roi, calibration.ROI, {"exclude": [[0, 0, 1, 1]] * 33}),
        (calibration.scale, calibration.SCALE, {"length_mm": 5}),
        (calibration.scale, calibration.SCALE, {"points": [1, 2, 3, "--print"], "length_mm": 5}),
        (calibration.normal, calibration.NORMAL, {"frames": 10**9}),
        (calibration.thresholds, calibration.THRESHOLDS, {"labelled": "/srv"}),
        (calibration.classes, calibration.CLASSES, {"labelled": "/srv"}),
        (calibration.classes, calibration.CLASSES, {"other_classes": "--undo"}),
        (calibration.thresholds, calibration.THRESHOLDS, {"recall": 0.9, "per_hour": 2}),
        (calibration.apply, calibration.APPLY, {"job": "../../etc", "before_sha256": None}),
        (calibration.undo, change.UNDO, {}),
    ],
)
def test_what_is_no_number_and_no_shape_reaches_no_command(page, handler, schema, fields):
    """Neither paths nor options nor fields that the row of the table does not name."""
    with pytest.raises(Refusal):
        ask(page, handler, fields, schema)
    assert page.children.ran == []


@pytest.mark.parametrize("handler", [calibration.calibration, calibration.roi, calibration.apply, calibration.undo])
def test_camera_that_the_node_does_not_have_is_refused(page, handler):
    """Its name never becomes a path."""
    with pytest.raises(Refusal, match="no such camera"):
        ask(page, handler, camera="../top")


def test_applied_change_is_reloaded_and_recorded(page):
    """The daemon learns who changed which file from what to what, and reads it."""
    previewed(page)
    calibrated(page)
    after = hashlib.sha256(b"after").hexdigest()
    page.children.result = {"before_sha256": BEFORE, "after_sha256": after}
    answer = ask(page, calibration.apply, {"job": JOB, "before_sha256": BEFORE}, calibration.APPLY)
    schema = json.loads((SCHEMAS / "api-calibration-change-1.json").read_text())
    jsonschema.validate(json.loads(answer.body), schema)
    assert page.children.ran[0][:2] == ["calibrate", "apply"]
    assert "--i-have-looked" not in page.children.ran[0]
    acted = {"action": "calibration.roi", "camera": "top", "before_sha256": BEFORE, "after_sha256": after}
    assert page.commands.asked == [("acted", acted), ("reload", {})]


def test_change_that_the_daemon_does_not_take_is_reported(page):
    """The file is written; the answer names why it is not used yet."""
    previewed(page)
    calibrated(page)
    page.commands.refuses = True
    answer = json.loads(ask(page, calibration.apply, {"job": JOB, "before_sha256": BEFORE}).body)
    assert answer["problem"] == "it does not run"


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda page: calibrated(page, b"of somebody else"), "stale"),
        (lambda page: setattr(page.children, "jobs", ()), "gone"),
        (lambda page: page.children.jobs[0].result.update(camera="side"), "gone"),
        (lambda page: setattr(page.children, "jobs", (*page.children.jobs, Job(id="1", state="running"))), "busy"),
    ],
)
def test_change_that_is_not_the_one_shown_is_not_written(page, prepare, code):
    """Another person's change, a forgotten preview, that of another camera, and work that still runs."""
    previewed(page)
    calibrated(page)
    prepare(page)
    with pytest.raises(Refusal) as refused:
        ask(page, calibration.apply, {"job": JOB, "before_sha256": BEFORE}, calibration.APPLY)
    assert (refused.value.code, page.children.ran, page.commands.asked) == (code, [], [])


def test_plates_are_those_of_the_preview_alone(page):
    """Other files of the folder, and other folders, are not served."""
    previewed(page)
    (page.settings.web_dir / "previews" / ("aa" * 8) / "top.other.png").write_bytes(b"other")
    assert ask(page, calibration.plate, job=JOB, plate="top.roi").body == b"plate"
    for job, plate in ((JOB, "top.other"), (JOB, "change.json"), ("f" * 16, "top.roi")):
        with pytest.raises(Refusal):
            ask(page, calibration.plate, job=job, plate=plate)


def test_previews_of_forgotten_jobs_are_deleted(page):
    """Their folders would fill the disk."""
    old = page.settings.web_dir / "previews" / ("bb" * 8)
    old.mkdir(parents=True)
    previewed(page)
    ask(page, calibration.flatfield)
    assert [folder.name for folder in old.parent.iterdir()] == ["aa" * 8]


def test_facts_wait_for_no_running_job(page):
    """The answer shows the job in place of the facts."""
    page.children.jobs = (Job(id=JOB, state="running"),)
    answer = json.loads(ask(page, calibration.calibration).body)
    assert (answer["calibration"], answer["job"]["id"], answer["sha256"]) == (None, JOB, None)
    jsonschema.validate(answer, json.loads((SCHEMAS / "api-calibration-1.json").read_text()))
