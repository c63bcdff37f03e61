"""What people say that pictures show, and how it is kept."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.clock import FakeClock
from fakes.pictures import Pictures

from edge.errors import EvidenceError
from edge.evidence import labels
from edge.evidence.labels import LabelStore, NewLabel, Person

ANN, BOB = Person("ann", "operator"), Person("bob", "engineer")


@pytest.fixture
def pictures(tmp_path):
    return Pictures(tmp_path / "evidence")


@pytest.fixture
def store(tmp_path, pictures):
    return LabelStore(tmp_path / "labels", pictures.folder, FakeClock())


def lines(store):
    return (store._folder / "labels.jsonl").read_bytes().splitlines()


def counting(store):
    return {one.origin.evidence: one.label for one in store.all()}


def test_label_keeps_what_the_model_said_and_the_picture(store, pictures):
    """The line has guess, confidence, camera, coil and hash; the copy outlives the original."""
    kept = pictures.add("unsure", coil="A4711", position_m=640.31, model="ab" * 32)
    (label,) = store.add([NewLabel(kept.path, "crazing")], ANN)
    (pictures.folder / kept.path).unlink()
    row = json.loads(lines(store)[0])
    assert {name: row[name] for name in ("schema", "label", "guess", "confidence", "by", "role", "camera", "coil")} == {
        "schema": "defectd.label/1",
        "label": "crazing",
        "guess": "scratches",
        "confidence": 0.52,
        "by": "ann",
        "role": "operator",
        "camera": "top",
        "coil": "A4711",
    }
    assert row["sha256"] == kept.sha256 == label.sha256
    assert hashlib.sha256(store.picture(label)).hexdigest() == kept.sha256
    assert counting(store) == {kept.path: "crazing"}


def test_two_people_at_once_are_both_kept_and_the_newest_counts(store, pictures, tmp_path):
    """Two stores of one folder, as two processes have them, see each other's labels."""
    other, kept = LabelStore(tmp_path / "labels", pictures.folder, FakeClock()), pictures.add()
    store.add([NewLabel(kept.path, "crazing")], ANN)
    other.add([NewLabel(kept.path, "patches")], BOB)
    assert counting(store) == counting(other) == {kept.path: "patches"}
    assert [json.loads(line)["number"] for line in lines(store)] == [1, 2]
    assert [(one.label.label, one.before) for one in store.recent(5)] == [("patches", "crazing"), ("crazing", None)]


def test_undo_appends_and_returns_to_the_label_before(store, pictures):
    """It takes back the newest label of that person alone, and changes no line."""
    first, second = pictures.several(2)
    store.add([NewLabel(first.path, "crazing")], ANN)
    store.add([NewLabel(second.path, "good"), NewLabel(first.path, "patches")], BOB)
    before = lines(store)
    assert [one.label for one in store.undo(BOB)] == ["patches"]
    assert counting(store) == {first.path: "crazing", second.path: "good"}
    assert [one.label for one in store.undo(ANN)] == ["crazing"]
    assert store.undo(ANN) == []
    assert counting(store) == {second.path: "good"}
    assert lines(store)[: len(before)] == before
    assert [json.loads(line)["undone"] for line in lines(store)] == [None, None, None, 3, 1]


def test_random_tile_is_blind_once(store, pictures):
    """After the first label its guess was shown: a second one, also after an undo, is no longer blind."""
    kept = pictures.add("audit")
    assert [one.blind for one in store.add([NewLabel(kept.path, "good")], ANN)] == [True]
    store.undo(ANN)
    assert [one.blind for one in store.add([NewLabel(kept.path, "crazing")], BOB)] == [False]
    twice = pictures.add("audit").path
    assert [one.blind for one in store.add([NewLabel(twice, "good"), NewLabel(twice, "good")], ANN)] == [True, False]
    assert [one.blind for one in store.add([NewLabel(pictures.add("unsure").path, "good")], ANN)] == [False]


def test_torn_last_line_is_skipped_and_the_next_label_is_whole(store, pictures, tmp_path):
    """A power cut in the middle of a line loses that line alone."""
    first, second, third = pictures.several(3)
    store.add([NewLabel(first.path, "good")], ANN)
    store.add([NewLabel(second.path, "good")], ANN)
    path = tmp_path / "labels" / "labels.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    again = LabelStore(tmp_path / "labels", pictures.folder, FakeClock())
    assert counting(again) == {first.path: "good"}
    again.add([NewLabel(third.path, "patches")], ANN)
    assert counting(again) == {first.path: "good", third.path: "patches"}
    assert again.damaged == 1
    assert labels.read(tmp_path / "labels") == again.all()


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"{}", b"null", b'{"schema":"x"}', b"[" * 5000, b'{"number":"1e9999","undone":null}']
)
def test_foreign_line_is_skipped(store, pictures, tmp_path, line):
    """Whatever stands in the file, the labels around it are read."""
    first, second = pictures.several(2)
    store.add([NewLabel(first.path, "good")], ANN)
    with (tmp_path / "labels" / "labels.jsonl").open("ab") as file:
        file.write(line + b"\n")
    store.add([NewLabel(second.path, "good")], ANN)
    assert len(store.all()) == 2
    assert len(labels.read(tmp_path / "labels")) == 2


