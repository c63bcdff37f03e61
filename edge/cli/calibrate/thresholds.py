"""calibrate thresholds: softmax temperature and a threshold per class, from labelled tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.calibrate.page_labels import labelled_on_page, labelled_option, labels_option
from edge.cli.calibrate.session import Output, Run, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option
from edge.cli.progress import note

if TYPE_CHECKING:
    from edge import config
    from edge.calibration.threshold_plots import Row
    from edge.calibration.thresholds import Sample
    from edge.model.classifier import Classifier
    from edge.vision.inspector import Inspector


@click.command(short_help="Set a threshold for each class, from labelled tiles.")
@config_option
@output_options
@click.option("--camera", help="Camera of the configuration [default: the first].")
@labelled_option("Folder of class folders with tiles, `good` or `normal` for defect-free surface; repeatable.")
@labels_option
@click.option(
    "--good", multiple=True, metavar="PATH", help="Frames of defect-free surface, all tiles count; repeatable."
)
@click.option(
    "--frames",
    type=click.IntRange(1, 100_000),
    default=300,
    show_default=True,
    help="Maximum number of frames of --good.",
)
@click.option("--recall", type=Number(0, 1, min_open=True), help="Minimum recall of each class [default: 0.95].")
@click.option(
    "--false-alarms-per-hour",
    "per_hour",
    type=Number(1e-6, 1e9),
    help="Instead of --recall: maximum of tile alarms per hour, before confirmation, with 95 % confidence.",
)
@click.option("--fps", type=Number(0, 10_000, min_open=True), help="Frames per second [default: the camera's].")
@exits_with_reason
def thresholds(
    config_path: Path,
    camera: str | None,
    folders: tuple[Path, ...],
    labels: bool,
    good: tuple[str, ...],
    frames: int,
    recall: float | None,
    per_hour: float | None,
    fps: float | None,
    output: Output,
) -> None:
    """Set the softmax temperature and a threshold for each class, from tiles that people have labelled.

    The folder may be an export of confirmed evidence: correct its labels first. By default each threshold is the
    highest that still finds 95 of 100 pictures of its class, lowered halfway to the next defect-free tile: that adds a
    margin and no false alarm. All reported figures are cross-validated: each half of the pictures is measured with
    what was fitted on the other half.

    \b
    Examples:
      defectd evidence export --out tiles/          # look through them, correct the labels
      defectd calibrate thresholds --camera top --labelled tiles/ --good good-frames/
      defectd calibrate thresholds --camera top --labels
      defectd calibrate thresholds --labelled tiles/ --good good/ --false-alarms-per-hour 2000
    """
    one_thread_each()
    from edge import config
    from edge.calibration import threshold_plots
    from edge.calibration import thresholds as calibration
    from edge.config.calibration import ThresholdsPart
    from edge.host.clock import SystemClock
    from edge.vision.inspector import Inspector

    if recall is not None and per_hour is not None:
        raise click.UsageError("--recall and --false-alarms-per-hour set the same thing: give one of them")
    if not folders and not labels:
        raise click.UsageError(
            "give tiles that people have labelled: --labelled DIR, or --labels for those of the page"
        )
    run = Run(config_path, camera, "thresholds", output)
    calibrated, model = run.effective()
    loaded, network = model.bundle, model.classifier
    inspector = Inspector(calibrated, network, SystemClock())
    names = inspector.classes
    with labelled_on_page(run, calibrated, calibration.MIN_PICTURES, wanted=labels) as exported:
        everything = [*folders, *exported.folders]
        sample, tiles_a_frame, unread = _gathered(run, calibrated, inspector, network, everything, good, frames)
    an_hour = _tiles_per_hour(calibrated, fps, tiles_a_frame)
    if per_hour and not an_hour:
        raise click.UsageError(
            "the number of tiles in an hour is unknown: give frames of defect-free surface with --good, and --fps"
        )
    if per_hour and an_hour and per_hour >= an_hour:
        raise click.UsageError(f"{per_hour:g} false alarms an hour are as many as there are tiles ({an_hour:,.0f})")
    target = calibration.WorkingPoint(
        recall or calibration.RECALL, per_hour / an_hour if per_hour and an_hour else None
    )
    own_temperature = network.temperature if inspector.taught is None else 1.0
    before = inspector.thresholds.per_class.tolist()
    unsure = calibrated.decision.unsure
    result = calibration.calibrate(
        sample, target, names=names, temperature=own_temperature, unsure=unsure, thresholds=before,
        sharpness=network.sharpness if inspector.taught is None else 1.0,
    )  # fmt: skip
    for line in calibration.report(result, own_temperature, an_hour):
        run.say(line)
    rows = threshold_plots.table(sample, result.fit.temperature)
    _print_table(run, rows, names, result.defect_free, an_hour)
    part = ThresholdsPart(
        levels=config.CalibratedThresholds(
            bundle=loaded.digest,
            tile_px=calibrated.tile_px,
            taught=None if inspector.taught is None else inspector.taught.sha256,
            temperature=result.fit.temperature if result.helps else None,
            classes=result.thresholds,
        ),
        classes=result.points,
        reliability=result.reliability,
        sound=result.defect_free,
        recall=None if per_hour else target.recall,
        false_alarms_per_hour=per_hour,
        tiles_per_hour=an_hour,
        made=run.made_of(
            ", ".join([*map(str, folders), *(["labels of the page"] if labels else []), *good])[:500],
            int(sample.fits_temperature.sum()),
            None,
        ),
    )
    run.keep(
        {"thresholds": part}, pictures={"thresholds": threshold_plots.chart(sample, result, names, unsure, an_hour)}
    )
    _note_overrides(run.camera)
    table = [
        {"level": r.threshold, "alarms": r.alarms, "recall": dict(zip(names, r.recall, strict=True))} for r in rows
    ]
    run.done({**part.model_dump(mode="json"), "table": table, "left_out": unread} if output.as_json else {})


def _tiles_per_hour(camera: config.Camera, fps: float | None, tiles_a_frame: int | None) -> float | None:
    rate = fps or camera.fps
    return 3600.0 * rate * tiles_a_frame if rate and tiles_a_frame else None


def _gathered(
    run: Run,
    calibrated: config.Camera,
    inspector: Inspector,
    network: Classifier,
    folders: Sequence[Path],
    good: tuple[str, ...],
    frames: int,
) -> tuple[Sample, int | None, list[str]]:
    """Scores of all tiles, the tiles of a frame of --good if any, and the files that could not be read."""
    from edge.calibration import labelled_tiles
    from edge.calibration.thresholds import MIN_PICTURES, TileScorer

    card, names = network.card, inspector.classes
    found = labelled_tiles.find(folders, names)
    labelled_tiles.check_counts([one.label for one in found], names, MIN_PICTURES)
    left_out, scorer = labelled_tiles.LeftOut(), TileScorer(network, inspector.taught)
    with run.progress(len(found), "judging") as advance:
        for one, tile in labelled_tiles.read(found, card.input_px, (calibrated.tile_px, card.tile_px), left_out):
            scorer.add(tile, one.label)
            advance()
    for line in left_out.lines():
        note(line)
    labelled_tiles.check_counts(scorer.labels, names, MIN_PICTURES)
    for line in labelled_tiles.checked(folders).lines():
        note(line)
    tiles: int | None = None
    if good:
        footage = run.footage(good, frames)
        for number, frame in enumerate(footage.frames):
            cut = inspector.cut(inspector.prepare(frame, follow=False))
            tiles = scorer.add_frame(cut, int(2 * number >= len(footage.frames)))
    return scorer.sample(), tiles, [str(path) for path, _ in left_out.reasons]


def _note_overrides(camera: config.Camera) -> None:
    if camera.decision.classes:
        note(f"decision.classes overrides them for {', '.join(camera.decision.classes)}: remove it there")


def _print_table(run: Run, rows: Sequence[Row], names: Sequence[str], defect_free: int, an_hour: float | None) -> None:
    heads = " ".join(f"{name[:12]:>12}" for name in names)
    run.say("\nall classes at one threshold; recall: named right")
    run.say(f"{'threshold':>9} {'alarms':>8} {'an hour':>12} {heads}")
    for row in rows:
        rate = f"{row.alarms / defect_free * an_hour:,.0f}" if defect_free and an_hour else "-"
        alarms = str(row.alarms) if defect_free else "-"
        shares = " ".join(f"{'-' if share is None else f'{share:.1%}':>12}" for share in row.recall)
        run.say(f"{row.threshold:>9g} {alarms:>8} {rate:>12} {shares}")
