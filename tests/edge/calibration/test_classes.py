"""Classes taught from a few tiles: what is learned, measured, kept and refused, and what the command writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from fakes import bundles
from fakes.clock import FakeClock
from fakes.configured import calibrated_camera

from edge.calibration import classes, labelled_tiles, lesson_tiles
from edge.calibration.classes import Lesson, Taught
from edge.calibration.labelled_tiles import LeftOut
from edge.cli import main
from edge.config import calibration
from edge.errors import CalibrationError, ConfigError
from edge.evidence.archive import Archive
from edge.evidence.labels import LabelStore, NewLabel, Person
from edge.host.clock import SystemClock
from edge.model.classifier import Classifier, Scores
from edge.model.surface import Memory
from edge.vision import taught_classes
from edge.vision.inspector import Inspector
from edge.vision.taught_classes import TaughtClasses

CARD = bundles.bundle(good=(0.0, 0.0)).card
OWN = len(CARD.classes)
WIDTH = 12


def scores(columns: list[int], own: list[int], seed: int = 0, noise: float = 0.2) -> Scores:
    """Tiles whose features stand out in `columns`; the network says `own`, a class number, or OWN for good."""
    rng = np.random.default_rng(seed)
    features = noise * rng.random((len(columns), WIDTH))
    features[np.arange(len(columns)), columns] += 1.0
    logits = np.zeros((len(columns), OWN + 1))
    logits[np.arange(len(columns)), own] = 4.0
    return Scores(logits[:, :OWN].astype(np.float32), features.astype(np.float32), logits[:, OWN:].astype(np.float32))


def taught(
    columns: list[int], own: list[int], labels: list[str], *, keeps: bool, memory: Memory | None = None
) -> Taught:
    lesson = Lesson(scores(columns, own), tuple(labels), np.arange(len(labels)))
    return classes.teach(lesson, CARD, memory, tile_px=32, temperature=1.0, keeps=keeps)


def called(head: TaughtClasses, tiles: Scores) -> list[str]:
    names = (*head.names, "good") if head.has_good else head.names
    return [names[i] for i in taught_classes.every_probability(head.applied(tiles), 1.0).argmax(axis=1)]


MEMORY = Memory(
    np.concatenate([scores([n % 7] * 6, [n] * 6, n).features for n in range(OWN + 1)]),
    tuple(name for name in (*CARD.classes, "good") for _ in range(6)),
)
"""The model's classes stand out in columns 0 to 5, good surface in 6."""


def test_new_class_is_learned_beside_the_models_own() -> None:
    """Five tiles that the model calls crazing become a class; the other classes and good surface stay what they are."""
    found = taught([8] * 5, [0] * 5, ["gouge"] * 5, keeps=True, memory=MEMORY)
    head = found.classes
    assert head.names == (*CARD.classes, "gouge")
    assert called(head, scores([8] * 9, [0] * 9, 5)) == ["gouge"] * 9
    at = [*range(OWN + 1)]
    assert called(head, scores(at, at, 6)) == [*CARD.classes, "good"]
    assert (found.points[0].named, found.points[0].n, found.macro) == (5, 5, 1.0)


def test_model_that_is_right_stays_the_base_of_its_names() -> None:
    """Where the model names the tiles right, it is trusted; where it is wrong about them, the tiles count."""
    names = [name for name in CARD.classes[:3] for _ in range(4)]
    right = taught([8, 9, 10, 11] * 3, [n for n in range(3) for _ in range(4)], names, keeps=True, memory=MEMORY)
    assert right.trusts_model
    assert called(right.classes, scores([8] * 3, [0, 1, 2], 3)) == list(CARD.classes[:3])
    wrong = taught(
        [n for n in (8, 9, 10) for _ in range(4)], [(n + 1) % 3 for n in range(3) for _ in range(4)], names, keeps=False
    )
    assert not wrong.trusts_model
    assert called(wrong.classes, scores([8, 9, 10], [1, 2, 0], 3)) == list(CARD.classes[:3])


