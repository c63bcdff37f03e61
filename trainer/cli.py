"""The command `defectd-train`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm  # type: ignore[import-untyped]

from edge.bundle import FP32, INT8, load
from edge.camera.strip import CLASSES as STRIP_CLASSES
from edge.camera.strip import Strip
from edge.errors import DefectdError
from edge.vision.classifier import Classifier
from trainer import data, evaluate, export, quantize
from trainer import student as student_room
from trainer.recipe import Recipe, TrainingError, quick
from trainer.train import Epoch

FOLDER = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Train and evaluate the networks that defectd runs."""


@main.command()
@click.option("--data", "folder", type=FOLDER, required=True, help="Class folders, or train, valid and test with them.")
@click.option("--out", type=FOLDER, required=True, help="Where the bundle is written.")
@click.option("--boxes", type=FOLDER, help="Boxes of the defects; found by itself in DATA or beside it.")
@click.option("--epochs", type=click.IntRange(1), default=Recipe().epochs, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--quick", "hurried", is_flag=True, help="Two epochs: shows that everything works.")
@click.option("--test", "with_test", is_flag=True, help="Measure the test split too: once, for a model you release.")
@click.option("--sound", type=FOLDER, multiple=True, help="Pictures of sound surface, only measured. Several times.")
def student(
    folder: Path,
    out: Path,
    boxes: Path | None,
    epochs: int,
    seed: int,
    hurried: bool,
    with_test: bool,
    sound: tuple[Path, ...],
) -> None:
    """Train a student from scratch and write it as a bundle."""
    recipe = replace(Recipe(), epochs=epochs)
    recipe = quick(recipe) if hurried else recipe
    terminal = sys.stderr.isatty()
    bar = tqdm(total=recipe.epochs, unit="epoch", disable=not terminal)

    def report(epoch: Epoch) -> None:
        bar.set_postfix_str(f"loss {epoch.loss:.3f}, held out {epoch.right}/{epoch.of}", refresh=False)
        bar.update()
        if not terminal and (epoch.number == recipe.epochs or epoch.number % 10 == 0):
            click.echo(f"epoch {epoch.number}: loss {epoch.loss:.3f}, held out {epoch.right}/{epoch.of}", err=True)

    try:
        made = student_room.make(
            folder,
            recipe,
            seed=seed,
            boxes=boxes or student_room.find_boxes(folder),
            with_test=with_test,
            sound=sound,
            frames=20 if hurried else 400,
            report=report,
        )
        export.write(made, out)
    except (TrainingError, DefectdError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        bar.close()
    size = sum(len(network) for network in made.networks.values())
    click.echo(f"{out}: {made.card.name}, {size} bytes, temperature {made.card.temperature:g}")
    for split in ("held_out", "valid", "test"):
        if split in made.card.metrics:
            click.echo(_line(split, made.card.metrics[split]))


@main.command(name="evaluate")
@click.option("--bundle", "where", required=True, help="A bundle: directory, zip or `builtin`.")
@click.option("--data", "folder", type=FOLDER, required=True, help="As for `student`.")
@click.option("--split", type=click.Choice(["train", "held_out", *data.SPLITS[1:]]), default="test", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate_(where: str, folder: Path, split: str, precision: str, as_json: bool) -> None:
    """Measure a bundle's file on pictures, through the code that ships."""
    try:
        classifier = Classifier(load(where), network=INT8 if precision == "int8" else FP32)
        classifier.selftest()
        index = data.index(folder)
        card = classifier.card
        if index.classes != card.classes:
            raise TrainingError(f"{folder} has {', '.join(index.classes)}; the bundle knows {', '.join(card.classes)}")
        report = evaluate.evaluate(classifier, index.splits[split], temperature=classifier.temperature)
        found = {split: report.as_metrics()}
        if card.classes == STRIP_CLASSES and card.has_good:
            strip = evaluate.measure_strip(classifier, Strip(seed=1), range(100), temperature=classifier.temperature)
            found["strip"] = strip
    except (TrainingError, DefectdError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(_line(split, report.as_metrics()))
    for name, row in zip(card.classes, report.confusion, strict=True):
        click.echo(f"  {name:<16} {' '.join(f'{count:4d}' for count in row)}")
    if "strip" in found:
        strip = found["strip"]
        click.echo(
            f"generated strip: of {strip['sound_tiles']} sound tiles {strip['sound_tiles_defect']} false and "
            f"{strip['sound_tiles_unsure']} unsure, "
            f"{strip['defects_right_3_frames_running']} of {strip['defects']} defects right"
        )


@main.command(name="quantize")
@click.argument("where", metavar="BUNDLE")
@click.option("--data", "folder", type=FOLDER, required=True, help="What the student was trained on, as for `student`.")
@click.option("--out", type=FOLDER, help="Where the bundle is written [default: BUNDLE, if it is a folder].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--accuracy-drop", type=click.FloatRange(0, 1), default=quantize.Gate().accuracy_drop, show_default=True)
@click.option("--agreement", type=click.FloatRange(0, 1), default=quantize.Gate().agreement, show_default=True)
@click.option("--gain", type=click.FloatRange(0), default=quantize.Gate().gain, show_default=True)
def quantize_(
    where: str, folder: Path, out: Path | None, seed: int, accuracy_drop: float, agreement: float, gain: float
) -> None:
    """Add an int8 network to a bundle, if it is as right as fp32 and faster on this box.

    Kept only if it loses no more than --accuracy-drop of the pictures that fp32 names rightly, agrees with it on
    --agreement of them, and fp32 takes --gain times as long. Otherwise nothing is written and the exit code is 1.
    """
    gate = quantize.Gate(accuracy_drop=accuracy_drop, agreement=agreement, gain=gain)
    if out is None and not Path(where).is_dir():
        raise click.UsageError(f"{where} is no folder: say with --out where the bundle is to be written")
    try:
        outcome = quantize.quantize(
            load(where), data.index(folder), gate=gate, seed=seed, report=lambda line: click.echo(line, err=True)
        )
        if outcome.kept:
            export.write(outcome.bundle, out or Path(where))
    except (TrainingError, DefectdError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if not outcome.kept:
        raise click.ClickException("int8 is not kept: " + "; ".join(outcome.refusals))
    found = outcome.measured
    click.echo(
        f"{out or where}: {INT8}, {found['bytes']} bytes, calibrated by {found['calibration']}; {found['right']} of "
        f"{found['n']} right, fp32 {found['fp32_right']}; fp32 takes "
        + ", ".join(f"{times} times as long for {tiles}" for tiles, times in found["times_fp32"].items())
        + " tiles"
    )


def _line(split: str, counts: dict[str, Any]) -> str:
    return (
        f"{split}: {counts['right']} of {counts['n']} right; as single frames {counts['defect_right']} right, "
        f"{counts['defect_wrong']} wrong, {counts['unsure']} unsure, {counts['missed']} missed"
    )


if __name__ == "__main__":
    main()
