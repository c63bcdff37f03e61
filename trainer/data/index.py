"""The index of a data folder: its classes, its splits, the files that cannot be used, and notes for the user.

A class folder named `good` or `normal` shows defect-free surface.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer.data import near_duplicates
from trainer.data.class_folders import by_split, class_names
from trainer.data.pictures import REMEDY, SUFFIXES, Picture, order, read
from trainer.data.splits import split
from trainer.recipe import TrainingError

GOOD_NAMES: Final = ("good", "normal")
MIN_TRAINING: Final = 2
"""Pictures of each class that must remain for training after the other splits took theirs."""
MIN_CONTRAST: Final = 3
"""Gray levels between the darkest and the brightest pixel: a picture with less shows nothing."""
MIN_PX: Final = 16
UNEVEN: Final = 5
"""A note names the classes if the largest has this many times the pictures of the smallest."""
NEU_SOURCE: Final = (
    "NEU-CLS by K. Song and Y. Yan, Northeastern University (China), Applied Surface Science 285 (2013) 858-864; "
    "published for research with a request to cite, no licence of the images is stated. "
    "Boxes: NEU-DET by Y. He, K. Song, Q. Meng and Y. Yan, IEEE Trans. Instrum. Meas. 69 (2020) 1493-1504"
)
NEU_SHA256: Final = "fa19b8a4a5865c71c9d4c057e4e4c2a035a2a53e55962ec709c0c6f103cfcdc1"
"""`Index.sha256` of NEU-CLS in its common split by file number, as PNG."""
INDEX_SCHEMA: Final = "defectd.index/1"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that training does not use, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """The content of a data folder."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    """train, held_out, valid, test."""
    sha256: str
    """Over the names and bytes of all pictures, in order."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know about the data, one sentence each."""
    source: str = "pictures of the user"
    """Who owns the pictures, and their licence, as far as known."""

    @property
    def good(self) -> int:
        """The label of defect-free surface."""
        return len(self.classes)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of all splits, by label and file number."""
        return tuple(sorted((p for pictures in self.splits.values() for p in pictures), key=order))

    def counts(self) -> dict[str, dict[str, int]]:
        """Split -> class -> number of pictures; defect-free surface counts as `good`."""
        names = (*self.classes, "good")
        return {
            name: dict(sorted(Counter(names[p.label] for p in pictures).items()))
            for name, pictures in self.splits.items()
        }

    def as_json(self, root: Path) -> dict[str, Any]:
        """Paths are relative to `root`, so that the file does not reveal where the folder is."""

        def row(p: Picture) -> dict[str, Any]:
            return {"path": p.path.relative_to(root).as_posix(), "label": p.label, "sha256": p.sha256, "group": p.group}

        return {
            "schema": INDEX_SCHEMA,
            "classes": self.classes,
            "sha256": self.sha256,
            "splits": {name: [row(p) for p in pictures] for name, pictures in self.splits.items()},
            "left_out": [
                {"path": one.path.relative_to(root).as_posix(), "reason": one.reason} for one in self.left_out
            ],
            "notes": self.notes,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, path: Path, root: Path) -> Index:
        """Read a file that holds the result of `as_json`.  Raises TrainingError."""
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["schema"] != INDEX_SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            return cls(
                tuple(content["classes"]),
                {
                    name: tuple(replace(Picture(**row), path=root / row["path"]) for row in rows)
                    for name, rows in content["splits"].items()
                },
                content["sha256"],
                tuple(LeftOut(root / one["path"], one["reason"]) for one in content["left_out"]),
                tuple(content["notes"]),
                content["source"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path}: not an index of pictures: {error}. Delete the file, the next run writes it again"
            ) from error


def index_folder(
    root: Path, *, find_duplicates: bool = True, report: Callable[[int, int], None] = lambda _done, _of: None
) -> Index:
    """Read all pictures below `root`, and split what the folder does not split.

    find_duplicates: takes seconds for thousands of pictures; without it, near duplicates may end up in two splits.
    report: called with the number of pictures read, and of how many.
    Raises TrainingError with the folder and what is missing.
    """
    if not root.is_dir():
        raise TrainingError(f"{root}: no such folder. Give a folder with one folder of pictures for each class")
    found = by_split(root)
    raw = sorted({name for folders in found.values() for name in folders if name.lower() not in GOOD_NAMES})
    if len(raw) < 2:
        raise TrainingError(
            f"{root}: {len(raw)} class folders, at least 2 are needed. "
            "Put the pictures of each kind of defect into a folder named after it"
        )
    spelled = class_names(raw)
    classes = tuple(sorted(set(spelled.values())))
    for name in raw:
        if not found["train"].get(name) and not any(found["train"].get(n) for n in raw if spelled[n] == spelled[name]):
            raise TrainingError(
                f"{root / name}: no pictures to train on. Every class needs some: {', '.join(SUFFIXES)}"
            )

    labels = {name: classes.index(spelled[name]) for name in raw} | dict.fromkeys(GOOD_NAMES, len(classes))
    listed = [
        (part, Picture(path, labels.get(name, len(classes))))
        for part, folders in found.items() for name, paths in folders.items() for path in paths
    ]  # fmt: skip
    usable, left_out = _read_all([p for _, p in listed], find_duplicates=find_duplicates, report=report)
    given = {part: tuple(usable[p.path] for s, p in listed if s == part and p.path in usable) for part in found}
    splits, notes = split(given, classes)
    for label, name in enumerate(classes):
        if sum(p.label == label for p in splits["train"]) < MIN_TRAINING:
            own = [one for one in left_out if labels.get(one.path.parent.name, -1) == label]
            why = f"; {len(own)} could not be used, the first: {own[0].path.name} {own[0].reason}" if own else ""
            raise TrainingError(
                f"{root}: too few pictures of {name}: at least {MIN_TRAINING + 3} are needed, better hundreds{why}"
            )
    notes = (*notes, *_notes(splits, classes, left_out))
    sha256 = _sha256(root, usable.values())
    source = NEU_SOURCE if sha256 == NEU_SHA256 else "pictures of the user"
    return Index(classes, splits, sha256, tuple(left_out), notes, source)


def _read_all(
    pictures: Sequence[Picture], *, find_duplicates: bool, report: Callable[[int, int], None]
) -> tuple[dict[Path, Picture], list[LeftOut]]:
    """(path -> usable picture with hash and group, unusable files)."""

    def check(picture: Picture) -> tuple[Picture, near_duplicates.Signature | None] | LeftOut:
        try:
            image = read(picture.path)
        except TrainingError as error:
            reason = str(error).removeprefix(f"{picture.path}: ").removesuffix(f". {REMEDY}")
            return LeftOut(picture.path, reason)
        if min(image.shape) < MIN_PX:
            return LeftOut(picture.path, f"is {image.shape[1]}x{image.shape[0]} px, at least {MIN_PX} each way")
        if int(image.max()) - int(image.min()) < MIN_CONTRAST:
            return LeftOut(picture.path, f"shows nothing: every pixel is about {int(image[0, 0])}")
        known = replace(picture, sha256=hashlib.sha256(picture.path.read_bytes()).hexdigest())
        return known, near_duplicates.signature(image) if find_duplicates else None

    usable: list[Picture] = []
    signatures: list[near_duplicates.Signature] = []
    left_out: list[LeftOut] = []
    with ThreadPoolExecutor() as pool:
        for done, checked in enumerate(pool.map(check, sorted(pictures, key=order)), 1):
            if isinstance(checked, LeftOut):
                left_out.append(checked)
            else:
                usable.append(checked[0])
                signatures += [checked[1]] if checked[1] else []
            report(done, len(pictures))
    labels = [p.label for p in usable]
    groups = near_duplicates.groups(signatures, labels) if find_duplicates else [-1] * len(usable)
    return {p.path: replace(p, group=g) for p, g in zip(usable, groups, strict=True)}, left_out


def _notes(splits: dict[str, tuple[Picture, ...]], classes: tuple[str, ...], left_out: Sequence[LeftOut]) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{len(left_out)} files are left out, the first: {_short(left_out[0].path)} {left_out[0].reason}")
    sizes = Counter(p.label for pictures in splits.values() for p in pictures if p.label < len(classes))
    if max(sizes.values()) >= UNEVEN * min(sizes.values()):
        most, least = sizes.most_common()[0], sizes.most_common()[-1]
        notes.append(
            f"uneven classes: {most[1]} pictures of {classes[most[0]]}, {least[1]} of {classes[least[0]]}. "
            "Training repeats the rare ones more often; more pictures would be better"
        )
    return notes + _notes_on_duplicates(splits, classes)


def _notes_on_duplicates(splits: dict[str, tuple[Picture, ...]], classes: tuple[str, ...]) -> list[str]:
    members: dict[int, list[tuple[str, Picture]]] = {}
    for name, pictures in splits.items():
        for p in pictures:
            if p.group >= 0:
                members.setdefault(p.group, []).append((name, p))
    together = [m for m in members.values() if len(m) > 1]
    if not together:
        return []
    count = sum(map(len, together))
    notes = [f"{count} pictures have near duplicates or show a place that another shows ({len(together)} groups)"]
    for label, name in enumerate(classes):
        if sum(any(p.label == label for _, p in m) for m in members.values()) == 1:
            notes.append(f"all pictures of {name} show the same place: training and test cannot be kept apart")
    mixed = [sorted(m, key=lambda one: order(one[1])) for m in together if len({p.label for _, p in m}) > 1]
    if mixed:
        a, b = mixed[0][0][1].path, mixed[0][-1][1].path
        notes.append(f"{len(mixed)} groups span several classes, for example {_short(a)} and {_short(b)}")
    for name in ("valid", "test"):
        leaked = sum(s == name for m in together for s, _ in m if {"train", "held_out"} & {other for other, _ in m})
        if leaked:
            notes.append(f"{leaked} pictures of {name} have a near duplicate in train: {name} partly measures memory")
    return notes


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _sha256(root: Path, pictures: Iterable[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in sorted(pictures, key=lambda p: p.path):
        digest.update(picture.path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(picture.sha256))
    return digest.hexdigest()
