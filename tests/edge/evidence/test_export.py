"""From evidence to a training folder."""

import csv
import hashlib
import json
import random
import shutil

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from fakes.clock import FakeClock
from fakes.delivery import event
from pydantic import SecretStr

from edge import config
from edge.calibration import labelled_tiles
from edge.cli import main
from edge.errors import EvidenceError
from edge.event import Defect
from edge.evidence.archive import Archive, pictures
from edge.evidence.export import chosen, chosen_labels, export, export_labels
from edge.evidence.labels import LabelStore, NewLabel, Person
from edge.evidence.selector import EvidenceSelector
from edge.evidence.writer import EvidenceWriter
from edge.frame import Frame
from edge.host.clock import NS_PER_S, SystemClock
from edge.vision.decision import Detections, Region
from edge.vision.inspector import Verdict
from trainer.data.index import index_folder
from trainer.data.pictures import read, tile_px

SIDE = 64
CAMERA = config.Camera(name="top", source=SecretStr("strip:"), tile_px=SIDE)
GRAYS = np.kron(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10, np.ones((SIDE, SIDE), np.uint8))
"""Each tile has a gray of its own: 10 times its place."""


def shown(number):
    """A frame whose tiles differ from those of any other frame."""
    coarse = np.random.default_rng(number).integers(0, 12, (32, 48), np.uint8)
    pixels = GRAYS + cv2.resize(coarse, GRAYS.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return Frame("top", number, pixels, 0)


def tile(place):
    return (place % 6) * SIDE, (place // 6) * SIDE, SIDE, SIDE


def evidence(folder, clock, **settings):
    """A writer, and a selector that takes a tile from every frame."""
    chosen = config.Evidence(audit_per_hour=36_000, unsure_per_hour=36_000, per_minute=10_000, **settings)
    writer = EvidenceWriter(chosen, Archive(folder, max_bytes=10**8, min_free_bytes=0), SystemClock())
    writer.start()
    return writer, EvidenceSelector(chosen, writer.keep, clock, random.Random(2))


@pytest.fixture
def kept(tmp_path):
    """Evidence of a short day: eight patches and eight scratches of two tiles, good tiles and unsure tiles."""
    folder, clock = tmp_path / "evidence", FakeClock()
    writer, selector = evidence(folder, clock, longest_px=100, frames=True)
    for number in range(8):
        for class_name, place in (("patches", 8), ("scratches", 15)):
            x, y, w, h = tile(place)
            box = (x, y, 2 * w, h)
            region = Region(class_name, 0.9, box, 2, tile(place + 1))
            fact = event("defect.opened", defect=Defect(f"{class_name}{number}", class_name, 0.9, box, 2, 2))
            pending = selector.select(fact, CAMERA, shown(number), Detections((region,), ()))
            assert pending(10) is not None
    for number in range(30):
        verdict = Verdict("unsure", Detections((), (tile(3),)), 24)
        selector.sample(shown(number), verdict, lambda: [tile(0), tile(1)])
        clock.advance(1.0)
    assert writer.stop(10)
    return folder


def exported(folder, out, **selection):
    return list(export(folder, list(chosen(folder, **selection)), out))


def gray(path):
    return float(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).mean())


def test_trainer_reads_an_exported_folder(kept, tmp_path):
    """It reads the class folders and good, and ignores unsure; each tile has its size in the frame."""
    out = tmp_path / "out"
    tiles = exported(kept, out)
    assert {path.name for path in out.iterdir()} == {"patches", "scratches", "good", "unsure", "manifest.csv"}
    index = index_folder(out)
    assert index.classes == ("patches", "scratches")
    found = [picture for pictures in index.splits.values() for picture in pictures]
    assert sum(picture.label == index.good for picture in found) == len(list((out / "good").iterdir())) > 5
    assert len(found) == len(tiles) - len(list((out / "unsure").iterdir()))
    assert tile_px(found) == SIDE
    assert {read(picture.path).shape for picture in found} == {(SIDE, SIDE)}


def test_defect_is_exported_as_its_tile_of_highest_confidence(kept, tmp_path):
    """The tile is cut out of the crop at its place, even when the crop was shrunk."""
    out = tmp_path / "out"
    exported(kept, out)
    assert all(abs(gray(path) - 95) < 7 for path in (out / "patches").iterdir())
    assert all(abs(gray(path) - 165) < 7 for path in (out / "scratches").iterdir())
    assert all(abs(gray(path) - 35) < 4 for path in (out / "unsure").iterdir())


def test_manifest_gives_the_origin_of_each_tile(kept, tmp_path):
    """One row per file: label, camera, time, place in the frame, evidence, event and hash of the file."""
    out = tmp_path / "out"
    tiles = exported(kept, out)
    with (out / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(tiles)
    there = {stored.path for stored in pictures(kept)}
    for row in rows:
        assert hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["file"].startswith(row["label"] + "/")
        assert row["evidence"] in there
    patch = next(row for row in rows if row["label"] == "patches")
    assert (patch["camera"], patch["confidence"], patch["tile_px"]) == ("top", "0.9", "192 64 64 64")
    assert patch["event_id"]


def test_pictures_are_selected_by_time_camera_and_kind(kept):
    """Filters select by time, camera and kind."""
    found = list(chosen(kept))
    assert {stored.kind for stored, _ in chosen(kept, kinds=["audit"])} == {"audit"}
    assert list(chosen(kept, camera="side")) == []
    later = FakeClock().wall_ns() + 10 * NS_PER_S
    some = list(chosen(kept, since_wall_ns=later, kinds=["audit"]))
    assert 0 < len(some) < sum(stored.kind == "audit" for stored, _ in found)


def test_export_leaves_an_existing_folder_alone(kept, tmp_path):
    """A person may have corrected labels in it."""
    with pytest.raises(EvidenceError, match="exists already"):
        exported(kept, tmp_path)


def test_interrupted_export_leaves_no_folder(kept, tmp_path):
    """After Ctrl-C half way there is no folder that looks complete."""
    out = tmp_path / "out"
    running = export(kept, list(chosen(kept)), out)
    next(running)
    running.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence"]


def test_damaged_picture_and_foreign_label_do_not_stop_the_export(kept, tmp_path):
    """The export leaves out the picture, and writes the foreign label as unsure."""
    first = next(stored for stored in pictures(kept) if stored.kind == "defect")
    whole = (kept / first.path).read_bytes()
    (kept / first.path).write_bytes(whole[:600])
    archive = Archive(kept, max_bytes=10**8, min_free_bytes=0)
    archive.open()
    coded = cv2.imencode(".jpg", GRAYS[:SIDE, :SIDE])[1].tobytes()
    facts = {"label": "../..", "crop_px": tile(0), "time": "2026-11-22T13:46:11.482Z"}
    foreign = archive.add("audit", "top", coded, facts)
    archive.close()
    tiles = {one.evidence: one for one in exported(kept, tmp_path / "out")}
    assert first.path not in tiles
    assert tiles[foreign.path].label == "unsure"


def test_command_line_lists_and_exports(kept, tmp_path):
    """`defectd evidence list` and `export` write text for people and JSON for scripts."""
    path = tmp_path / "c.yaml"
    camera = {"name": "top", "source": "strip:"}
    path.write_text(yaml.safe_dump({"node": "n", "evidence": {"dir": str(kept)}, "cameras": [camera]}))

    def call(*args):
        result = CliRunner().invoke(main, ["evidence", *args, "-c", str(path)], catch_exceptions=False)
        return result.exit_code, result.stdout, result.stderr

    code, output, notes = call("list", "-n", "3")
    assert (code, len(output.splitlines())) == (0, 1 + 3), "a head and three pictures"
    assert "pictures" in notes
    code, output, _ = call("list", "--json", "--kind", "defect")
    entries = [json.loads(line) for line in output.splitlines()]
    assert len(entries) == 16
    assert {entry["label"] for entry in entries} == {"patches", "scratches"}
    out = tmp_path / "out"
    code, output, _ = call("export", "--out", str(out), "--kind", "defect")
    assert (code, output) == (0, f"{out}: 16 tiles, 8 patches, 8 scratches\n")
    code, _, notes = call("export", "--out", str(out))
    assert code == 1
    assert "give a new folder" in notes
    code, output, _ = call("export", "--out", str(tmp_path / "two"), "--json", "--kind", "audit")
    assert {json.loads(line)["kind"] for line in output.splitlines()} == {"audit"}


def labelled(kept, tmp_path):
    """Two defects, a random tile and two unsure tiles with labels of people; one is unclear."""
    store = LabelStore(tmp_path / "state" / "labels", kept, FakeClock())
    found = {kind: [one.path for one in pictures(kept) if one.kind == kind] for kind in ("defect", "audit", "unsure")}
    given = [
        *[NewLabel(path, "scratches") for path in found["defect"][:2]],
        NewLabel(found["audit"][0], "patches"),
        *[NewLabel(path, "rolled-in scale") for path in found["unsure"][:2]],
        NewLabel(found["unsure"][2], "unclear"),
    ]
    assert len(store.add(given, Person("ann", "operator"))) == 6
    return store, given


def test_export_of_labels_equals_the_labels(kept, tmp_path):
    """Each picture is in the folder of its label, though the archive has deleted all of them meanwhile."""
    store, given = labelled(kept, tmp_path)
    before = {one.evidence: one for one in exported(kept, tmp_path / "before")}
    shutil.rmtree(kept)
    found, left_out = chosen_labels(tmp_path / "state" / "labels")
    tiles = list(export_labels(tmp_path / "state" / "labels", found, tmp_path / "out"))
    assert {tile.evidence: tile.label for tile in tiles} == {one.evidence: one.label for one in given[:-1]}
    assert left_out == {"unclear": 1}
    assert {tile.evidence: tile.blind for tile in tiles} == {one.origin.evidence: one.blind for one in found}
    assert [tile.blind for tile in tiles] == [False, False, True, False, False]
    for tile in tiles:
        assert tile.file.startswith(f"{tile.label}/")
        assert hashlib.sha256((tmp_path / "out" / tile.file).read_bytes()).hexdigest() == tile.sha256
        assert tile.sha256 == before[tile.evidence].sha256  # the same tile as the export of the archive
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["by"], row["confirmed"]) for row in rows} == {("ann", "yes")}
    assert sorted(row["blind"] for row in rows) == ["no"] * 4 + ["yes"]
    assert labelled_tiles.checked([tmp_path / "out"]) == labelled_tiles.Checked(5, 0, 4, 1)
    assert store.undo(Person("ann", "operator"))


