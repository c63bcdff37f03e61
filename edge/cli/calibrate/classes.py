"""calibrate classes: teach new classes, or the model's own on other steel, from a few labelled tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.calibrate.page_labels import labelled_on_page, labelled_option, labels_option
from edge.cli.calibrate.session import Output, Run, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import config_option
from edge.cli.progress import note

if TYPE_CHECKING:
    from edge import config
    from edge.calibration.classes import Lesson, Taught
    from edge.config.calibration import ClassesPart
    from edge.model.classifier import Classifier


@click.command(short_help="Teach classes from a few labelled tiles of each.")
@config_option
@output_options
@click.option("--camera", help="Camera of the configuration [default: the first].")
@labelled_option(
    "Folder of class folders with tiles (`good`: defect-free), or of pictures with a boxes.json; repeatable."
)
@labels_option
@click.option(
    "--other-classes",
    type=click.Choice(["auto", "keep", "drop"]),
    default="auto",
    show_default=True,
    help="The model's classes without a folder. auto: drop them where the tiles are unlike the model's training.",
)
@click.option("--undo", is_flag=True, help="Take back what was taught last.")
@click.option("--i-have-looked", "has_looked", is_flag=True, help="Accept classes that cannot be distinguished.")
@exits_with_reason
def classes(
    config_path: Path,
    camera: str | None,
    folders: tuple[Path, ...],
    labels: bool,
    other_classes: str,
    undo: bool,
    has_looked: bool,
    output: Output,
) -> None:
    """Teach classes from a few labelled tiles of each: new ones, or the model's own on other steel.

    Five tiles of a class are a start; the command says how many more would help. Needs no training machine: a layer on
    the outputs of the network is fitted in seconds. All reported figures come from leaving out one picture at a time.

    \b
    Examples:
      defectd evidence export --out tiles/          # look through them, correct the labels, add folders
      defectd calibrate classes --camera top --labelled tiles/
      defectd calibrate classes --camera top --labels --dry-run --plates look/
      defectd reload
      defectd calibrate classes --camera top --undo
    """
    one_thread_each()
    if undo and (folders or labels):
        raise click.UsageError("--undo takes back what was taught: leave --labelled and --labels out")
    if not undo and not folders and not labels:
        raise click.UsageError("give --labelled FOLDER, --labels for those of the page, or --undo")
    run = Run(config_path, camera, "classes", output)
    if undo:
        _undo(run)
    else:
        _teach(run, output, folders, other_classes, labels=labels, has_looked=has_looked)


def _teach(
    run: Run, output: Output, folders: tuple[Path, ...], other_classes: str, *, labels: bool, has_looked: bool
) -> None:
    from edge.calibration import classes as calibration
    from edge.config import calibration as files
    from edge.errors import CalibrationError

    calibrated, model = run.effective()
    network = model.classifier
    with labelled_on_page(run, calibrated, calibration.MIN_PICTURES, wanted=labels) as exported:
        lesson, unread, rare = _lesson(run, calibrated, network, (*folders, *exported.folders))
    inside, distance = _is_inside(lesson, network)
    keeps = inside if other_classes == "auto" else other_classes == "keep"
    calibration.check(lesson.labels, lesson.scores.outputs().shape[1], network.card, keeps=keeps)
    memory = None if network.surface is None else network.surface.memory
    found = calibration.teach(
        lesson,
        network.card,
        memory,
        tile_px=calibrated.tile_px,
        temperature=network.temperature,
        keeps=keeps,
    )
    for line in calibration.report(found):
        run.say(line)
    _say_what_stays(run, found, network, keeps=keeps, distance=distance)
    objections = (
        *(f"{one} and {other} cannot be distinguished" for one, other in found.inseparable),
        *(f"none of {point.n} pictures of {point.name} was named right" for point in found.points if not point.named),
    )
    refused = CalibrationError(
        f"{'; '.join(objections)}: no better than by chance. Nothing was written. Give more pictures, "
        "join the folders, or accept it with --i-have-looked"
    )
    is_refused = bool(objections) and not has_looked
    if is_refused and not output.dry_run:
        raise refused
    source = ", ".join([*map(str, folders), *(["labels of the page"] if labels else [])])
    part, content = _part(run, found, calibrated, source, objections)
    others = files.load(run.path).classes
    run.keep(
        {"classes": (part, *others)[: files.MAX_TAUGHT]},
        pictures={},
        files={part.file: content},
        objections=objections if is_refused else (),
    )
    if calibrated.calibrated_thresholds is not None:
        note("calibrated thresholds hold for the classes before: run `defectd calibrate thresholds` again")
    table = [[one, other, n] for (one, other), n in sorted(found.confusion.items())]
    details: dict[str, object] = {"confusion": table, "left_out": unread, "distance": distance}
    details["too_few"] = exported.too_few | rare
    run.done({**part.model_dump(mode="json", exclude={"made"}), **details} if run.as_json else {})
    if is_refused and output.plates is None:  # with plates, `apply` refuses, and a person can look first
        raise refused


def _lesson(
    run: Run, calibrated: config.Camera, network: Classifier, folders: tuple[Path, ...]
) -> tuple[Lesson, list[str], dict[str, int]]:
    """The labelled tiles with their scores, the files that could not be read, and the classes with too few tiles."""
    from collections import Counter

    import numpy as np

    from edge.calibration import labelled_tiles, lesson_tiles
    from edge.calibration.classes import MIN_PICTURES, Lesson
    from edge.calibration.labelled_tiles import LeftOut
    from edge.errors import CalibrationError
    from edge.model.classifier import Scores

    left_out, card = LeftOut(), network.card
    labels: list[str] = []
    pictures: list[str] = []
    scores: list[Scores] = []
    with run.progress(None, "tiles") as advance:
        for tile in lesson_tiles.read(folders, calibrated.tile_px, card.tile_px, card.input_px, left_out):
            labels.append(tile.label)
            pictures.append(tile.picture)
            scores.append(network.score(tile.pixels[None]))
            advance()
    for line in left_out.lines():
        note(line)
    if not labels:
        raise CalibrationError(f"{', '.join(map(str, folders))}: no tile to learn from")
    for line in labelled_tiles.checked(folders).unchecked():
        note(line)
    rare = {name: n for name, n in sorted(Counter(labels).items()) if n < MIN_PICTURES}
    for name, n in rare.items():
        note(f"left out: {name} has {n}, at least {MIN_PICTURES} are needed")
    kept = [at for at, label in enumerate(labels) if label not in rare]
    if not kept:
        raise CalibrationError(f"{', '.join(map(str, folders))}: no class with {MIN_PICTURES} tiles to learn from")
    places = np.unique(np.asarray([pictures[at] for at in kept]), return_inverse=True)[1]
    taught = tuple(labels[at] for at in kept)
    lesson = Lesson(Scores.joined([scores[at] for at in kept]), taught, np.asarray(places, np.intp))
    return lesson, [str(path) for path, _ in left_out.reasons], rare


def _is_inside(lesson: Lesson, network: Classifier) -> tuple[bool, float | None]:
    """Whether the tiles with defects are like those of the model's training, and their median distance from these."""
    import numpy as np

    from edge.vision.domain import OUTSIDE
    from edge.vision.taught_classes import GOOD

    defects = [place for place, label in enumerate(lesson.labels) if label != GOOD]
    if network.surface is None or not defects:
        return True, None
    distance = float(np.median(network.surface.distances(lesson.scores.outputs()[defects])))
    return distance <= OUTSIDE, round(distance, 3)


