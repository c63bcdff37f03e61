"""The plan of a run, read from a recipe file: a part that the file does not name is left out of the run."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from edge.config.yaml_file import read
from edge.errors import ConfigError
from edge.model.bundle import MAX_STUDENT_BYTES
from trainer.compression.int8_gate import Gate
from trainer.compression.prune import Pruning
from trainer.data.folds import Grouping
from trainer.networks import backbones
from trainer.networks.architecture import ARCHITECTURES, I100_S4, Architecture
from trainer.recipe import Distillation, Fit, Recipe, TeacherRecipe, TeacherStage, TrainingError

SHIPPED: Final = ("default", "wide", "scratch")
AUTO: Final = "auto"
"""Stands for the shipped recipe that suits what is installed: `suited`."""
QUICK_PICTURES: Final = 40
"""Pictures of each class in a quick trial: the fewest for which every split has pictures of every class."""


QUICK_EPOCHS: Final = 60
"""Enough for an easy data set of that size: with 4 epochs, a trial ends at chance."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured on the finished files."""

    test: bool = True
    """Evaluate on the test split too. No decision of the training depends on it."""
    robustness: bool = True
    latency_rounds: Annotated[int, Field(ge=1)] = 200
    strip_frames: Annotated[int, Field(ge=0)] = 400
    """Frames of each simulated strip, if the simulator can draw all classes."""
    upper_bound: bool = True
    """Measure what a frozen ImageNet network with a linear layer reaches, if its weights are on this machine."""
    unknown: tuple[str, ...] = ()
    """Open-set test: for each of these classes, a student trained without it and without a teacher."""


@dataclass(frozen=True, slots=True)
class Folds:
    """Cross-validation: the whole plan runs again for each fold, on the pictures of the other folds."""

    count: Annotated[int, Field(ge=2)] = 5
    by: Grouping = "numbers"


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of each stage of a run.  None: the stage is left out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]
    architecture: Architecture = I100_S4
    student: Recipe = field(default_factory=Recipe)
    teacher: TeacherRecipe | None = None
    distillation: Distillation | None = None
    """The student learns from the teacher; after pruning, from the teacher and from the unpruned student.  None: both
    learn from the labels alone."""
    prune: Pruning | None = None
    finetune: Fit | None = None
    """Runs after pruning, and with a quarter of the epochs between its rounds."""
    quantize: Gate | None = None
    measure: Measures = field(default_factory=Measures)
    folds: Folds | None = None
    most_per_class: Annotated[int, Field(ge=5)] | None = None
    """Maximum number of pictures of each class, for trials."""
    final: bool = False
    """After all measurements, train the network that ships on every picture, the held-out ones too."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that this plan has, in order."""
        optional = {
            "teacher": self.teacher, "prune": self.prune, "finetune": self.finetune, "quantize": self.quantize,
            "folds": self.folds, "unknown": self.measure.unknown or None,
            "upper_bound": self.measure.upper_bound or None, "final": self.final or None,
        }  # fmt: skip
        every = (
            "data", "teacher", "student", "prune", "finetune", "export", "quantize", "folds", "unknown", "upper_bound",
            "evaluate", "final", "report",
        )  # fmt: skip
        return tuple(name for name in every if optional.get(name, True) is not None)

    def up_to(self, stage: str) -> tuple[str, ...]:
        """The names of the stages up to and including this one.  Raises TrainingError if the plan does not have it."""
        if stage not in self.stages:
            raise TrainingError(f"the recipe {self.name} has no stage {stage}; it has {', '.join(self.stages)}")
        return self.stages[: self.stages.index(stage) + 1]


PLANS: Final = TypeAdapter(list[Plan], config=ConfigDict(extra="forbid"))
"""A list, because pydantic passes strictness on to a plain dataclass only from a container around it."""


def suited(*, teacher_given: bool = False) -> tuple[str, str]:
    """(a shipped recipe, why): with a teacher only where one is given or has its first weights on this machine.

    Without ImageNet weights a teacher takes hours, and teaches the student nothing that it does not learn itself. Lite0
    did not improve the student on NEU: who installs it for the upper bound must not wait for hours.
    """
    if teacher_given:
        return "default", "its teacher is given"
    found = backbones.on_this_machine()
    if found is backbones.B0:
        return "default", f"the ImageNet weights of {found.title} are here"
    if found:
        return "wide", f"{found.title} measures the upper bound; --recipe default lets it teach, which takes hours"
    return "wide", "no ImageNet weights of a teacher are here; --weights FILE or --weights imagenet uses one"