def test_class_with_too_few_labels_is_left_out_on_request(kept, tmp_path):
    """Thresholds need ten of each class; a class without a folder keeps its threshold."""
    labelled(kept, tmp_path)
    found, left_out = chosen_labels(tmp_path / "state" / "labels", min_pictures=2)
    assert {one.label for one in found} == {"scratches", "rolled-in scale"}
    assert left_out == {"patches": 1, "unclear": 1}


def test_command_line_exports_labels(kept, tmp_path):
    """`defectd evidence export --labelled` names what it leaves out; a plain export confirms nothing."""
    labelled(kept, tmp_path)
    path = tmp_path / "c.yaml"
    settings = {"node": "n", "state_dir": str(tmp_path / "state"), "evidence": {"dir": str(kept)}}
    path.write_text(yaml.safe_dump({**settings, "cameras": [{"name": "top", "source": "strip:"}]}))

    def call(*args):
        return CliRunner().invoke(main, ["evidence", "export", *args, "-c", str(path)], catch_exceptions=False)

    done = call("--labelled", "--min-pictures", "2", "--out", str(tmp_path / "out"))
    assert done.stdout == f"{tmp_path}/out: 4 tiles, 2 rolled-in scale, 2 scratches\n"
    assert "left out: 1 labels patches" in done.stderr
    done = call("--json", "--kind", "audit", "--out", str(tmp_path / "all"))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["confirmed"], row["blind"], row["by"]) for row in rows} == {(False, False, "")}
