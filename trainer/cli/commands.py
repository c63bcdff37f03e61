"""The commands of `defectd-train`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from edge import __version__
from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.camera.sources.simulator import Strip
from edge.errors import DefectdError
from edge.host.clock import SystemClock
from edge.model.bundle import FP32, INT8, load
from edge.model.classifier import Classifier
from trainer import plan
from trainer.cli import publish
from trainer.cli.progress_bars import ProgressBars
from trainer.compression import export_onnx, int8_gate, quantize
from trainer.data import contact_sheet
from trainer.data.boxes import find_boxes, read_boxes
from trainer.data.folds import Grouping
from trainer.data.index import index_folder
from trainer.data.splits import SPLITS
from trainer.data.training_set import training_set
from trainer.distributed import join_processes
from trainer.evaluation import evaluate, latency
from trainer.evaluation.simulated_strip import measure_strip
from trainer.evaluation.training_surface import with_surface
from trainer.job import Task
from trainer.pipeline import STAGES, new_job
from trainer.recipe import TrainingError
from trainer.run_folder import RunFolder, StageResult

FOLDER = click.Path(path_type=Path)
Command = Callable[..., Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="defectd-train")
def main() -> None:
    """Train and evaluate the networks that defectd runs.

    `all` runs every stage: data, teacher, student, pruning, fine-tuning, ONNX export, int8 quantization, evaluation and
    report. `teacher`, `distill`, `prune`, `finetune`, `export`, `quantize` and `evaluate` stop after their stage. They
    share the run folder: each command resumes where the last one stopped, and repeats only the stages whose data,
    recipe or seed have changed.

    \b
    Examples:
      defectd-train all --quick --data runs/steel --out runs/quick
    """


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an error as one line and exit with code 1; SIGTERM stops like Ctrl-C."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (TrainingError, DefectdError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("stopped. Run the same command again to resume") from None
    finally:
        signal.signal(signal.SIGTERM, before)


# Stages of a run ---------------------------------------------------------------------------------------------------


def run_options(*, out_required: bool = True) -> Callable[[Command], Command]:
    """The options that all stages share."""
    options = [
        click.option(
            "--data", "folder", type=FOLDER, required=True, help="Class folders, or train, valid, test with them."
        ),
        click.option("--out", type=FOLDER, required=out_required, help="The run folder."),
        click.option(
            "--recipe",
            default=plan.AUTO,
            show_default=True,
            help=f"A file, one of {', '.join(plan.SHIPPED)}, or auto: the one that suits what is installed.",
        ),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random numbers."
        ),
        click.option("--quick", is_flag=True, help="A trial of a few minutes on a part of the pictures."),
        click.option("--folds", type=click.IntRange(2), help="Cross-validate with this many folds as well."),
        click.option(
            "--fold-by",
            type=click.Choice(["numbers", "twins"]),
            help="A fold holds out runs of neighbouring file numbers, or random groups of near duplicates (twins).  "
            "[default: numbers]",
        ),
        click.option(
            "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Folds that are trained in parallel."
        ),
        click.option("--boxes", type=FOLDER, help="Boxes of the defects.  [default: boxes.json in DATA or beside it]"),
        click.option("--weights", help="First weights of the teacher: imagenet, none, auto or a file."),
        click.option(
            "--teacher", "teachers", type=FOLDER, multiple=True, help="File of a trained teacher; may be repeated."
        ),
        click.option(
            "--sound",
            "good_folders",
            type=FOLDER,
            multiple=True,
            help="Folder of defect-free pictures that are only evaluated; may be repeated.",
        ),
        click.option(
            "--final", is_flag=True, help="After all measurements, train the network that ships on every picture."
        ),
        click.option(
            "--reference", type=FOLDER, help="An ONNX file to time beside the student, input 1x3xHxW float32."
        ),
    ]

    def with_options(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


def make(until: str, folder: Path, out: Path, recipe: str, **options: Any) -> StageResult:
    """Make a run up to a stage, with progress on stderr."""
    with errors_as_messages():
        task, run = _task(folder, recipe, until, **options), RunFolder(out, SystemClock(), command=_command())
        names = task.plan.up_to(until)
        distributed = [stage.name for stage in STAGES if stage.distributed and stage.name in names]
        with join_processes() as world:
            bars = ProgressBars(quiet=not world.first)
            if world.size > 1:
                if task.plan.folds:
                    raise TrainingError("torchrun cannot train folds. Remove --folds, or start without torchrun")
                with run.lock():
                    new_job(task, run, bars.progress).make(distributed[-1])
        if not world.first:
            sys.exit(0)
        try:
            with run.lock():
                return new_job(task, run, bars.progress).make(until)
        finally:
            bars.close()


def _task(
    folder: Path,
    recipe: str,
    until: str,
    *,
    seed: int,
    quick: bool,
    folds: int | None,
    fold_by: Grouping | None,
    jobs: int,
    final: bool,
    boxes: Path | None,
    weights: str | None,
    teachers: tuple[Path, ...],
    good_folders: tuple[Path, ...],
    reference: Path | None,
    gate: dict[str, Any] | None = None,
) -> Task:
    if recipe == plan.AUTO:
        recipe, why = plan.suited(teacher_given=weights is not None or bool(teachers) or until == "teacher")
        click.echo(f"recipe: {recipe}, because {why}", err=True)
    wanted = plan.load(recipe)
    if gate and wanted.quantize:
        wanted = replace(wanted, quantize=replace(wanted.quantize, **gate))
    if weights is not None or teachers:
        if wanted.teacher is None:
            raise TrainingError(f"the recipe {wanted.name} has no teacher. Remove --weights and --teacher")
        wanted = replace(wanted, teacher=replace(wanted.teacher, weights=weights or wanted.teacher.weights))
    wanted = plan.quick(wanted) if quick else wanted
    wanted = replace(wanted, final=wanted.final or final)
    if folds or fold_by:
        default = wanted.folds or plan.Folds()
        wanted = replace(wanted, folds=plan.Folds(folds or default.count, fold_by or default.by))
    return Task(folder, wanted, seed, boxes or find_boxes(folder), teachers, good_folders, reference, jobs)


def _command() -> str:
    """The command line for the record, without the folders of this machine."""
    return shlex.join(["defectd-train", *(Path(word).name if "/" in word else word for word in sys.argv[1:])])


@main.command(name="all")
@run_options()
def all_(folder: Path, out: Path, recipe: str, **options: Any) -> None:
    """Run every stage: from pictures to a bundle and a report.

    \b
    Examples:
      defectd-train all --data pictures --out runs/line3
    """
    make("report", folder, out, recipe, **options)
    finished = load(out / "bundle")
    sizes = ", ".join(f"{name} {len(network)} bytes" for name, network in finished.networks.items())
    click.echo(f"{out / 'bundle'}: {finished.card.name}, {sizes}, temperature {finished.card.temperature:g}")
    if "final" in finished.card.training:
        click.echo(finished.card.training["final"])
    for split in ("valid", "test"):
        if split in finished.card.metrics:
            click.echo(_line(split, finished.card.metrics[split]))
    click.echo(f"{out / 'report.html'}: the report")


def _stage_command(command: str, stage: str, words: str) -> None:
    example = f"\b\nExamples:\n  defectd-train {command} --data pictures --out runs/line3"

    @main.command(name=command, short_help=words, help=f"{words} Earlier stages are made first.\n\n{example}")
    @run_options()
    def run_stage(folder: Path, out: Path, recipe: str, **options: Any) -> None:
        result = make(stage, folder, out, recipe, **options)
        for name in sorted({file.split("/")[0] for file in result.outputs}):
            click.echo(str(out / name))


_stage_command("teacher", "teacher", "Train the teacher, an EfficientNet-B0.")
_stage_command("distill", "student", "Train the student, by distillation from the teacher if any.")
_stage_command("prune", "prune", "Remove the least important channels of the student.")
_stage_command("finetune", "finetune", "Fine-tune the student with a low learning rate.")
_stage_command("export", "export", "Export the student to ONNX and compare it with torch.")


@main.command(name="quantize", short_help="Add an int8 network, if it is as good and faster.")
@click.argument("where", metavar="[BUNDLE]", required=False)
@click.option(
    "--accuracy-drop",
    type=click.FloatRange(0, 1),
    help="Loss of accuracy against fp32 that is refused if it is no chance.",
)
@click.option("--corruption-drop", type=click.FloatRange(0, 1), help="The same for each corruption.")
@click.option("--agreement", type=click.FloatRange(0, 1), help="Minimum share of pictures with the same class as fp32.")
@click.option("--gain", type=click.FloatRange(0), help="Minimum speed-up: time of fp32 / time of int8.")
@run_options(out_required=False)
def quantize_(where: str | None, folder: Path, out: Path | None, recipe: str, **options: Any) -> None:
    """Add an int8 network, if it is as accurate as fp32 and faster on this machine.

    Without BUNDLE this is the stage of a run. With BUNDLE (a directory, zip or `builtin`), that bundle is quantized and
    written to --out, or to BUNDLE itself if it is a directory. The recipe sets the limits under `quantize`; the options
    override them. If int8 misses a limit, nothing is written and the exit code is 1.

    \b
    Examples:
      defectd-train quantize --data pictures --out runs/line3
    """
    gate = {name: options.pop(name) for name in ("accuracy_drop", "corruption_drop", "agreement", "gain")}
    gate = {name: value for name, value in gate.items() if value is not None}
    if out is None and (where is None or not Path(where).is_dir()):
        raise click.UsageError(f"{where or 'the run'} is not a directory: give --out, the folder to write to")
    target = out or Path(str(where))
    if where is None:
        result = make("quantize", folder, target, recipe, gate=gate, **options)
        kept, refusals, measured = result.notes["kept"], result.notes["refusals"], result.notes["measured"]
    else:
        with errors_as_messages():
            outcome = quantize.quantize(
                load(where),
                index_folder(folder),
                gate=replace(plan.load(recipe).quantize or int8_gate.Gate(), **gate),
                seed=options["seed"],
                report=lambda line: click.echo(line, err=True),
            )
            if outcome.kept:
                export_onnx.write_bundle(outcome.bundle, target)
        kept, refusals, measured = outcome.kept, outcome.refusals, outcome.measured
    if not kept:
        raise click.ClickException("int8 is not kept: " + "; ".join(refusals))
    click.echo(
        f"{target}: {INT8}, {measured['bytes']} bytes, calibrated by {measured['calibration']}; {measured['right']} of "
        f"{measured['n']} correct, fp32 {measured['fp32_right']}; fp32 takes "
        + ", ".join(f"{times} times as long for {tiles}" for tiles, times in measured["times_fp32"].items())
        + " tiles"
    )


@main.command(name="publish", short_help="Write a model as a Hugging Face repository.")
@click.argument("run", metavar="RUN")
@click.option("--to", "out", type=FOLDER, required=True, help="The folder to write.")
@click.option("--repo", help="OWNER/NAME on the hub, for config.json and README.md.")
@click.option("--license", "licence", help="Of the model, as the hub names it: apache-2.0, cc-by-4.0, ...")
@click.option("--upload", is_flag=True, help="Upload it to --repo; needs huggingface_hub, a login and a network.")
@click.option("--private", is_flag=True, help="With --upload: to a private repository.")
def publish_(run: str, out: Path, repo: str | None, licence: str | None, upload: bool, private: bool) -> None:
    """Write a model as a Hugging Face repository: README, config.json, ONNX for any code, the bundle.

    RUN is a run folder, a bundle or `builtin`.

    \b
    Examples:
      defectd-train publish runs/line3 --to hub --repo OWNER/NAME
    """
    with errors_as_messages():
        click.echo(publish.publish(run, out, repo=repo, licence=licence, upload=upload, private=private))


@main.command(name="evaluate", short_help="Evaluate a run, or any bundle, on pictures.")
@click.option(
    "--bundle", "where", help="A bundle to evaluate: directory, zip or `builtin`. Without it: the stage of a run."
)
@click.option(
    "--split",
    type=click.Choice(["train", "held_out", *SPLITS[1:]]),
    default="test",
    show_default=True,
    help="With --bundle: the split to evaluate.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="With --bundle: the network to evaluate.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@run_options(out_required=False)
def evaluate_(
    where: str | None, split: str, precision: str, as_json: bool, folder: Path, out: Path | None, **options: Any
) -> None:
    """Evaluate the finished files of a run, or any bundle, on pictures, with the code of the daemon.

    \b
    Examples:
      defectd-train evaluate --data pictures --out runs/line3
    """
    if where is None:
        if out is None:
            raise click.UsageError("give --out RUN for the stage of a run, or --bundle BUNDLE")
        result = make("evaluate", folder, out, options.pop("recipe"), **options)
        metrics = result.notes["metrics"]
        click.echo(
            json.dumps(metrics)
            if as_json
            else "\n".join(_line(s, metrics[s]) for s in ("valid", "test") if s in metrics)
        )
        return
    with errors_as_messages():
        classifier = Classifier(load(where), network=INT8 if precision == "int8" else FP32)
        classifier.selftest()
        index = index_folder(folder)
        card = classifier.card
        if index.classes != card.classes:
            raise TrainingError(f"{folder} has {', '.join(index.classes)}; the bundle knows {', '.join(card.classes)}")
        counts = evaluate.evaluate(classifier, index.splits[split], temperature=classifier.temperature)
        found = {split: counts.as_metrics()}
        if card.classes == STRIP_CLASSES and card.has_good:
            found["strip"] = measure_strip(
                classifier, Strip(seed=1), range(100), temperature=classifier.temperature
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(_line(split, counts.as_metrics()))
    for name, row in zip(card.classes, counts.confusion, strict=True):
        click.echo(f"  {name:<16} {' '.join(f'{count:4d}' for count in row)}")
    if "strip" in found:
        strip = found["strip"]
        click.echo(
            f"simulated strip: of {strip['sound_tiles']} defect-free tiles {strip['sound_tiles_defect']} are called a "
            f"defect and {strip['sound_tiles_unsure']} are unsure; "
            f"{strip['defects_right_3_frames_running']} of {strip['defects']} defects recognised"
        )


# Other commands ----------------------------------------------------------------------------------------------------


@main.command(name="latency", short_help="Time the networks of a bundle on this core.")
@click.option("--bundle", "where", required=True, help="A bundle: directory, zip or `builtin`.")
@click.option("--reference", type=FOLDER, help="An ONNX file to time beside the bundle, input 1x3xHxW float32.")
@click.option(
    "--rounds", type=click.IntRange(1), default=latency.ROUNDS, show_default=True, help="Rounds of the timing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def latency_(where: str, reference: Path | None, rounds: int, as_json: bool) -> None:
    """Time the networks of a bundle on one thread, interleaved with a reference, against the limit of this core.

    \b
    Examples:
      defectd-train latency runs/line3
    """
    with errors_as_messages():
        measured = latency.measure(load(where), reference=reference, rounds=rounds)
    if as_json:
        click.echo(json.dumps(asdict(measured) | {"ratios": latency.ratios(measured)}))
        return
    click.echo(
        f"{measured.machine}, onnxruntime {measured.onnxruntime}; the process waited for the core "
        f"{100 * measured.waited:.0f} % of the time"
    )
    for timed in measured.paths:
        each = f"{timed.median_us / timed.tiles:9.1f} us a tile, p99 {timed.p99_us / timed.tiles:9.1f}, n {timed.n}"
        click.echo(f"{timed.network:<10} {timed.what:<12} {each}")
    for work in measured.work:
        click.echo(f"{work.network:<10} {work.macs:,} multiply-accumulates, at best {work.bound_us:.1f} us")
    for network, found in latency.ratios(measured).items():
        click.echo(
            f"{network}: the reference takes " + ", ".join(f"{v:g} ({name})" for name, v in found.items()) + " times"
        )


@main.command(name="surface", short_help="Add to a bundle what its training showed.")
@click.argument("where", metavar="BUNDLE")
@click.option("--data", "folder", type=FOLDER, required=True, help="The pictures that BUNDLE was trained with.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the new bundle.")
@click.option("--boxes", type=FOLDER, help="Boxes of the defects.  [default: boxes.json in DATA or beside it]")
@click.option("--recipe", default="default", show_default=True, help="The recipe of the training.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the training.")
def surface_(where: str, folder: Path, out: Path, boxes: Path | None, recipe: str, seed: int) -> None:
    """Add to a bundle what its training showed, so that a node notices a camera that shows something else.

    Bundles of `all` have it. The networks stay as they are, but the card changes: sign the new bundle again.

    \b
    Examples:
      defectd-train surface runs/line3/bundle --data pictures --out known
    """
    with errors_as_messages():
        loaded, wanted, found = load(where), plan.load(recipe), boxes or find_boxes(folder)
        tiles = training_set(
            index_folder(folder),
            read_boxes(found) if found else {},
            strip_seeds=wanted.student.strip_seeds,
            input_px=loaded.card.input_px,
            seed=seed,
        )
        made = with_surface(loaded, tiles)
        if made.card.surface is None:
            raise TrainingError(f"{where}: needs the maximum activations of the network, and pictures of each class")
        export_onnx.write_bundle(made, out)
    click.echo(f"{out}: the surface of {made.card.surface.kinds} kinds of tiles")


@main.command(name="show", short_help="Draw a contact sheet of the pictures, augmented.")
@click.option("--data", "folder", type=FOLDER, required=True, help="As for `all`.")
@click.option("--out", type=FOLDER, required=True, help="The contact sheet, a PNG file.")
@click.option("--recipe", default=plan.AUTO, show_default=True, help="The recipe whose augmentation is shown.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the augmentation.")
def show_(folder: Path, out: Path, recipe: str, seed: int) -> None:
    """Draw a contact sheet: pictures of each class, and the same tiles after augmentation.

    \b
    Examples:
      defectd-train show --data pictures --out runs/look
    """
    with errors_as_messages():
        wanted = plan.load(recipe)
        index = index_folder(folder)
        contact_sheet.save(
            contact_sheet.page(index, wanted.student, input_px=wanted.architecture.input_px, seed=seed), out
        )
    for note in index.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(str(out))


def _line(split: str, counts: dict[str, Any]) -> str:
    return (
        f"{split}: {counts['right']} of {counts['n']} correct; as single frames {counts['defect_right']} correct, "
        f"{counts['defect_wrong']} wrong class, {counts['unsure']} unsure, {counts['missed']} missed"
    )
