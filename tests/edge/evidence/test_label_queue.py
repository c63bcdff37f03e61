"""Which picture a person labels next."""

import json

import pytest
from fakes.clock import FakeClock
from fakes.pictures import Pictures

from edge.evidence import archive
from edge.evidence.label_queue import LabelQueue
from edge.evidence.labels import LabelStore, NewLabel, Person

ANN = Person("ann", "operator")


@pytest.fixture
def pictures(tmp_path):
    return Pictures(tmp_path / "evidence")


@pytest.fixture
def store(tmp_path, pictures):
    return LabelStore(tmp_path / "labels", pictures.folder, FakeClock())


@pytest.fixture
def queue(pictures, store):
    return LabelQueue(pictures.folder, store)


def paths(batch):
    return [one.origin.evidence for one in batch.items]


def kinds(batch):
    return [one.origin.kind for one in batch.items]


def unsure(pictures, p, **facts):
    return pictures.add("unsure", scores={"scratches": p, "inclusion": 0.1}, **facts).path


def test_nearest_to_the_threshold_comes_first(pictures, queue):
    """By the threshold in use where it is known; a tile without scores comes last."""
    far, near, none = unsure(pictures, 0.36), unsure(pictures, 0.58), pictures.add("unsure", scores=None).path
    limits = {"top": {"scratches": 0.6, "inclusion": 0.6}}
    assert paths(queue.next("unsure", 9, thresholds=limits)) == [near, far, none]
    assert paths(queue.next("unsure", 9, thresholds={"top": {"scratches": 0.3}})) == [far, near, none]
    score = pictures.add("unsure", scores={"scratches": 0.1}, anomaly=0.99).path
    assert paths(queue.next("unsure", 1, thresholds=limits)) == [score]


def test_one_in_four_is_blind(pictures, queue):
    """Random tiles are mixed in; when the others run out, they follow each other."""
    pictures.several(5, "unsure")
    pictures.several(4, "audit")
    pictures.several(2, "defect")
    order = kinds(queue.next("unsure", 99))
    assert order[:8] == ["unsure", "unsure", "unsure", "audit", "unsure", "unsure", "defect", "audit"]
    assert order[8:] == ["defect", "audit", "audit"]
    assert set(kinds(queue.next("random", 99))) == {"audit"}


def test_mixture_goes_on_where_the_caller_is(pictures, queue):
    """With the pictures that the page has already left out, the next ones follow in the same order."""
    pictures.several(9, "unsure")
    pictures.several(9, "audit")
    everything = paths(queue.next("unsure", 99))
    first = paths(queue.next("unsure", 6))
    assert first + paths(queue.next("unsure", 6, skip=[path[-20:-4] for path in first])) == everything[:12]


def test_labelled_pictures_are_left_out_and_come_back_after_an_undo(pictures, store, queue):
    """A random tile whose guess was shown does not come back as a blind one."""
    tile, random = pictures.add("unsure").path, pictures.add("audit").path
    store.add([NewLabel(tile, "good"), NewLabel(random, "good")], ANN)
    assert paths(queue.next("unsure", 9)) == []
    store.undo(ANN, 2)
    assert paths(queue.next("unsure", 9)) == [tile]
    assert queue.next("unsure", 9).left == {"unsure": 1, "random": 0, "defects": 0}


def test_grid_has_one_guess_and_nothing_blind(pictures, queue):
    """Defects and unsure tiles of that guess; no random tile, whose guess nobody may see."""
    scratch = pictures.add("defect", label="scratches").path
    pictures.add("defect", label="patches")
    doubt = unsure(pictures, 0.5)
    pictures.add("audit", label="scratches")
    batch = queue.next("unsure", 99, guess="scratches")
    assert paths(batch) == [scratch, doubt]
    assert batch.guesses == {"scratches": 2, "patches": 1}


def test_defect_comes_once(pictures, queue):
    """The pictures of its opening and of its closing event show one defect: the later one shows more."""
    pictures.add("defect", track_id="7")
    later = pictures.add("defect", track_id="7").path
    assert paths(queue.next("defects", 9)) == [later]


def test_blind_picture_reveals_nothing_that_the_model_said(pictures, queue):
    """Neither what the page receives nor the bytes of the picture follow from the verdict."""
    facts = {"label": "crazing", "scores": {"crazing": 0.93}, "anomaly": 4.25, "event_id": "e-77", "model": "m" * 64}
    kept = pictures.add("audit", **facts)
    (one,) = queue.next("random", 1).items
    sent = json.dumps(one.as_json(blind=True)).encode() + archive.without_facts(
        archive.read(pictures.folder, kept.path)
    )
    for secret in (b"crazing", b"0.93", b"4.25", b"e-77", b"mmmm"):
        assert secret not in sent
    assert b"crazing" in json.dumps(one.as_json(blind=False)).encode()


def test_order_of_blind_pictures_does_not_follow_the_verdict(pictures, queue):
    """They come by hash, whatever their label, time or camera."""
    for number in range(40):
        pictures.add("audit", label="crazing" if number % 2 else "good")
    hashes = [path[-20:-4] for path in paths(queue.next("random", 99))]
    assert hashes == sorted(hashes)
    assert len(hashes) == 40


def test_only_the_newest_pictures_are_looked_at(pictures, store):
    """However large the archive is, the work is bounded."""
    pictures.several(5, "unsure")
    newest = {one.path for one in pictures.several(3, "unsure")}
    assert set(paths(LabelQueue(pictures.folder, store, max_looked_at=3).next("unsure", 99))) == newest


def test_defects_an_hour_come_from_the_archive(pictures, queue):
    """Counted between the first and the last; unknown for fewer than two, or a short time."""
    assert queue.defects_per_hour() is None
    pictures.add("defect", time="2026-11-22T10:00:00.000Z")
    assert queue.defects_per_hour() is None
    for minute in (20, 40):
        pictures.add("defect", time=f"2026-11-22T10:{minute}:00.000Z")
    pictures.add("defect", time="2026-11-22T11:00:00.000Z")
    assert queue.defects_per_hour() == pytest.approx(3.0)


def test_deleted_picture_is_forgotten(pictures, queue):
    """The archive may delete a picture between two calls."""
    gone, stays = pictures.add("unsure").path, pictures.add("unsure").path
    queue.next("unsure", 9)
    (pictures.folder / gone).unlink()
    assert paths(queue.next("unsure", 9)) == [stays]
    assert queue.about("../x") is None