def test_killed_writer_loses_no_label_that_it_has_confirmed(tmp_path):
    """After kill -9 at any moment each confirmed label and its picture are there."""
    folder = tmp_path / "evidence"
    kept = [one.path for one in Pictures(folder).several(200)]
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge.evidence.labels import *\n"
        "from edge.host.clock import SystemClock\n"
        "store = LabelStore(Path(sys.argv[1]), Path(sys.argv[2]), SystemClock())\n"
        "for path in sys.argv[3:]:\n"
        "    store.add([NewLabel(path, 'good')], Person('ann', 'operator'))\n"
        "    sys.stdout.write(path + chr(10))\n"
        "    sys.stdout.flush()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "labels"), str(folder), *kept], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        confirmed = [child.stdout.readline().strip() for _ in range(7)]
        child.send_signal(signal.SIGKILL)
        confirmed += child.stdout.read().split()
    store = LabelStore(tmp_path / "labels", folder, FakeClock())
    assert confirmed[:7] == kept[:7]
    assert set(confirmed) <= set(counting(store))
    assert all(store.picture(one) for one in store.all())
    assert store.add([NewLabel(kept[-1], "good")], ANN)


def test_two_writers_number_their_labels_once(tmp_path):
    """The lock of the file orders them: no number appears twice, and no line is lost."""
    pictures = Pictures(tmp_path / "evidence")
    paths = [one.path for one in pictures.several(20)]

    def label_all(name: str) -> None:
        store = LabelStore(tmp_path / "labels", pictures.folder, FakeClock())
        for path in paths:
            store.add([NewLabel(path, "good")], Person(name, "operator"))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(label_all, ("ann", "bob")))
    rows = (tmp_path / "labels" / "labels.jsonl").read_text().splitlines()
    assert [json.loads(row)["number"] for row in rows] == list(range(1, 41))


@pytest.mark.parametrize(
    ("path", "label", "cause"),
    [
        ("../../etc/passwd", "good", "path"),
        ("unsure/../unsure/0000000001-top-0123456789abcdef.jpg", "good", "path"),
        ("frame/0000000001-top-0123456789abcdef.jpg", "good", "path"),
        (None, "../x", "label"),
        (None, "", "label"),
        (None, "a" * 80, "label"),
        (None, "<script>", "label"),
    ],
)
def test_wrong_path_or_label_is_refused_whole(store, pictures, path, label, cause):
    """Then no label of the call was added."""
    good, other = pictures.several(2)
    with pytest.raises(EvidenceError) as raised:
        store.add([NewLabel(other.path, "good"), NewLabel(path or good.path, label)], ANN)
    assert raised.value.cause == cause
    assert store.all() == []


def test_label_of_an_evicted_picture_is_left_out_unless_it_has_a_copy(store, pictures):
    """A correction works without the original; a first label needs it."""
    first, second = pictures.several(2)
    store.add([NewLabel(first.path, "good")], ANN)
    for one in (first, second):
        (pictures.folder / one.path).unlink()
    assert [one.label for one in store.add([NewLabel(first.path, "patches"), NewLabel(second.path, "good")], ANN)] == [
        "patches"
    ]


def label_each(store, kept):
    for one in kept:
        store.add([NewLabel(one.path, "good")], ANN)


@pytest.mark.parametrize("limits", [{"max_pictures": 3}, {"max_bytes": 700}, {"max_lines": 3}])
def test_full_store_refuses_with_the_remedy(tmp_path, pictures, limits):
    """The labels before stay, and the reason names the way out."""
    store = LabelStore(tmp_path / "labels", pictures.folder, FakeClock(), **limits)
    kept = pictures.several(8)
    with pytest.raises(EvidenceError, match=r"maximum\. Export them") as raised:
        label_each(store, kept)
    assert raised.value.cause == "labels_full"
    assert 2 <= len(store.all()) <= 4
    assert store.undo(ANN)


def test_original_on_another_disk_is_copied(store, pictures, monkeypatch):
    """Where a hard link is not possible the bytes are written again."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    kept = pictures.add()
    (label,) = store.add([NewLabel(kept.path, "good")], ANN)
    assert hashlib.sha256(store.picture(label)).hexdigest() == kept.sha256


def test_damaged_copy_is_reported(store, pictures, tmp_path):
    """Its bytes must have the hash in its name."""
    (label,) = store.add([NewLabel(pictures.add().path, "good")], ANN)
    (tmp_path / "labels" / "pictures" / label.picture).write_bytes(b"x")
    with pytest.raises(EvidenceError) as raised:
        store.picture(label)
    assert raised.value.cause == "damaged"


def test_modules_of_the_page_process_are_light():
    """Labels, their queue and their worth import neither numpy nor pydantic nor OpenCV."""
    script = (
        "import sys, edge.evidence.labels, edge.evidence.label_queue, edge.evidence.label_worth\n"
        "sys.exit(' '.join({'numpy', 'pydantic', 'cv2', 'edge.config'} & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