def load(name: str | Path) -> Plan:
    """Read a shipped recipe by name (`auto`: the one that suits), or a file.

    Raises TrainingError with key, value and remedy.
    """
    name = suited()[0] if str(name) == AUTO else name
    shipped = importlib.resources.files("trainer") / "recipes" / f"{name}.yaml"
    path = Path(str(shipped)) if str(name) in SHIPPED else Path(name)
    if str(name) not in SHIPPED and not path.is_file():
        raise TrainingError(f"{name}: no such recipe. Give a file, or one of {', '.join(SHIPPED)}")
    try:
        content = read(path)
    except ConfigError as error:
        raise TrainingError(str(error)) from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: a recipe is a mapping of keys to values. See the shipped recipes")
    named = {"name": path.stem} | {k: {} if v is None and k in SECTIONS else v for k, v in content.items()}
    known = ARCHITECTURES.get(named.get("architecture")) if isinstance(named.get("architecture"), str) else None
    named |= {"architecture": asdict(known)} if known else {}
    try:
        plan = PLANS.validate_json(json.dumps([named]), strict=True)[0]
    except ValidationError as error:
        raise TrainingError("\n".join(f"{path}: {_message(one)}" for one in error.errors()[:5])) from error
    return check(plan)


SECTIONS: Final = ("student", "teacher", "distillation", "prune", "finetune", "quantize", "measure", "folds")
"""A key without values selects the stage with its default settings."""


def _message(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"][1:])
    if problem["type"] == "unexpected_keyword_argument":
        return f"{where}: no such key. Remove it, or look up its spelling in the shipped recipes"
    if where == "architecture" and problem["type"] == "dataclass_type":
        known = ", ".join(ARCHITECTURES)
        return f"{where}: {problem['input']!r}: no such architecture. Use {known}, or define it in the recipe"
    return f"{where}: {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"


def check(plan: Plan) -> Plan:
    """Return the plan.  Raises TrainingError if its parts do not fit together."""
    _check_architecture(plan.name, plan.architecture, ships=plan.prune is None)
    if plan.distillation and not plan.teacher and not plan.prune:
        raise TrainingError(
            f"{plan.name}: distillation without a teacher. Add `teacher:`; or add `prune:`, after which the unpruned "
            "student is the teacher; or remove `distillation:`"
        )
    if plan.teacher and not plan.distillation:
        raise TrainingError(f"{plan.name}: a teacher without distillation. Add `distillation:`, or remove `teacher:`")
    if plan.prune and not plan.finetune:
        raise TrainingError(f"{plan.name}: pruning without fine-tuning loses accuracy. Add `finetune:`")
    if plan.prune and plan.architecture.macs <= plan.prune.macs:
        raise TrainingError(
            f"{plan.name}: prune.macs: {plan.prune.macs}: {plan.architecture.name} has {plan.architecture.macs} "
            "already. Start from a wider architecture, or lower prune.macs"
        )
    return plan


def _check_architecture(name: str, architecture: Architecture, *, ships: bool) -> None:
    if not architecture.convs:
        raise TrainingError(f"{name}: architecture.convs: (): at least one convolution is needed")
    stem = architecture.convs[0]
    if stem.padding:
        raise TrainingError(
            f"{name}: architecture.convs.0: kernel {stem.kernel}, stride {stem.stride}: the first convolution needs a "
            "kernel as large as its stride, because the export folds the input scaling into it"
        )
    if ships and 4 * architecture.weights > MAX_STUDENT_BYTES:
        raise TrainingError(
            f"{name}: architecture: {architecture.name} has {4 * architecture.weights:,} bytes of weights; at most "
            f"{MAX_STUDENT_BYTES:,} ship. Make it narrower, or add `prune:`"
        )


def quick(plan: Plan) -> Plan:
    """The same stages in a minute or two, on a part of the pictures: a test that everything runs, no more."""
    teacher = plan.teacher and replace(
        plan.teacher,
        weights="none",
        frozen=False,
        input_px=64,
        scratch=(TeacherStage("scratch", "all", 1, 1e-3),),
    )
    return replace(
        plan,
        student=replace(
            plan.student,
            epochs=min(plan.student.epochs, QUICK_EPOCHS),
            min_steps=0,
            strip_seeds=min(plan.student.strip_seeds, 3),
        ),
        teacher=teacher,
        prune=plan.prune and replace(plan.prune, rounds=1),
        finetune=plan.finetune
        and replace(plan.finetune, epochs=min(plan.finetune.epochs, QUICK_EPOCHS // 2), min_steps=0),
        quantize=plan.quantize and replace(plan.quantize, rounds=min(plan.quantize.rounds, 20)),
        measure=replace(plan.measure, latency_rounds=10, strip_frames=20),
        most_per_class=QUICK_PICTURES,
    )
