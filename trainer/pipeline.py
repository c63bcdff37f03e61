"""From a folder of pictures to a bundle and a report: teacher, distillation, pruning, fine-tuning, ONNX, int8.

`Pipeline.make` is the map. Every stage is a method that says what it depends on and makes it; `Run` decides whether
that has to be done again. Only this room touches the files of a run.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from pydantic import TypeAdapter
from torch import nn

import edge
from edge.camera.sources.simulator import CLASSES as STRIP_CLASSES
from edge.camera.sources.simulator import Strip
from edge.frame import Float32s, Gray
from edge.host.clock import stamp
from edge.model import bundle as bundles
from edge.model.bundle import FP32, INT8, Bundle
from edge.model.classifier import Classifier
from trainer.augment import augment
from trainer.compression import export_onnx as export
from trainer.compression import prune, quantize
from trainer.data import index as data
from trainer.data.corruptions import SUITE
from trainer.distributed import beside, world
from trainer.evaluation import evaluate, latency, outcomes
from trainer.evaluation import good_surface as crops
from trainer.evaluation import open_set as unknown
from trainer.evaluation.record import Curve, GoodSurface, Narrowed, Record, Shipped, UnknownClass
from trainer.networks import student, teacher
from trainer.networks.architecture import Student
from trainer.plan import Plan
from trainer.recipe import Fit, Stage, TrainingError
from trainer.reporting import report
from trainer.run_folder import Done, Run, commit, write
from trainer.training.loop import Epoch, fit
from trainer.training.losses import DistillationLoss, joined

FIRST_PROCESS_ALONE: Final = ("export", "quantize", "folds", "unknown", "evaluate", "report")
"""Of several that train together."""
NOTE: Final = "Train on pictures of your own surface before relying on the verdicts."
SPLITS: Final = (
    "held_out is a run of neighbouring file numbers of each class, taken out of train; "
    "test had no part in training, temperature or the choice of the recipe"
)
LATENCIES: Final = TypeAdapter(latency.Latency)
UNKNOWN: Final = TypeAdapter(tuple[UnknownClass, ...])
NARROWED: Final = TypeAdapter(tuple[Narrowed, ...])
UNSEEN: Final = ("held_out", "valid", "test")
"""Splits whose pictures no weights were fitted to."""
MAX_WIDE_BYTES: Final = 32 << 20
"""Of a network before pruning, which is measured and does not ship."""
STRIP_CHECK_SEEDS: Final = (1, 900, 901)
"""Strips that nothing was trained on."""
BETWEEN_ROUNDS: Final = 4
"""Of the epochs of fine-tuning one part is spent after each round of pruning but the last."""
WORTH_BATCHES: Final = 8
LABELS: Final = {FP32: "fp32", INT8: "int8"}


@dataclass(frozen=True, slots=True)
class Task:
    """What is given.

    teachers: files, instead of one that is trained.  sound: folders that are only measured.  reference: an ONNX file to
    be timed beside the student.  jobs: folds that are trained beside each other.
    """

    folder: Path
    plan: Plan
    seed: int = 0
    boxes: Path | None = None
    teachers: tuple[Path, ...] = ()
    sound: tuple[Path, ...] = ()
    reference: Path | None = None
    jobs: int = 1


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what goes on."""

    begin: Callable[[str, int, int], None] = lambda _stage, _number, _of: None
    """A stage has to be made: its name, number, and of how many."""
    step: Callable[[int, int, str], None] = lambda _done, _of, _what: None
    done: Callable[[Done], None] = lambda _done: None


