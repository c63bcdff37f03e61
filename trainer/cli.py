"""The command `defectd-train`."""

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
from tqdm import tqdm  # type: ignore[import-untyped]

from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.camera.sources.simulator import Strip
from edge.errors import DefectdError
from edge.host.clock import NS_PER_S, SystemClock
from edge.model.bundle import FP32, INT8, load
from edge.model.classifier import Classifier
from trainer import plan
from trainer.compression import export_onnx, quantize
from trainer.data import contact_sheet
from trainer.data import index as data
from trainer.distributed import together
from trainer.evaluation import evaluate, latency
from trainer.pipeline import FIRST_PROCESS_ALONE, Pipeline, Task, Watch
from trainer.recipe import TrainingError
from trainer.run_folder import Done, Run

FOLDER = click.Path(path_type=Path)
QUIET_S = 20
"""Between two lines about one stage where there is no terminal for a bar."""
Command = Callable[..., Any]


@click.group()
def main() -> None:
    """Train and evaluate the networks that defectd runs.

    `all` makes everything: data, teacher, student, pruning, fine-tuning, ONNX, int8, evaluation, report. `teacher`,
    `distill`, `prune`, `finetune`, `export`, `quantize` and `evaluate` stop behind their stage. All work on the same
    run folder, go on where one of them stopped, and do again only what other data, another recipe or seed ask for.
    """