def test_false_alarms_are_taught_away() -> None:
    """Good tiles that the model calls scratches are good afterwards; real scratches stay."""
    found = taught([8] * 6, [5] * 6, ["good"] * 6, keeps=True, memory=MEMORY)
    assert called(found.classes, scores([8, 8, 5], [5, 5, 5], 7)) == ["good", "good", CARD.classes[5]]


def test_left_out_figures_are_those_of_a_fit_without_the_picture() -> None:
    """The closed form equals what fitting again without each picture gives, tiles of one picture together."""
    rng = np.random.default_rng(3)
    lesson = Lesson(
        Scores(rng.random((12, OWN), np.float32), rng.random((12, WIDTH), np.float32), rng.random((12, 1), np.float32)),
        ("a", "b") * 6,
        np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]),
    )
    columns = ("a", "b", "good")
    prior = np.zeros((OWN + 1, 3))
    prior[OWN, 2] = 1.0
    values = lesson.scores.features.astype(np.float64)
    problem = classes._problem(lesson, classes._remembered(None, columns, keeps=False), values, columns, prior, 1.0)
    sums = problem.left_out(0.3, trusts_model=True)
    target = problem.residual(trusts_model=True)
    rows = np.concatenate((values, np.ones((12, 1))), axis=1) * problem.weight[:, None]
    for picture in range(6):
        others, own = lesson.pictures != picture, lesson.pictures == picture
        fit = np.linalg.solve(rows[others].T @ rows[others] + 0.3 * np.eye(WIDTH + 1), rows[others].T @ target[others])
        again = problem.own[own] + (rows[own] / problem.weight[own, None]) @ fit
        assert np.allclose(sums[own], again)


def test_lesson_that_cannot_work_is_refused() -> None:
    """Good surface alone names no class, and a network without features learns none."""
    with pytest.raises(CalibrationError, match="only defect-free"):
        classes.check(["good"] * 3, 240, CARD, keeps=False)
    with pytest.raises(CalibrationError, match="gives no features"):
        classes.check(["a", "a"], 1, CARD, keeps=True)


def test_classes_that_cannot_be_told_apart_are_named() -> None:
    """The same tiles under two names: never more right than wrong."""
    found = taught([8] * 24, [0] * 24, ["dent", "bruise"] * 12, keeps=False)
    assert found.inseparable == (("bruise", "dent"),)
    assert all(point.taken_for for point in found.points)


def test_more_pictures_are_asked_for_where_they_help() -> None:
    """A class that is often confused gets a number of pictures, or none where no number is likely to do."""
    rng = np.random.default_rng(1)
    columns = [8] * 12 + [int(c) for c in rng.choice([8, 9], 12, p=(0.3, 0.7))]
    found = taught(columns, [0] * 24, ["dent"] * 12 + ["pit"] * 12, keeps=False)
    (pit,) = [point for point in found.points if point.name == "pit"]
    assert pit.named < 12
    assert pit.more is None or pit.more > 12
    assert any("for 90%" in line for line in classes.report(found))


# ---- the tiles -----------------------------------------------------------------------------------------


def picture(path: Path, gray: int, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side), gray, np.uint8))


def test_boxes_give_tiles_around_them(tmp_path: Path) -> None:
    """A tile of the camera's size around each box, inside the picture; its label is the class of the box."""
    image = np.zeros((100, 120), np.uint8)
    image[40:50, 100:110] = 255
    cv2.imwrite(str(tmp_path / "p.png"), image)
    (tmp_path / "boxes.json").write_text(json.dumps({"p.png": [["Edge Crack", 100, 40, 110, 50]], "gone.png": []}))
    left_out = LeftOut()
    (tile,) = lesson_tiles.read([tmp_path], 32, 200, 16, left_out)
    assert (tile.label, tile.pixels.shape, left_out.reasons) == ("edge_crack", (16, 16), [])
    assert tile.pixels.max() == 255


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"p.png": [["a", 1, 2, 3]]}',
        '{"p.png": [["a", 5, 5, 5, 9]]}',
        '{"../p.png": [["a", 1, 1, 2, 2]]}',
        '{"p.png": [["unknown", 1, 1, 2, 2]]}',
    ],
)
def test_boxes_that_cannot_be_used_are_refused(tmp_path: Path, content: str) -> None:
    """The message says what the file should hold."""
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(CalibrationError):
        list(lesson_tiles.read([tmp_path], 32, 200, 16, LeftOut()))


