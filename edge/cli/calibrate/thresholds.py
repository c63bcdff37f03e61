"""calibrate thresholds: temperature and per-class thresholds from labelled tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.calibrate.session import Run
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option, json_option
from edge.cli.progress import note

if TYPE_CHECKING:
    from edge import config
    from edge.calibration.threshold_plots import Row
    from edge.calibration.thresholds import Sample
    from edge.model.classifier import Classifier


@click.command()
@config_option
@json_option
@click.option("--camera", help="Which camera of the configuration; the first when not given.")
@click.option(
    "--labelled",
    "folders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of class folders with tiles, `good` or `normal` for sound surface; repeatable.",
)
@click.option("--good", multiple=True, metavar="PATH", help="Frames of sound surface, all tiles count; repeatable.")
@click.option("--frames", type=click.IntRange(1, 100_000), default=300, show_default=True, help="Of --good, at most.")
@click.option("--recall", type=Number(0, 1, min_open=True), help="Least share found of each class [default: 0.95].")
@click.option(
    "--false-alarms-per-hour",
    "per_hour",
    type=Number(1e-6, 1e9),
    help="In its place: most tile alarms an hour, before confirmation, shown by sound tiles with 95 %.",
)
@click.option("--fps", type=Number(0, 10_000, min_open=True), help="Frames a second [default: the camera's].")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@exits_with_reason
def thresholds(
    config_path: Path,
    as_json: bool,
    camera: str | None,
    folders: tuple[Path, ...],
    good: tuple[str, ...],
    frames: int,
    recall: float | None,
    per_hour: float | None,
    fps: float | None,
    dry_run: bool,
) -> None:
    """Softmax temperature and a threshold for each class, from tiles that people have labelled.

    The folder may be an export of confirmed evidence: move what is wrong first. By default each threshold is the
    highest that still finds 95 of 100 of its class, lowered halfway to the next sound tile: no false alarm more, and
    some margin. Everything told is measured crosswise, each half of the pictures with what the other half gave.

    \b
    defectd evidence export --out tiles/          # look through them, move what is wrong
    defectd calibrate thresholds --camera top --labelled tiles/ --good sound-frames/
    defectd calibrate thresholds --labelled tiles/ --good sound/ --false-alarms-per-hour 2000
    """
    one_thread_each()
    from edge import config
    from edge.calibration import threshold_plots
    from edge.calibration import thresholds as room
    from edge.config.calibration import Judged
    from edge.host.clock import SystemClock
    from edge.vision.inspector import Inspector

    if recall is not None and per_hour is not None:
        raise click.UsageError("--recall and --false-alarms-per-hour are two ways to say the same: give one")
    run = Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    fitted, model = run.effective()
    loaded, network = model.bundle, model.classifier
    names = loaded.card.classes
    sample, tiles_a_frame, unread = _gathered(run, fitted, network, folders, good, frames)
    an_hour = _tiles_an_hour(fitted, fps, tiles_a_frame)
    if per_hour and not an_hour:
        raise click.UsageError("an hour has how many tiles? Give frames of sound surface with --good, and --fps")
    if per_hour and an_hour and per_hour >= an_hour:
        raise click.UsageError(f"{per_hour:g} false alarms an hour are as many as there are tiles ({an_hour:,.0f})")
    wish = room.Wish(recall or room.RECALL, per_hour / an_hour if per_hour and an_hour else None)
    before = Inspector(fitted, network, SystemClock()).thresholds.per_class.tolist()
    unsure = fitted.decision.unsure
    found = room.calibrate(sample, wish, names=names, temperature=network.temperature, unsure=unsure, levels=before)
    for line in room.said(found, network.temperature, an_hour):
        run.say(line)
    rows = threshold_plots.table(sample, found.fit.temperature)
    _tell_table(run, rows, names, found.sound, an_hour)
    part = Judged(
        levels=config.CalibratedThresholds(
            bundle=loaded.digest,
            tile_px=fitted.tile_px,
            temperature=found.fit.temperature if found.helps else None,
            classes=found.levels,
        ),
        classes=found.points,
        reliability=found.reliability,
        sound=found.sound,
        recall=None if per_hour else wish.recall,
        false_alarms_per_hour=per_hour,
        tiles_per_hour=an_hour,
        made=run.made_of(", ".join([*map(str, folders), *good])[:500], int(sample.fits_temperature.sum()), None),
    )
    run.keep(
        {"thresholds": part}, pictures={"thresholds": threshold_plots.chart(sample, found, names, unsure, an_hour)}
    )
    _tell_what_goes_before(run.camera)
    table = [{"level": r.level, "alarms": r.alarms, "recall": dict(zip(names, r.recall, strict=True))} for r in rows]
    run.done({**part.model_dump(mode="json"), "table": table, "left_out": unread} if as_json else {})


def _tiles_an_hour(camera: config.Camera, fps: float | None, tiles_a_frame: int | None) -> float | None:
    rate = fps or camera.fps
    return 3600.0 * rate * tiles_a_frame if rate and tiles_a_frame else None


def _gathered(
    run: Run,
    fitted: config.Camera,
    network: Classifier,
    folders: Sequence[Path],
    good: tuple[str, ...],
    frames: int,
) -> tuple[Sample, int | None, list[str]]:
    """What the network says of all that was given, tiles of a frame where its size is known, what could not be read."""
    from edge.calibration import labelled_tiles
    from edge.calibration.thresholds import LEAST, Gathering
    from edge.host.clock import SystemClock
    from edge.vision.inspector import Inspector

    card = network.card
    found = labelled_tiles.find(folders, card.classes)
    labelled_tiles.least([one.label for one in found], card.classes, LEAST)
    left, gathering = labelled_tiles.LeftOut(), Gathering(network)
    with run.progress(len(found), "judging") as advance:
        for label, tile in labelled_tiles.read(found, card.input_px, (fitted.tile_px, card.tile_px), left):
            gathering.add(tile, label)
            advance()
    for line in left.said():
        note(line)
    labelled_tiles.least(gathering.labels, card.classes, LEAST)
    total, unmoved, own = labelled_tiles.unconfirmed(folders)
    if unmoved:
        note(
            f"{unmoved} of {total} exported pictures stand where the model put them: has a person looked at them? "
            f"{own} are there because it found them; what it missed is not among them, so recall looks too good"
        )
    tiles: int | None = None
    if good:
        footage, inspector = run.footage(good, frames), Inspector(fitted, network, SystemClock())
        for number, frame in enumerate(footage.frames):
            cut = inspector.cut(inspector.prepare(frame, follow=False))
            tiles = gathering.sound(cut, int(2 * number >= len(footage.frames)))
    return gathering.sample(), tiles, [str(path) for path, _ in left.reasons]


def _tell_what_goes_before(camera: config.Camera) -> None:
    if camera.calibrated_thresholds is not None:
        note("the configuration has levels of its own for this camera, which go before: remove them there")
    if camera.decision.classes:
        note(f"decision.classes goes before, for {', '.join(camera.decision.classes)}: remove it there")


def _tell_table(run: Run, rows: Sequence[Row], names: Sequence[str], sound: int, an_hour: float | None) -> None:
    heads = " ".join(f"{name[:12]:>12}" for name in names)
    run.say("\nall classes at one level; recall: named right")
    run.say(f"{'level':>6} {'alarms':>8} {'an hour':>12} {heads}")
    for row in rows:
        rate = f"{row.alarms / sound * an_hour:,.0f}" if sound and an_hour else "-"
        alarms = str(row.alarms) if sound else "-"
        shares = " ".join(f"{'-' if share is None else f'{share:.1%}':>12}" for share in row.recall)
        run.say(f"{row.level:>6g} {alarms:>8} {rate:>12} {shares}")
