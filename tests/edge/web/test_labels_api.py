"""The API of labels and evidence, by calling its handlers."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from fakes.clock import FakeClock
from fakes.pictures import Pictures

from edge.config.state_dir import StateDir
from edge.evidence.labels import Person
from edge.web.api import evidence, label_export, labels
from edge.web.labelling import Labelling, thresholds_of
from edge.web.refusal import Refusal
from edge.web.route import Request
from edge.web.settings import PageSettings
from edge.web.user import User

SCHEMAS = Path(__file__).parents[3] / "edge" / "schema"
CLASSES = ("crazing", "scratches")
OSKAR = User("oskar", "operator")
STATE = {
    "cameras": [
        {
            "name": "top",
            "thresholds": {"confidence": 0.6, "unsure": 0.35, "classes": {"crazing": 0.7}},
            "calibrated_thresholds": {"temperature": None, "classes": {"scratches": 0.2}},
        }
    ],
    "model": {"classes": ["crazing", "scratches"], "bundle": "m" * 64},
}


class Daemon:
    """State and command socket: keeps what it is asked, and refuses on request."""

    def __init__(self):
        self.now = STATE
        self.asked = []
        self.refuses = False

    async def state(self, _timeout_s, _after_ns=0):
        return None if self.now is None else (1, b"", self.now)

    async def ask(self, verb, user, fields=None):
        if self.refuses:
            raise Refusal(503, "no_daemon", "it does not run")
        self.asked.append((verb, user, fields))
        return {}


class Inline:
    """A work thread without a thread."""

    async def run(self, function, *args, **kwargs):
        return function(*args, **kwargs)


class Commands:
    """Children that end at once."""

    def __init__(self):
        self.ran = []

    def submit(self, arguments, *, label, by, time_s=600.0):
        self.ran.append(tuple(arguments))
        return SimpleNamespace(as_json=lambda: {"id": "1", "state": "waiting"})


@pytest.fixture
def pictures(tmp_path):
    return Pictures(tmp_path / "evidence")


@pytest.fixture
def page(tmp_path, pictures):
    names = ("node", "version", "listen", "state_dir", "outbox", "evidence", "coils")
    values = ("n", "0", ("127.0.0.1", 0), tmp_path, tmp_path / "outbox", pictures.folder, tmp_path / "coils")
    paths = {name: tmp_path / name for name in ("command_socket", "feed_socket", "web_dir", "config_path")}
    settings = PageSettings(**dict(zip(names, values, strict=True)), **paths, classes=CLASSES)
    daemon, clock = Daemon(), FakeClock()
    return SimpleNamespace(
        settings=settings,
        clock=clock,
        feed=daemon,
        commands=daemon,
        work=Inline(),
        children=Commands(),
        cameras={"top"},
        labelling=Labelling(settings, clock),
    )


def answer(page, handler, schema, *, body=None, user=OSKAR, **query):
    """The answer of a handler as JSON, valid by its schema."""
    asked = Request(
        "/x", query={name: [str(value)] for name, value in query.items()}, body=json.dumps(body).encode(), user=user
    )
    found = json.loads(asyncio.run(handler(page, asked)).body)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return found


def following(page, **query):
    return answer(page, labels.following, "api-labels-next-1", **query)


def give(page, *given, user=OSKAR, how="single"):
    body = {"labels": [{"evidence": path, "label": label, "how": how} for path, label in given]}
    return answer(page, labels.give, "api-labels-given-1", body=body, user=user)


def listed(page, **query):
    return answer(page, evidence.pictures, "api-evidence-1", **query)


def picture(page, path):
    kind, name = path.removesuffix(".jpg").split("/")
    return asyncio.run(evidence.picture(page, Request("/x", params={"kind": kind, "name": name})))


def test_labels_folder_is_the_one_of_the_state_directory(page):
    """The page process cannot ask the configuration: both name the same folder."""
    assert page.settings.labels == StateDir(page.settings.state_dir).labels


def test_label_is_stored_and_reveals_the_guess_of_a_blind_tile(page, pictures):
    """Before the label nothing of it is sent; the answer has it."""
    path = pictures.add("audit", label="scratches", scores={"scratches": 0.77}, event_id="e-9").path
    before = json.dumps([following(page, order="random"), listed(page), listed(page, **{"class": "scratches"})])
    assert path in before
    assert "0.77" not in before
    assert "e-9" not in before
    assert '"guess": "scratches"' not in before
    assert b"scratches" not in picture(page, path).body
    (stored,) = give(page, (path, "crazing"))["labels"]
    assert (stored["blind"], stored["guess"], stored["confidence"]) == (True, "scratches", 0.77)
    assert following(page, order="random")["items"] == []
    (item,) = listed(page)["pictures"]
    assert (item["decided"], item["label"]["label"], item["blind"]) == ("scratches", "crazing", False)
    assert page.labelling.store.of(path).by == "oskar"


def test_filter_by_class_does_not_reveal_a_blind_tile(page, pictures):
    """A tile that appears under its class would be known before it is labelled."""
    pictures.add("audit", label="scratches")
    shown = pictures.add("unsure", label="scratches").path
    assert [item["evidence"] for item in listed(page, **{"class": "scratches"})["pictures"]] == [shown]


def test_what_is_next_follows_the_thresholds_in_use(page, pictures):
    """As the daemon states them; without a daemon the order still is one."""
    far = pictures.add("unsure", scores={"scratches": 0.58}).path
    near = pictures.add("unsure", scores={"scratches": 0.36}).path
    found = following(page)
    assert [item["evidence"] for item in found["items"]] == [near, far]
    assert found["thresholds"] == {"top": {"crazing": 0.7, "scratches": 0.35}}
    page.feed.now = None
    assert following(page)["classes"] == list(CLASSES)
    assert thresholds_of({"cameras": [{"name": "top", "thresholds": None}]}, ["a"]) is None


def test_skipped_pictures_are_not_sent_again(page, pictures):
    """The page names what it has by hash."""
    first, second = (one.path for one in pictures.several(2, "unsure"))
    found = following(page, skip=f"{first[-20:-4]},")
    assert [item["evidence"] for item in found["items"]] == [second]
    with pytest.raises(Refusal, match="skip should be"):
        following(page, skip="../x")


def test_undo_and_recent_labels(page, pictures):
    """An undo is in the list, and the picture comes back."""
    path = pictures.add("unsure").path
    give(page, (path, "crazing"))
    give(page, (path, "scratches"))
    undone = answer(page, labels.undo, "api-labels-undone-1", body={"count": 1})["undone"]
    assert [one["label"] for one in undone] == ["scratches"]
    found = answer(page, labels.recent, "api-labels-1")
    assert [(one["label"], one["before"], one["undone"]) for one in found["changes"]] == [
        ("scratches", "scratches", True),
        ("scratches", "crazing", False),
        ("crazing", None, False),
    ]
    assert found["labelled"] == 1


def test_class_of_no_model_is_refused(page, pictures):
    """good and unclear are always allowed."""
    path = pictures.add("unsure").path
    with pytest.raises(Refusal, match="label should be one of: crazing, scratches, good, unclear"):
        give(page, (path, "rust"))
    assert len(give(page, (path, "unclear"))["labels"]) == 1
    page.feed.now = {**STATE, "model": {"classes": ["rust"]}}
    assert len(give(page, (path, "rust"))["labels"]) == 1


def test_new_class_is_one_that_a_person_names(page, pictures):
    """It is known from its first label to its last; words with a meaning and names of no file are refused."""
    path = pictures.add("unsure").path
    new = {"evidence": path, "new": True}
    for name in ("unknown", "unsure", "normal", "../x", "Roll mark", "x" * 64, ""):
        body = {"labels": [new | {"label": name}]}
        with pytest.raises(Refusal, match="cannot be the name of a class"):
            answer(page, labels.give, "api-labels-given-1", body=body)
    body = {"labels": [new | {"label": "roll_mark"}]}
    assert len(answer(page, labels.give, "api-labels-given-1", body=body)["labels"]) == 1
    assert following(page)["classes"] == ["crazing", "scratches", "roll_mark"]
    assert len(give(page, (path, "roll_mark"))["labels"]) == 1
    answer(page, labels.undo, "api-labels-undone-1", body={"count": 2})
    assert following(page)["classes"] == ["crazing", "scratches"]


def test_taught_classes_are_offered_in_place_of_the_models(page, pictures):
    """At the camera that was taught them; the other one keeps the model's."""
    pictures.add("unsure")
    taught = {**STATE["cameras"][0], "taught": {"sha256": "0" * 12, "classes": ["dent"]}}
    page.feed.now = {**STATE, "cameras": [taught, {"name": "side"}]}
    assert following(page, camera="top")["classes"] == ["dent"]
    assert following(page, camera="side")["classes"] == ["crazing", "scratches"]
    assert following(page)["classes"] == ["dent", "crazing", "scratches"]