def test_pictures_of_one_defect_stand_and_fall_together(tmp_path: Path) -> None:
    """By the manifest of an export: same camera, same class, within seconds; also after a person moved one."""
    for name in ("a", "b", "c"):
        picture(tmp_path / "dent" / f"{name}.png", 90)
    lines = ["file,label,kind,camera,time,confirmed"]
    times = {"a": "00:00:01.000", "b": "00:00:02.500", "c": "00:01:00.000"}
    lines += [f"dent/{name}.png,dent,defect,top,2026-01-01T{at}Z,no" for name, at in times.items()]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    (tmp_path / "pit").mkdir()
    (tmp_path / "dent" / "b.png").rename(tmp_path / "pit" / "b.png")
    tiles = sorted((tile.label, tile.picture) for tile in lesson_tiles.read([tmp_path], 32, 32, 16, LeftOut()))
    assert [label for label, _ in tiles] == ["dent", "dent", "pit"]
    assert tiles[0][1] != tiles[1][1]
    assert tiles[2][1] in {tiles[0][1], tiles[1][1]}
    assert [line.partition(" exported")[0] for line in labelled_tiles.checked([tmp_path]).unchecked()] == ["2 of 3"]


# ---- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A camera with tiles of 32 px, and a bundle whose network only sees the mean gray."""
    from fakes.bundles import bundle_of

    bundle_of(tmp_path, "1")
    path = tmp_path / "c.yaml"
    path.write_text(
        "node: n\nstate_dir: ./state\nmodel: {bundle: ./v1, precision: fp32}\n"
        'cameras: [{name: top, source: "strip:", tile_px: 32}]\n'
    )
    for number in range(6):
        picture(tmp_path / "tiles" / "dent" / f"{number}.png", 40 + number)
        picture(tmp_path / "tiles" / "burr" / f"{number}.png", 200 + number)
    return path


def run(path: Path, *words: str) -> Any:
    return CliRunner().invoke(main, ["calibrate", "classes", "-c", str(path), *words])