def _say_what_stays(run: Run, found: Taught, network: Classifier, *, keeps: bool, distance: float | None) -> None:
    others = [name for name in network.card.classes if name not in {point.name for point in found.points}]
    if others and keeps:
        run.say(f"the model's other classes stay: {', '.join(others)}")
    elif others:
        why = "" if distance is None else f" (these tiles are {distance:g} from its training; up to 1 is usual)"
        run.say(f"the model's other classes are not used at this camera{why}: {', '.join(others)}")
    shared = [point.name for point in found.points if point.name in network.card.classes]
    if shared:
        how = "is the base of" if found.trusts_model else "does not help with"
        run.say(f"what the model itself says {how} {', '.join(shared)}")


def _part(
    run: Run,
    found: Taught,
    calibrated: config.Camera,
    source: str,
    objections: tuple[str, ...],
) -> tuple[ClassesPart, bytes]:
    from edge.config.calibration import ClassesPart

    content = found.classes.coded()
    model, taught = found.classes.model, {point.name for point in found.points}
    part = ClassesPart(
        file=run.named("classes", content, "npz"),
        model={"name": model.name, "version": model.version, "sha256": model.sha256},
        tile_px=calibrated.tile_px,
        classes=found.classes.names,
        kept=tuple(name for name in found.classes.names if name not in taught),
        taught=found.points,
        macro=round(found.macro, 4),
        low=round(found.macro_interval[0], 4),
        high=round(found.macro_interval[1], 4),
        made=run.made_of(source[:500], found.total, None, objections),
    )
    return part, content


def _undo(run: Run) -> None:
    """Take back what is in use with the model that decides now, or else what was taught last."""
    from edge.config import calibration as files
    from edge.errors import CalibrationError
    from edge.vision.learned_file import Model

    known = files.load(run.path).classes
    if not known:
        raise CalibrationError(f"camera {run.camera.name} was taught no classes: there is nothing to take back")
    calibrated, model = run.effective()
    ours = Model.of(model.classifier.card).sha256
    in_use = [one for one in known if one.model["sha256"] == ours and one.tile_px == calibrated.tile_px]
    gone = (in_use or list(known))[0]
    rest = tuple(one for one in known if one is not gone)
    run.keep({"classes": rest}, pictures={})
    after = next((one for one in in_use if one is not gone), None)
    named = model.classifier.card.classes if after is None else after.classes
    run.say(f"taken back: {', '.join(gone.classes)} of {gone.made.time}; defects are named {', '.join(named)}")
    run.done({"undone": gone.model_dump(mode="json"), "classes": list(named)} if run.as_json else {})