def test_worth_of_labels(page, pictures):
    """Recall of the active model from blind labels; a tile that another model judged is left out."""
    for number in range(8):
        scores, model = {"crazing": 0.9 if number else 0.5}, "m" * 64 if number < 7 else "old"
        give(page, (pictures.add("audit", label="crazing", scores=scores, model=model).path, "crazing"))
    found = answer(page, labels.value, "api-labels-worth-1")
    (row,) = (one for one in found["classes"] if one["name"] == "crazing")
    assert (row["labels"], row["blind"], row["found"]) == (8, 7, 6)
    assert (found["left_out"], found["by_thresholds"]) == (1, True)
    assert found["advice"]["name"] == "scratches"
    taught = {**STATE["cameras"][0], "taught": {"sha256": "0" * 12, "classes": ["crazing"]}}
    page.feed.now = {**STATE, "cameras": [taught]}
    assert answer(page, labels.value, "api-labels-worth-1")["left_out"] == 8, "the model alone judged them"


def test_picture_of_an_evicted_label_is_still_there(page, pictures):
    """The copy is served; a picture without a label is gone, and says what helps."""
    kept, other = pictures.add("unsure").path, pictures.add("unsure").path
    give(page, (kept, "good"))
    for path in (kept, other):
        (pictures.folder / path).unlink()
    assert picture(page, kept).headers["Cache-Control"].endswith("immutable")
    with pytest.raises(Refusal, match="was deleted") as raised:
        picture(page, other)
    assert (raised.value.status, raised.value.code) == (404, "gone")