@contextmanager
def told() -> Iterator[None]:
    """Errors as one line and exit code 1; SIGTERM stops like Ctrl-C."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (TrainingError, DefectdError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("stopped. The same command goes on from here") from None
    finally:
        signal.signal(signal.SIGTERM, before)


# The run -----------------------------------------------------------------------------------------------------------


def run_options(*, out_required: bool = True) -> Callable[[Command], Command]:
    """What every stage is told."""
    options = [
        click.option(
            "--data", "folder", type=FOLDER, required=True, help="Class folders, or train, valid, test with them."
        ),
        click.option("--out", type=FOLDER, required=out_required, help="The run folder."),
        click.option("--recipe", default="default", show_default=True, help=f"A file, or {' or '.join(plan.SHIPPED)}."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--quick", "hurried", is_flag=True, help="A trial of minutes on a part of the pictures."),
        click.option(
            "--folds", type=click.IntRange(2), help="Cross-validate too: the whole recipe so many times again."
        ),
        click.option(
            "--fold-by", type=click.Choice(["numbers", "twins"]), help="What stays together [default: numbers]."
        ),
        click.option(
            "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Folds that are trained at a time."
        ),
        click.option("--boxes", type=FOLDER, help="Boxes of the defects; found by itself in DATA or beside it."),
        click.option("--weights", help="Of the teacher's backbone: imagenet, none, auto or a file."),
        click.option("--teacher", "teachers", type=FOLDER, multiple=True, help="A trained teacher. Several times."),
        click.option("--sound", type=FOLDER, multiple=True, help="Pictures of sound surface, only measured."),
        click.option("--reference", type=FOLDER, help="A network to be timed beside it: ONNX, 1x3xHxW float32."),
    ]

    def with_options(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


def make(until: str, folder: Path, out: Path, recipe: str, **given: Any) -> Done:
    """Make a run up to a stage, told on stderr."""
    with told():
        task, run = _task(folder, recipe, **given), Run(out, SystemClock(), command=_command())
        trained = [name for name in task.plan.up_to(until) if name not in FIRST_PROCESS_ALONE]
        with together() as world:
            bars = Bars(quiet=not world.first)
            if world.size > 1:
                if task.plan.folds:
                    raise TrainingError("folds are trained one after another: leave torchrun or --folds out")
                with run.held():
                    Pipeline(task, run, bars.watch).make(trained[-1])
        if not world.first:
            sys.exit(0)
        try:
            with run.held():
                return Pipeline(task, run, bars.watch).make(until)
        finally:
            bars.close()


def _task(
    folder: Path,
    recipe: str,
    *,
    seed: int,
    hurried: bool,
    folds: int | None,
    fold_by: data.Grouping | None,
    jobs: int,
    boxes: Path | None,
    weights: str | None,
    teachers: tuple[Path, ...],
    sound: tuple[Path, ...],
    reference: Path | None,
    asked: dict[str, float] | None = None,
) -> Task:
    wanted = plan.load(recipe)
    if asked and wanted.quantize:
        wanted = replace(wanted, quantize=replace(wanted.quantize, **asked))
    if weights is not None or teachers:
        if wanted.teacher is None:
            raise TrainingError(f"the recipe {wanted.name} has no teacher. Leave --weights and --teacher out")
        wanted = replace(wanted, teacher=replace(wanted.teacher, weights=weights or wanted.teacher.weights))
    wanted = plan.quick(wanted) if hurried else wanted
    if folds or fold_by:
        kept = wanted.folds or plan.Folds()
        wanted = replace(wanted, folds=plan.Folds(folds or kept.count, fold_by or kept.by))
    return Task(folder, wanted, seed, boxes or data.find_boxes(folder), teachers, sound, reference, jobs)


def _command() -> str:
    """As it can be typed again, without the places of this machine."""
    return shlex.join(["defectd-train", *(Path(word).name if "/" in word else word for word in sys.argv[1:])])


class Bars:
    """A bar with time left for the stage that is made; without a terminal, a line now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._terminal, self._quiet = sys.stderr.isatty(), quiet
        self._bar: Any = None
        self._name, self._told_ns = "", 0
        self._clock = SystemClock()
        self.watch = Watch(self._begin, self._step, self._done)

    def _begin(self, stage: str, number: int, of: int) -> None:
        self.close()
        self._name, self._told_ns = f"{number}/{of} {stage}", self._clock.monotonic_ns()
        if self._terminal and not self._quiet:
            self._bar = tqdm(total=None, desc=self._name, dynamic_ncols=True, leave=False)
        else:
            self._say(f"{self._name} ...")

    def _step(self, done: int, of: int, what: str) -> None:
        if self._bar is not None:
            if of and self._bar.total != of:
                self._bar.reset(total=of)
            self._bar.set_postfix_str(what, refresh=False)
            self._bar.update(max(0, done - self._bar.n) if of else 1)
        elif self._clock.monotonic_ns() - self._told_ns > QUIET_S * NS_PER_S:
            self._told_ns = self._clock.monotonic_ns()
            self._say(f"{self._name}: {f'{done} of {of} ' if of else ''}{what}")

    def _done(self, done: Done) -> None:
        self.close()
        if done.made_now:
            self._say(f"{self._name or done.stage}: done in {done.seconds:.0f} s")
        for note in done.notes.get("notes", ()) if done.stage == "data" else ():
            self._say(f"  note: {note}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, err=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@main.command(name="all")
@run_options()
def all_(folder: Path, out: Path, recipe: str, **given: Any) -> None:
    """Everything, from pictures to a bundle and a report."""
    make("report", folder, out, recipe, **given)
    finished = load(out / "bundle")
    sizes = ", ".join(f"{name} {len(network)} bytes" for name, network in finished.networks.items())
    click.echo(f"{out / 'bundle'}: {finished.card.name}, {sizes}, temperature {finished.card.temperature:g}")
    for split in ("valid", "test"):
        if split in finished.card.metrics:
            click.echo(_line(split, finished.card.metrics[split]))
    click.echo(f"{out / 'report.html'}: the report")


def _stage(command: str, stage: str, words: str) -> None:
    @main.command(name=command, help=f"{words} What it needs is made first.")
    @run_options()
    def made(folder: Path, out: Path, recipe: str, **given: Any) -> None:
        done = make(stage, folder, out, recipe, **given)
        for name in sorted({file.split("/")[0] for file in done.outputs}):
            click.echo(str(out / name))


_stage("teacher", "teacher", "Train EfficientNet-B0.")
_stage("distill", "student", "Train the student: from the teacher if the recipe has one, else from the labels.")
_stage("prune", "prune", "Take the channels that are worth least out of the student.")
_stage("finetune", "finetune", "Train the student once more, gently.")
_stage("export", "export", "Write the student as ONNX, compared with torch.")


@main.command(name="quantize")
@click.argument("where", metavar="[BUNDLE]", required=False)
@click.option("--accuracy-drop", type=click.FloatRange(0, 1), help="Share of the pictures that it may lose to fp32.")
@click.option("--corruption-drop", type=click.FloatRange(0, 1), help="The same under each corruption.")
@click.option("--agreement", type=click.FloatRange(0, 1), help="Share of the pictures of which both say the same.")
@click.option("--gain", type=click.FloatRange(0), help="How many times as long fp32 has to take.")
@run_options(out_required=False)
def quantize_(where: str | None, folder: Path, out: Path | None, recipe: str, **given: Any) -> None:
    """Add an int8 network, if it is as right as fp32 and faster on this box.

    Without BUNDLE this is the stage of a run. With it, that bundle (a directory, zip or `builtin`) is quantised and
    written to --out, or to BUNDLE itself if it is a folder. What int8 has to reach stands under `quantize` in the
    recipe, or is given here. A bundle is only written if it does; otherwise the exit code is 1.
    """
    asked = {name: given.pop(name) for name in ("accuracy_drop", "corruption_drop", "agreement", "gain")}
    asked = {name: value for name, value in asked.items() if value is not None}
    if out is None and (where is None or not Path(where).is_dir()):
        raise click.UsageError(f"{where or 'the run'} is no folder: say with --out where it is to be written")
    target = out or Path(str(where))
    if where is None:
        done = make("quantize", folder, target, recipe, asked=asked, **given)
        kept, refusals, found = done.notes["kept"], done.notes["refusals"], done.notes["measured"]
    else:
        with told():
            outcome = quantize.quantize(
                load(where),
                data.index(folder),
                gate=replace(plan.load(recipe).quantize or quantize.Gate(), **asked),
                seed=given["seed"],
                report=lambda line: click.echo(line, err=True),
            )
            if outcome.kept:
                export_onnx.write(outcome.bundle, target)
        kept, refusals, found = outcome.kept, outcome.refusals, outcome.measured
    if not kept:
        raise click.ClickException("int8 is not kept: " + "; ".join(refusals))
    click.echo(
        f"{target}: {INT8}, {found['bytes']} bytes, calibrated by {found['calibration']}; {found['right']} of "
        f"{found['n']} right, fp32 {found['fp32_right']}; fp32 takes "
        + ", ".join(f"{times} times as long for {tiles}" for tiles, times in found["times_fp32"].items())
        + " tiles"
    )


# One bundle, one folder --------------------------------------------------------------------------------------------


@main.command(name="evaluate")
@click.option(
    "--bundle", "where", help="A bundle to measure: directory, zip or `builtin`. Without it: the stage of a run."
)
@click.option("--split", type=click.Choice(["train", "held_out", *data.SPLITS[1:]]), default="test", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@run_options(out_required=False)
def evaluate_(
    where: str | None, split: str, precision: str, as_json: bool, folder: Path, out: Path | None, **given: Any
) -> None:
    """Measure the finished files of a run, or any bundle, on pictures, through the code that ships."""
    if where is None:
        if out is None:
            raise click.UsageError("give --out RUN for the stage of a run, or --bundle BUNDLE")
        done = make("evaluate", folder, out, given.pop("recipe"), **given)
        metrics = done.notes["metrics"]
        click.echo(
            json.dumps(metrics)
            if as_json
            else "\n".join(_line(s, metrics[s]) for s in ("valid", "test") if s in metrics)
        )
        return
    with told():
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


@main.command(name="latency")
@click.option("--bundle", "where", required=True, help="A bundle: directory, zip or `builtin`.")
@click.option("--reference", type=FOLDER, help="A network to be timed beside it: ONNX, 1x3xHxW float32.")
@click.option("--rounds", type=click.IntRange(1), default=latency.ROUNDS, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def latency_(where: str, reference: Path | None, rounds: int, as_json: bool) -> None:
    """Time a bundle's networks in turns, one thread, beside another network and the limit of this core."""
    with told():
        measured = latency.measure(load(where), reference=reference, rounds=rounds)
    if as_json:
        click.echo(json.dumps(asdict(measured) | {"ratios": latency.ratios(measured)}))
        return
    click.echo(
        f"{measured.machine}, onnxruntime {measured.onnxruntime}; waited {100 * measured.waited:.0f} % of the time"
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


@main.command(name="show")
@click.option("--data", "folder", type=FOLDER, required=True, help="As for `all`.")
@click.option("--out", type=FOLDER, required=True, help="The sheet, a PNG.")
@click.option("--recipe", default="default", show_default=True, help="Whose augmentation is shown.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def show_(folder: Path, out: Path, recipe: str, seed: int) -> None:
    """Draw a sheet to look at: pictures of each class, and what augmentation makes of them."""
    with told():
        wanted = plan.load(recipe)
        index = data.index(folder)
        contact_sheet.save(
            contact_sheet.page(index, wanted.student, input_px=wanted.architecture.input_px, seed=seed), out
        )
    for note in index.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(str(out))


def _line(split: str, counts: dict[str, Any]) -> str:
    return (
        f"{split}: {counts['right']} of {counts['n']} right; as single frames {counts['defect_right']} right, "
        f"{counts['defect_wrong']} wrong, {counts['unsure']} unsure, {counts['missed']} missed"
    )


if __name__ == "__main__":
    main()