@dataclass
class Pipeline:
    """One run, or one fold of it.  index: given for a fold, else found in the task's folder."""

    task: Task
    run: Run
    watch: Watch = field(default_factory=Watch)
    given: data.Index | None = None
    fold: str = ""

    # The map --------------------------------------------------------------------------------------------------------

    def make(self, until: str = "report") -> Done:
        """Make every stage of the plan up to `until`, each only if its inputs have changed.  Raises TrainingError."""
        wanted = self.task.plan.up_to(until)
        done: dict[str, Done] = {}
        for number, name in enumerate(wanted, 1):
            stage: Callable[[dict[str, Done], Callable[[], None]], Done] = getattr(self, name)
            done[name] = stage(
                done, lambda name=name, number=number: self.watch.begin(self.fold + name, number, len(wanted))
            )  # type: ignore[misc]
            self.watch.done(done[name])
        return done[list(done)[-1]]

    # Data -----------------------------------------------------------------------------------------------------------

    def data(self, _done: dict[str, Done], started: Callable[[], None]) -> Done:
        """Which pictures there are, who is whose twin, and who is trained on."""

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            index = self.given or data.index(self.task.folder, report=lambda n, of: self.watch.step(n, of, "pictures"))
            if self.task.plan.most_per_class and not self.given:
                index = data.fewer(index, self.task.plan.most_per_class)
            for name in () if self.given else self.task.plan.measure.unknown:
                unknown.without(index, name)  # a slip is told before anything is trained
            write(draft / "data.json", json.dumps(index.as_json(self.task.folder), indent=1) + "\n")
            return {"classes": index.classes, "pictures": index.counts(), "notes": index.notes}

        given = self.given.sha256 if self.given else data.fingerprint(self.task.folder)
        boxes = data.file_sha256(self.task.boxes) if self.task.boxes else None
        settings = {"given": given, "boxes": boxes, "most_per_class": self.task.plan.most_per_class}
        return self.run.stage("data", settings, (), make, started=started)

    @cached_property
    def index(self) -> data.Index:
        return data.Index.from_json(self.run.path("data.json"), self.task.folder)

    @cached_property
    def lessons(self) -> student.Lessons:
        boxes = data.read_boxes(self.task.boxes) if self.task.boxes else {}
        plan = self.task.plan
        return student.lessons(
            self.index, boxes, plan.student, input_px=plan.architecture.input_px, seed=self.task.seed
        )

    # Networks -------------------------------------------------------------------------------------------------------

    def teacher(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """EfficientNet-B0, trained here or given as files."""
        recipe = self.task.plan.teacher
        assert recipe is not None

        def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
            classes, good = self.index.classes, self.lessons.has_good
            for number, path in enumerate(self.task.teachers, 1):
                teacher.load(path, classes=classes, good=good)
                (draft / f"teacher-{number}.pt").write_bytes(path.read_bytes())
            if self.task.teachers:
                return {"origin": "given", "epochs": []}
            epochs: list[Epoch] = []

            def report(stage: Stage, epoch: Epoch) -> None:
                own = recipe.scratch if stage in recipe.scratch else recipe.pretrained
                self._epochs(epochs, sum(s.epochs for s in own))(epoch)

            made, origin = teacher.teach(
                self.lessons.sources, self.lessons.held_out, recipe,
                classes=len(classes), good=good, seed=self.task.seed, device=_device(), folder=checkpoints,
                report=report,
            )  # fmt: skip
            if world().first:
                teacher.save(made, draft / "teacher-1.pt", classes=classes, recipe=recipe, origin=origin)
            return {"origin": origin, "epochs": _curve(epochs)}

        given = [data.file_sha256(path) for path in self.task.teachers]
        settings = {"recipe": asdict(recipe), "given": given, **self._lesson_settings}
        return self.run.stage("teacher", settings, [done["data"]], make, started=started)

    def student(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """From the labels, or distilled from the teacher."""
        plan = self.task.plan
        needs = [done[name] for name in ("data", "teacher") if name in done]

        def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
            torch.manual_seed(self.task.seed)
            fresh = Student(
                plan.architecture, len(self.index.classes), good=self.lessons.has_good, dropout=plan.student.dropout
            )
            return self._fitted(fresh, plan.student, draft / "student.pt", checkpoints)

        taught = plan.teacher and plan.distillation
        settings = {
            "architecture": asdict(plan.architecture), "recipe": asdict(plan.student),
            "distillation": taught and asdict(taught), **self._lesson_settings,
        }  # fmt: skip
        return self.run.stage("student", settings, needs, make, started=started)

    def prune(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """Narrower, round by round; tuned again in between, and by the next stage."""
        recipe, tune = self.task.plan.prune, self.task.plan.finetune
        assert recipe is not None
        assert tune is not None

        def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
            now = student.load(self.run.path("student.pt"))
            rounds = []
            targets = recipe.targets(now.architecture.macs)
            for number, macs in enumerate(targets, 1):
                worth = prune.importance(now, self._batches(), recipe.criterion)
                now = prune.shrink(now, prune.plan(now.architecture, worth, macs, recipe.multiple))
                rounds.append({"channels": [c.channels for c in now.architecture.convs], "macs": now.architecture.macs})
                if number < len(targets):
                    between = replace(tune, epochs=max(1, tune.epochs // BETWEEN_ROUNDS))
                    now, _ = self._tuned(now, between, checkpoints / f"round-{number}.pt", pruned=True)
                    student.save(now, draft / f"round-{number}.pt")
            student.save(now, draft / "pruned.pt")
            return {"rounds": rounds}

        settings = {"recipe": asdict(recipe), "between": asdict(tune), "parts": BETWEEN_ROUNDS, **self._taught_settings}
        return self.run.stage("prune", settings, self._so_far(done), make, started=started)

    def finetune(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """The last training, gently."""
        recipe = self.task.plan.finetune
        assert recipe is not None

        def make(draft: Path, checkpoints: Path) -> dict[str, Any]:
            now = student.load(self._before_export(done))
            return self._fitted(now, recipe, draft / "finetuned.pt", checkpoints, pruned="prune" in done)

        settings = {"recipe": asdict(recipe), **self._taught_settings}
        return self.run.stage("finetune", settings, self._so_far(done), make, started=started)

    # Files that ship ------------------------------------------------------------------------------------------------

    def export(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """ONNX, compared with torch, with its temperature."""

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            made = export.bundle(
                student.load(self._before_export(done)),
                classes=self.index.classes,
                tile_px=data.tile_px(self.index.splits["train"]),
                version=edge.__version__,
                training=self._training(),
            )
            temperature = student.temperature(Classifier(made), self.index, self._kept)
            export.write(export.with_card(made, temperature=temperature), draft / "fp32")
            return {"bytes": len(made.networks[FP32]), "temperature": temperature}

        settings = {"seed": self.task.seed, "version": edge.__version__, "plan": asdict(self.task.plan)}
        return self.run.stage("export", settings, self._so_far(done), make, started=started)

    def quantize(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """int8 beside it, if it wins."""
        gate = self.task.plan.quantize
        assert gate is not None

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            outcome = quantize.quantize(
                bundles.load(self.run.path("fp32")), self.index, gate=gate, seed=self.task.seed, clock=self.run.clock,
                report=lambda line: self.watch.step(0, 0, line),
            )  # fmt: skip
            export.write(outcome.bundle, draft / "int8")
            return {"kept": outcome.kept, "refusals": outcome.refusals, "measured": outcome.measured}

        return self.run.stage(
            "quantize",
            {"gate": asdict(gate), "seed": self.task.seed},
            [done["data"], done["export"]],
            make,
            started=started,
        )

    # What it gives --------------------------------------------------------------------------------------------------

    def folds(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """Cross-validation: each fold is a run of its own in a folder of its own, and goes on where it stopped."""
        plan, folds = self.task.plan, self.task.plan.folds
        assert folds is not None
        if self.task.teachers:
            raise TrainingError(
                "a given teacher has seen the pictures that a fold leaves out: leave --teacher or --folds out"
            )

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            parts = data.folds(self.index.pictures, folds.count, by=folds.by, seed=self.task.seed)
            split = f"{folds.count} folds by {folds.by}"
            wanted = [
                Fold(
                    replace(self.task, plan=replace(plan, folds=None), jobs=1),
                    Run(self.run.path(f"folds/{number}"), self.run.clock, command=self.run.command),
                    data.part(self.index, rest, f"{split} {number}"), out, split, number, folds.count, draft,
                )
                for number, (rest, out) in enumerate(parts, 1)
            ]  # fmt: skip
            notes: dict[str, list[int]] = {}
            if self.task.jobs == 1:
                for fold in wanted:
                    notes |= fold.make(self.watch)
                    started()
            else:
                for finished, found in enumerate(
                    beside(_fold, wanted, self.task.jobs, lambda line: self.watch.step(0, 0, line)), 1
                ):
                    notes |= found
                    self.watch.step(finished, folds.count, "folds")
            return {"right_of": notes, "by": folds.by}

        settings = {"folds": asdict(folds), "plan": asdict(replace(plan, folds=None)), "seed": self.task.seed}
        return self.run.stage("folds", settings, [done["data"]], make, started=started)

    def unknown(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """Open set: for each class that is asked for a student that never saw it, a run of its own as for a fold."""
        plan = self.task.plan
        bare = replace(
            plan, teacher=None, distillation=None, quantize=None, folds=None, measure=replace(plan.measure, unknown=())
        )

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            found: list[UnknownClass] = []
            for name in plan.measure.unknown:
                rest, gone = unknown.without(self.index, name)
                own = Pipeline(
                    replace(self.task, plan=bare, teachers=()),
                    Run(self.run.path(f"unknown/{name}"), self.run.clock, command=self.run.command),
                    self.watch, rest, f"without {name}: ",
                )  # fmt: skip
                own.make("export")
                started()
                known = [p for split in UNSEEN for p in rest.splits[split]]
                classifier = Classifier(own.finished())
                found += unknown.rankings(classifier, name, gone, known, seed=self.task.seed)
            (draft / "unknown.json").write_bytes(UNKNOWN.dump_json(tuple(found)))
            return {}

        settings = {"unknown": plan.measure.unknown, "plan": asdict(bare), "seed": self.task.seed}
        return self.run.stage("unknown", settings, [done["data"]], make, started=started)

    def evaluate(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """The finished files on the pictures that training did not see, and on this machine's clock."""
        plan = self.task.plan
        splits = ("valid", "test") if plan.measure.test else ("valid",)

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            bundle = self.finished()
            for split in splits:
                for variant, judge in self.judges():
                    found = outcomes.judge_pictures(
                        variant, judge, self.index.splits[split], self.index.classes, split=split, seed=self.task.seed,
                        corruptions=SUITE if plan.measure.robustness and variant in LABELS.values() else (),
                        progress=lambda what, split=split: self.watch.step(0, 0, f"{split}, {what}"),  # type: ignore[misc]
                    )  # fmt: skip
                    found.write(draft / "outcomes" / f"{variant}-{split}.json")
            metrics = self._metrics(bundle, splits)
            write(draft / "metrics.json", json.dumps(metrics, indent=1) + "\n")
            unseen = [p for split in UNSEEN if split in ("held_out", *splits) for p in self.index.splits[split]]
            self.write_crops(bundle, unseen, draft / "good", 0)
            (draft / "pruning.json").write_bytes(NARROWED.dump_json(self._pruning(done)))
            timed = latency.measure(
                bundle, reference=self.task.reference, rounds=plan.measure.latency_rounds, clock=self.run.clock
            )
            write(draft / "latency.json", json.dumps(asdict(timed), indent=1) + "\n")
            return {"metrics": metrics}

        reference = data.file_sha256(self.task.reference) if self.task.reference else None
        sound = [str(f) for f in self.task.sound]
        settings = {"measure": asdict(plan.measure), "sound": sound, "reference": reference, "seed": self.task.seed}
        return self.run.stage(
            "evaluate",
            settings,
            [done["data"], done["export"], *([done["quantize"]] if "quantize" in done else [])],
            make,
            started=started,
        )

    def report(self, done: dict[str, Done], started: Callable[[], None]) -> Done:
        """The record of it all, the report for people, and the bundle with its card filled in."""

        def make(draft: Path, _checkpoints: Path) -> dict[str, Any]:
            found = self._record(done)
            report.write(found, draft)
            finished = self.finished()
            known = json.loads(self.run.path("metrics.json").read_text("utf-8"))
            metrics = {**finished.card.metrics, **known, **found.metrics()}
            export.write(export.with_card(finished, metrics=metrics), draft / "bundle")
            return {}

        return self.run.stage(
            "report", {"stages": [d.key for d in done.values()]}, list(done.values()), make, started=started
        )

    def finished(self) -> Bundle:
        """What ships: with int8 where that was asked for and won."""
        return bundles.load(self.run.path("int8" if self.task.plan.quantize else "fp32"))

    def judges(self) -> list[tuple[str, outcomes.Judge]]:
        """Every variant that has something to say of a picture: the shipped files, and what they came from."""
        finished, plan = self.finished(), self.task.plan
        found = [
            (LABELS[name], evaluate.by_file(Classifier(finished, network=name)))
            for name in LABELS
            if name in finished.networks
        ]
        if plan.prune:
            wide = student.load(self.run.path("student.pt"))
            found.append(("unpruned", _by_network(wide, plan.architecture.input_px)))
        if plan.teacher:
            side, classes = plan.architecture.input_px, self.index.classes
            files = sorted(self.run.folder.glob("teacher-*.pt"))
            found += [(path.stem, _by_network(teacher.load(path, classes=classes), side)) for path in files]
        return found

    def write_crops(self, finished: Bundle, pictures: Sequence[data.Picture], where: Path, number: int) -> None:
        """Scores of squares with and without a defect, one file for each network and side."""
        where.mkdir(parents=True, exist_ok=True)
        if self.task.boxes is None or not finished.card.has_good:
            return
        boxes, classes = data.read_boxes(self.task.boxes), finished.card.classes
        for side in crops.SIDES_PX:
            found = crops.crops_for_good(
                pictures, boxes, classes, side, tile_px=finished.card.tile_px, seed=self.task.seed
            )
            for name, variant in LABELS.items():
                if name in finished.networks:
                    scores = crops.good_scores(Classifier(finished, network=name), found)
                    scores.write(where / f"{variant}-{side}-{number}.json")

    def _pruning(self, done: dict[str, Done]) -> tuple[Narrowed, ...]:
        """The trade-off: the network before pruning, after each round that was tuned, and as it ships."""
        if "prune" not in done:
            return ()
        rounds = sorted((f for f in done["prune"].outputs if f.startswith("round-")), key=lambda f: int(f[6:-3]))
        files = [self.run.path(name) for name in ("student.pt", *rounds)]
        networks = [student.load(file) for file in (*files, self._before_export(done))]
        made = [
            export.bundle(
                network, classes=self.index.classes, tile_px=self.finished().card.tile_px, version=edge.__version__,
                most_bytes=MAX_WIDE_BYTES,
            )
            for network in networks
        ]  # fmt: skip
        pictures = (*self.index.splits["held_out"], *self.index.splits["valid"])
        split = "held_out and valid"
        times = latency.call_us(made, rounds=self.task.plan.measure.latency_rounds, clock=self.run.clock)
        points = []
        for network, bundle, us in zip(networks, made, times, strict=True):
            judge = evaluate.by_file(Classifier(bundle))
            found = outcomes.judge_pictures("fp32", judge, pictures, self.index.classes, split=split, corruptions=())
            widths = "-".join(str(conv.channels) for conv in network.architecture.convs)
            size = len(bundle.networks[FP32])
            points.append(Narrowed(widths, network.architecture.macs, size, us, found.count(), split))
        return tuple(points)

    # Within -----------------------------------------------------------------------------------------------------------

    @property
    def _lesson_settings(self) -> dict[str, Any]:
        """What decides the tiles that are trained on, besides the pictures."""
        plan = self.task.plan
        return {"input_px": plan.architecture.input_px, "strip_seeds": plan.student.strip_seeds, "seed": self.task.seed}

    @property
    def _taught_settings(self) -> dict[str, Any]:
        distillation = self.task.plan.distillation
        return {"distillation": distillation and asdict(distillation), **self._lesson_settings}

    @property
    def _kept(self) -> student.Samples:
        return (
            self.lessons.held_out.joined(self.lessons.held_out_sound)
            if self.lessons.has_good
            else self.lessons.held_out
        )

    def _so_far(self, done: dict[str, Done]) -> list[Done]:
        return [done[name] for name in ("data", "teacher", "student", "prune", "finetune") if name in done]

    def _before_export(self, done: dict[str, Done]) -> Path:
        """The student as the latest stage of training left it."""
        files = {"student": "student.pt", "prune": "pruned.pt", "finetune": "finetuned.pt"}
        return self.run.path(files[[name for name in files if name in done][-1]])

    def _fitted(
        self, model: Student, recipe: Fit, out: Path, checkpoints: Path, *, pruned: bool = False
    ) -> dict[str, Any]:
        made, epochs = self._tuned(model, recipe, checkpoints / "fit.pt", pruned=pruned)
        if world().first:
            student.save(made, out)
        return {"epochs": _curve(epochs), "tiles": self.lessons.counts, "macs": made.architecture.macs}

    def _tuned(
        self, model: Student, recipe: Fit, checkpoint: Path, *, pruned: bool = False
    ) -> tuple[Student, list[Epoch]]:
        """Trained on the labels, and on what its teachers say if there are any."""
        plan, device = self.task.plan, _device()
        teachers = [found.to(device) for found in self._teachers(pruned=pruned)]
        loss = None
        if plan.distillation and teachers:
            loss = DistillationLoss(
                teachers, plan.distillation, smoothing=recipe.label_smoothing,
                student_features=model.architecture.features,
            )  # fmt: skip
        epochs: list[Epoch] = []
        made = fit(
            model.to(device), self.lessons.sources, self.lessons.held_out, recipe, seed=self.task.seed, loss=loss,
            checkpoint=checkpoint, report=self._epochs(epochs, recipe.epochs),
        )  # fmt: skip
        return made.cpu().eval(), epochs

    def _teachers(self, *, pruned: bool) -> list[nn.Module]:
        """The large network, if the plan has one, and after pruning the student as it was before."""
        files = sorted(self.run.folder.glob("teacher-*.pt")) if self.task.plan.teacher else []
        found: list[nn.Module] = [teacher.load(path, classes=self.index.classes) for path in files]
        return [*found, student.load(self.run.path("student.pt"))] if pruned else found

    def _epochs(self, seen: list[Epoch], of: int) -> Callable[[Epoch], None]:
        def report(epoch: Epoch) -> None:
            seen.append(epoch)
            self.watch.step(len(seen), of, f"loss {epoch.loss:.3f}, held out {epoch.right}/{epoch.of}")

        return report

    def _batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Some batches of what is trained on, for the worth of channels."""
        generator = torch.Generator().manual_seed(self.task.seed)
        tiles = torch.cat([source.tiles[:, 0] for source in self.lessons.sources])
        labels = torch.cat([source.labels for source in self.lessons.sources])
        size = self.task.plan.student.batch
        picked = torch.randperm(len(labels), generator=generator)[: WORTH_BATCHES * size]
        how = self.task.plan.student.changes()
        return [(augment(tiles[some], how, generator), labels[some]) for some in picked.split(size)]

    def _training(self) -> dict[str, Any]:
        """The card's account of how it was made."""
        plan, index = self.task.plan, self.index
        return {
            "data_sha256": index.sha256,
            "data": index.source,
            "pictures": {split: len(pictures) for split, pictures in index.splits.items()},
            "tiles": self.lessons.counts,
            "stages": [name for name in plan.stages if name not in ("data", "evaluate", "report")],
            "architecture": plan.architecture.name,
            "recipe": asdict(plan),
            "seed": self.task.seed,
            "from_scratch": plan.teacher is None,
            "splits": SPLITS,
            "versions": versions(),
            "commit": commit(),
            "note": NOTE,
        }

    def _metrics(self, finished: Bundle, splits: Sequence[str]) -> dict[str, Any]:
        """Counts of verdicts by the daemon's usual thresholds, fp32."""
        classifier, index = Classifier(finished), self.index
        card = finished.card
        found: dict[str, Any] = {"thresholds": {"defect": evaluate.CONFIDENCE, "unsure": evaluate.UNSURE}}
        for split in ("held_out", *splits):
            counted = evaluate.evaluate(classifier, index.splits[split], temperature=card.temperature)
            found[split] = counted.as_metrics()
        if card.has_good:
            crops = self.lessons.held_out_sound
            found["sound"] = student.sound_verdicts(classifier, index, crops, self.task.sound)
        frames = self.task.plan.measure.strip_frames
        if frames and card.has_good and set(card.classes) <= set(STRIP_CLASSES):
            found["strip"] = {
                f"seed {seed}": evaluate.measure_strip(
                    classifier, Strip(seed=seed), range(frames), temperature=card.temperature
                )
                for seed in STRIP_CHECK_SEEDS
            }
        return found

    def _record(self, done: dict[str, Done]) -> Record:
        finished, index = self.finished(), self.index
        card = finished.card
        measured = outcomes.load_all(self.run.path("outcomes"))
        if "folds" in done:
            measured = (*outcomes.load_all(self.run.path("folds-outcomes")), *measured)
        shipped = tuple(LABELS[name] for name in LABELS if name in finished.networks)
        pairs = [
            (one, other) for one in measured for other in measured
            if one.split == other.split and one.variant == shipped[0] and other.variant != shipped[0]
        ]  # fmt: skip
        return Record(
            name=card.name,
            version=card.version,
            made=stamp(self.run.clock.wall_ns()),
            seed=self.task.seed,
            machine=latency.machine(),
            classes=card.classes,
            tile_px=card.tile_px,
            input_px=card.input_px,
            outputs=card.outputs,
            temperature=card.temperature,
            data=index.source,
            data_sha256=index.sha256,
            pictures={split: len(pictures) for split, pictures in index.splits.items()},
            files=tuple(Shipped(name, len(net), finished.sha256(name)) for name, net in finished.networks.items()),
            recipe=asdict(self.task.plan),
            versions=versions(),
            commit=commit(),
            command=self.run.command or None,
            shipped=shipped,
            summaries=tuple(one.summary() for one in measured),
            comparisons=tuple(outcomes.compare(one, other) for one, other in pairs),
            curves=tuple(
                Curve.of(name, [Epoch(**epoch) for epoch in d.notes["epochs"]], d.seconds)
                for name, d in done.items() if d.notes.get("epochs")
            ),
            good=self._good(done, shipped),
            unknown=UNKNOWN.validate_json(self.run.path("unknown.json").read_bytes()) if "unknown" in done else (),
            pruning=NARROWED.validate_json(self.run.path("pruning.json").read_bytes()),
            latency=LATENCIES.validate_json(self.run.path("latency.json").read_bytes()),
            notes=(SPLITS, *index.notes, *self._remarks(done)),
        )  # fmt: skip

    def _good(self, done: dict[str, Done], shipped: Sequence[str]) -> tuple[GoodSurface, ...]:
        """Over the folds where there are some, else on the few pictures that the shipped files did not see."""
        folder, whose = ("folds-good", "the folds' held-out") if "folds" in done else ("good", "held-out and valid")
        if folder == "good" and self.task.plan.measure.test:
            whose = "held-out, valid and test"
        how = f"{whose} pictures, mirrored out to a whole tile"
        return tuple(
            one for name in shipped
            for one in crops.good_surface(name, self.run.path(folder).glob(f"{name}-*.json"), how)
        )  # fmt: skip

    def _remarks(self, done: dict[str, Done]) -> list[str]:
        remarks = []
        if self.task.plan.most_per_class:
            remarks.append(
                f"A trial on at most {self.task.plan.most_per_class} pictures of a class: worth nothing but that."
            )
        if "teacher" in done:
            remarks.append(f"First weights of the teacher: {done['teacher'].notes['origin']}.")
        if "quantize" in done and not done["quantize"].notes["kept"]:
            remarks.append(f"int8 is not kept: {'; '.join(done['quantize'].notes['refusals'])}.")
        return remarks


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of a cross-validation.  index: what it is trained on.  out: what it is asked about afterwards."""

    task: Task
    run: Run
    index: data.Index
    out: tuple[data.Picture, ...]
    split: str
    number: int
    of: int
    draft: Path

    def make(self, watch: Watch) -> dict[str, list[int]]:
        """Train it and ask: [right, of] for each variant. What was said goes into files in `draft`."""
        plan, notes = self.task.plan, {}
        own = Pipeline(self.task, self.run, watch, self.index, f"fold {self.number} of {self.of}: ")
        own.make("quantize" if plan.quantize else "export")
        for variant, judge in own.judges():
            found = outcomes.judge_pictures(
                variant, judge, self.out, self.index.classes, split=self.split, fold=self.number, seed=self.task.seed,
                corruptions=SUITE if plan.measure.robustness and variant in LABELS.values() else (),
                progress=lambda what: watch.step(0, 0, what),
            )  # fmt: skip
            found.write(self.draft / "folds-outcomes" / f"{variant}-{self.number}.json")
            notes[f"{variant} {self.number}"] = [int(found.right().sum()), len(found)]
        own.write_crops(own.finished(), self.out, self.draft / "folds-good", self.number)
        return notes


def _fold(fold: Fold, tell: Callable[[str], None]) -> dict[str, list[int]]:
    """In a process of its own."""
    stage = [""]

    def begin(name: str, _number: int, _of: int) -> None:
        stage[0] = name

    return fold.make(Watch(begin, lambda done, of, what: tell(f"{stage[0]} {f'{done} of {of} ' if of else ''}{what}")))


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "defectd": edge.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _by_network(model: nn.Module, input_px: int) -> outcomes.Judge:
    """A network in torch as a judge of pictures, without temperature."""

    def judge(images: Sequence[Gray]) -> Float32s:
        parts = [data.cut(image, input_px) for image in images]
        tiles = torch.from_numpy(np.concatenate(parts))[:, None]
        with torch.inference_mode():
            rows = torch.cat(
                [joined(logits, good) for logits, _, good in (model(some.float()) for some in tiles.split(64))]
            )
        means = torch.stack([some.mean(0) for some in rows.split([len(part) for part in parts])])
        classes = int(model.classes.out_features)  # type: ignore[union-attr, arg-type]
        return np.asarray(means.softmax(1)[:, :classes].numpy(), np.float32)

    return judge


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _curve(epochs: Sequence[Epoch]) -> list[dict[str, Any]]:
    return [{**asdict(epoch), "held_out_loss": epoch.held_out_loss if epoch.of else 0.0} for epoch in epochs]