@pytest.mark.parametrize(("kind", "name"), [("unsure", "..%2f..%2fpasswd"), ("x", "0000000001-top-0123456789abcdef")])
def test_other_paths_are_no_pictures(page, kind, name):
    """Only the names that the archive gives lead to a file."""
    with pytest.raises(Refusal) as raised:
        asyncio.run(evidence.picture(page, Request("/x", params={"kind": kind, "name": name})))
    assert raised.value.status == 404


def test_evidence_is_paged_and_filtered(page, pictures):
    """By kind, camera, coil, time and event; `before` goes on without a gap or a repetition."""
    for number in range(7):
        pictures.add("unsure", coil=f"A{number % 2}", time=f"2026-11-22T10:0{number}:00.000Z")
    pictures.add("defect", event_id="e-1", time="2026-11-22T11:00:00.000Z")
    paths, before = [], None
    while True:
        found = listed(page, limit=3, **({} if before is None else {"before": before}))
        paths += [item["evidence"] for item in found["pictures"]]
        before = found["before"]
        if before is None:
            break
    assert len(paths) == len(set(paths)) == 8
    assert [item["number"] for item in listed(page, coil="A1")["pictures"]] == [6, 4, 2]
    assert [item["kind"] for item in listed(page, event_id="e-1")["pictures"]] == ["defect"]
    later = listed(page, **{"from": "2026-11-22T10:02:00.000Z", "to": "2026-11-22T10:05:00.000Z"})
    assert [item["number"] for item in later["pictures"]] == [5, 4, 3]
    assert listed(page, kind="frame")["pictures"] == listed(page, camera="side")["pictures"] == []


def test_changes_become_one_event_for_each_person(page, pictures):
    """With the hashes of the file before and after; what the daemon does not take waits for the next report."""
    first, second, third = (one.path for one in pictures.several(3, "unsure"))
    empty = page.labelling.store.digest()
    page.feed.refuses = True
    give(page, (first, "good"), (second, "good"))
    middle = page.labelling.store.digest()
    asyncio.run(page.labelling.report(page.commands.ask))
    page.feed.refuses = False
    give(page, (third, "good"), user=User("edda", "engineer"))
    answer(page, labels.undo, "api-labels-undone-1", body={})
    asyncio.run(page.labelling.report(page.commands.ask))
    (verb, user, fields), (_, other, _) = page.feed.asked
    assert (verb, user.name, other.name) == ("acted", "oskar", "edda")
    assert fields == {
        "action": "labels.changed",
        "before_sha256": empty,
        "after_sha256": page.labelling.store.digest(),
        "reason": "2 labels given, 1 taken back",
    }
    assert middle != empty
    asyncio.run(page.labelling.report(page.commands.ask))
    assert len(page.feed.asked) == 2


def test_export_is_a_command_into_a_new_folder(page, tmp_path):
    """The folders of the page are bounded; the oldest goes first, others stay."""
    for number in range(6):
        (tmp_path / "labels" / "exports" / f"2026112{number}T000000000Z").mkdir(parents=True)
    (tmp_path / "labels" / "exports" / "mine").mkdir()
    found = answer(page, label_export.export, "api-labels-export-1")
    (command,) = page.children.ran
    config = str(page.settings.config_path)
    assert command == ("evidence", "export", "--config", config, "--labelled", "--out", found["folder"])
    assert not Path(found["folder"]).exists()
    kept = sorted(path.name for path in (tmp_path / "labels" / "exports").iterdir())
    assert kept == ["20261123T000000000Z", "20261124T000000000Z", "20261125T000000000Z", "mine"]


def test_full_store_is_a_refusal_with_its_reason(page, pictures):
    """The page shows what to do; the picture steps back."""
    page.labelling.store._max_lines = 0
    with pytest.raises(Refusal, match="Export them") as raised:
        give(page, (pictures.add("unsure").path, "good"))
    assert (raised.value.status, raised.value.code) == (507, "labels_full")


def test_person_without_a_label_takes_nothing_back(page, pictures):
    """Each undoes his own labels."""
    give(page, (pictures.add("unsure").path, "good"))
    nobody = answer(page, labels.undo, "api-labels-undone-1", body={}, user=User("edda", "engineer"))
    assert nobody["undone"] == []
    assert page.labelling.store.undo(Person("oskar", "operator"))