def test_taught_classes_name_what_a_camera_sees_until_they_are_taken_back(configured: Path) -> None:
    """They belong to a model and a size of tiles, change the configuration's hash, and --undo removes them."""
    before = calibrated_camera(configured).calibration.as_json()
    done = run(configured, "--labelled", str(configured.parent / "tiles"), "--other-classes", "drop", "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["classes"] == ["burr", "dent"]
    camera = calibrated_camera(configured)
    assert camera.calibration.as_json() != before
    network = Classifier(bundles.load(configured.parent / "v1"))
    inspector = Inspector(camera, network, SystemClock())
    assert (inspector.classes, inspector.temperature) == (("burr", "dent"), 1.0)
    verdict = inspector.inspect_alone(np.tile(np.array([[200, 206]], np.uint8), (64, 32)))
    assert {region.class_name for region in verdict.detections.regions} <= {"burr"}
    other = camera.model_copy(update={"tile_px": 48})
    assert Inspector(other, network, SystemClock()).classes == network.card.classes
    assert taught_classes.classes_of(camera, network.card) == ("burr", "dent")

    assert run(configured, "--labelled", str(configured.parent / "tiles"), "--other-classes", "keep").exit_code == 0
    undone = run(configured, "--undo", "--json")
    assert json.loads(undone.stdout)["classes"] == ["burr", "dent"], "the ones before"
    assert json.loads(run(configured, "--undo", "--json").stdout)["classes"] == list(network.card.classes)
    assert run(configured, "--undo").exit_code != 0
    assert calibrated_camera(configured).calibration.as_json() == before
    folder = configured.parent / "state" / "calibration"
    assert len(list(folder.glob("*.npz"))) == 1, "for `calibrate undo`"
    assert CliRunner().invoke(main, ["calibrate", "undo", "-c", str(configured)]).exit_code == 0
    assert taught_classes.classes_of(calibrated_camera(configured), network.card) == ("burr", "dent")


def test_classes_of_another_model_are_ignored(configured: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning and the remedy; the classes of the model itself name the defects."""
    run(configured, "--labelled", str(configured.parent / "tiles"), "--other-classes", "drop")
    (known,) = taught_classes.known_of(calibrated_camera(configured))
    foreign = replace(known, model=replace(known.model, sha256="0" * 64))
    card = bundles.load(configured.parent / "v1").card
    assert taught_classes.fitting([foreign], card, calibrated_camera(configured)) is None
    assert "calibrate classes --camera top" in caplog.text


def test_damaged_file_of_taught_classes_refuses_the_start(configured: Path) -> None:
    """As every damaged calibration does: never inspect by something else in silence."""
    run(configured, "--labelled", str(configured.parent / "tiles"), "--other-classes", "drop")
    (path,) = calibrated_camera(configured).calibration.taught
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="holds no taught classes"):
        taught_classes.known_of(calibrated_camera(configured))


def test_dry_run_writes_nothing(configured: Path) -> None:
    """The figures are printed all the same."""
    done = run(configured, "--labelled", str(configured.parent / "tiles"), "--other-classes", "drop", "--dry-run")
    assert "6 of 6" in done.output
    assert calibration.load(configured.parent / "state" / "calibration" / "top.yaml").classes == ()


def test_a_folder_with_one_tile_is_left_out_and_named(configured: Path) -> None:
    """An export may hold one picture of a class: the others are taught."""
    tiles = configured.parent / "tiles"
    alone = next((tiles / "dent").iterdir())
    (tiles / "good").mkdir()
    shutil.copy(alone, tiles / "good" / f"one{alone.suffix}")
    done = run(configured, "--labelled", str(tiles), "--other-classes", "drop", "--dry-run", "--json")
    assert json.loads(done.stdout)["too_few"] == {"good": 1}
    assert "left out: good has 1" in done.stderr


def test_labels_of_the_page_teach_what_a_dry_run_showed(configured: Path) -> None:
    """New names of people count; a class with one label is left out, and so is a picture of another tile size."""
    state = configured.parent / "state"
    given = [
        *(("dent", 40, 32),) * 3,
        *(("burr", 200, 32),) * 3,
        ("pit", 90, 32),
        ("burr", 210, 48),
        ("unclear", 9, 32),
    ]
    labelled(state, given)
    look = configured.parent / "look"
    words = ("--labels", "--other-classes", "drop", "--json", "--dry-run", "--plates", str(look))
    done = run(configured, *words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["classes"], found["too_few"]) == (["burr", "dent"], {"pit": 1})
    assert (found["change"]["kind"], found["change"]["before"]) == ("classes", None)
    assert found["change"]["after"]["taught"][0]["n"] == 3
    assert "pit has 1, at least 2 are needed: label 1 more" in done.stderr
    assert calibrated_camera(configured).calibration.taught == ()
    applied = CliRunner().invoke(main, ["calibrate", "apply", str(look), "-c", str(configured)])
    assert applied.exit_code == 0, applied.output
    assert taught_classes.known_of(calibrated_camera(configured))[0].names == ("burr", "dent")


def labelled(state: Path, given: list[tuple[str, int, int]]) -> None:
    """Pictures that a person has labelled on the page: label, gray, side in px; minutes lie between them."""
    archive = Archive(state / "evidence", max_bytes=1 << 24, min_free_bytes=0)
    archive.open()
    store = LabelStore(state / "labels", state / "evidence", FakeClock())
    for number, (label, gray, side) in enumerate(given):
        facts = {"kind": "unsure", "camera": "top", "label": "unsure", "crop_px": [0, 0, side, side]}
        facts["time"] = f"2026-01-01T00:{number:02}:00.000Z"
        pixels = np.full((side, side), gray + number, np.uint8)
        jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
        store.add([NewLabel(archive.add("unsure", "top", jpeg, facts).path, label)], Person("eva", "operator"))
    archive.close()
