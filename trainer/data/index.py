"""Folders of pictures: what they hold, and how it is read.

A data folder holds either class folders, or `train`, `valid` and `test` with the same class folders in each.
A class folder named `good` or `normal` shows sound surface. NEU-CLS is known by its own names too: folders as `RS` or
`rolled-in scale`, and files as `RS_12.bmp` without folders. Pictures are read as the daemon reads them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge.camera.image_files import read_image
from edge.errors import ImageError
from edge.frame import Gray
from edge.vision.tiles import lay
from trainer.data import near_duplicates
from trainer.recipe import TrainingError

SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {"train": ("train", "training"), "valid": ("valid", "val", "validation"), "test": ("test", "testing")}
GOOD_NAMES = ("good", "normal")
LEFT_OUT = "unsure"
"""A folder that `defectd evidence export` writes: pictures that nobody has named yet."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
HELD_OUT = 0.04
"""Share of the training pictures of each class that is kept from training, for the temperature."""
OWN_SPLIT = 0.1
"""Share of each class for valid, and for test, where the folder does not say."""
FEWEST = 2
"""Pictures of a class that must be left for training once the other parts are taken."""
FLAT = 3
"""Gray levels between the darkest and the brightest pixel: with fewer a picture shows nothing."""
MIN_PX = 16
REMEDY = "Remove or replace it"
UNEVEN = 5
"""Times as many pictures in the largest class as in the smallest: worth a word."""

NEU = {
    "crazing": "cr", "inclusion": "in", "patches": "pa",
    "pitted_surface": "ps", "rolled-in_scale": "rs", "scratches": "sc",
}  # fmt: skip
"""NEU's classes by the prefix that its files carry."""

NEU_SOURCE = (
    "NEU-CLS by K. Song and Y. Yan, Northeastern University (China), Applied Surface Science 285 (2013) 858-864; "
    "published for research with a request to cite, no licence of the images is stated. "
    "Boxes: NEU-DET by Y. He, K. Song, Q. Meng and Y. Yan, IEEE Trans. Instrum. Meas. 69 (2020) 1493-1504"
)
NEU_SHA256 = "fa19b8a4a5865c71c9d4c057e4e4c2a035a2a53e55962ec709c0c6f103cfcdc1"
"""`Index.sha256` of NEU-CLS in its common split by file number, as PNG."""

INDEX_SCHEMA = "defectd.index/1"
Boxes = dict[str, list[tuple[int, int, int, int]]]
"""Stem of a picture to the boxes of its defects: xmin, ymin, xmax, ymax in px."""
Grouping = Literal["numbers", "twins"]
"""How folds are made. Both keep twins together; numbers also keeps neighbours in file number together."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One file.  label: position in `Index.classes`, or their number for sound surface."""

    path: Path
    label: int
    sha256: str = ""
    """Of the file's bytes."""
    group: int = -1
    """Pictures with the same one are twins: the same picture, or views of the same place. -1: not looked for."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not trained on, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """What a data folder holds."""

    classes: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    """train, held_out, valid, test."""
    sha256: str
    """Over the names and bytes of all pictures, in order."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What a person should know of this data, one sentence each."""
    source: str = "pictures of the user"
    """Whose they are, and under which terms, as far as known."""

    @property
    def good(self) -> int:
        """The label of sound surface."""
        return len(self.classes)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All of them, by label and number, whatever their split."""
        return tuple(sorted((p for split in self.splits.values() for p in split), key=_place))

    def as_json(self, root: Path) -> dict[str, Any]:
        """Names are relative to `root`: nothing tells where it lay."""

        def row(p: Picture) -> dict[str, Any]:
            return {"path": p.path.relative_to(root).as_posix(), "label": p.label, "sha256": p.sha256, "group": p.group}

        return {
            "schema": INDEX_SCHEMA,
            "classes": self.classes,
            "sha256": self.sha256,
            "splits": {split: [row(p) for p in pictures] for split, pictures in self.splits.items()},
            "left_out": [
                {"path": one.path.relative_to(root).as_posix(), "reason": one.reason} for one in self.left_out
            ],
            "notes": self.notes,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, path: Path, root: Path) -> Index:
        """What `as_json` gave, from a file.  Raises TrainingError."""
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["schema"] != INDEX_SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            return cls(
                tuple(content["classes"]),
                {
                    split: tuple(replace(Picture(**row), path=root / row["path"]) for row in rows)
                    for split, rows in content["splits"].items()
                },
                content["sha256"],
                tuple(LeftOut(root / one["path"], one["reason"]) for one in content["left_out"]),
                tuple(content["notes"]),
                content["source"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: not an index of pictures: {error}. Delete it: it is made again") from error

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by split and class; sound surface as `good`."""
        names = (*self.classes, "good")
        return {
            split: dict(sorted(Counter(names[p.label] for p in pictures).items()))
            for split, pictures in self.splits.items()
        }


def index(
    root: Path, *, look_for_twins: bool = True, report: Callable[[int, int], None] = lambda _done, _of: None
) -> Index:
    """Find, read and name all pictures below `root`, and split what is not split.

    look_for_twins: takes seconds with thousands of pictures; without it they may stand on both sides of a split.
    report: pictures read, and of how many.  Raises TrainingError with the folder and what is missing.
    """
    if not root.is_dir():
        raise TrainingError(f"{root}: no such folder. Give a folder with one folder of pictures for each class")
    parts = _parts(root)
    raw = sorted({name for part in parts.values() for name in part if name.lower() not in GOOD_NAMES})
    if len(raw) < 2:
        raise TrainingError(
            f"{root}: {len(raw)} class folders, at least 2 are needed. "
            "Put the pictures of each kind of defect into a folder named after it"
        )
    spelled = _spelling(raw)
    classes = tuple(sorted(set(spelled.values())))
    for name in raw:
        if not parts["train"].get(name) and not any(parts["train"].get(n) for n in raw if spelled[n] == spelled[name]):
            raise TrainingError(
                f"{root / name}: no pictures to train on. Every class needs some: {', '.join(SUFFIXES)}"
            )

    labels = {name: classes.index(spelled[name]) for name in raw} | dict.fromkeys(GOOD_NAMES, len(classes))
    listed = [
        (split, Picture(path, labels.get(name, len(classes))))
        for split, part in parts.items() for name, paths in part.items() for path in paths
    ]  # fmt: skip
    read_, left_out = _read_all([p for _, p in listed], look_for_twins=look_for_twins, report=report)
    found = {split: tuple(read_[p.path] for s, p in listed if s == split and p.path in read_) for split in parts}
    splits, notes = _split(found, classes)
    for label, name in enumerate(classes):
        if sum(p.label == label for p in splits["train"]) < FEWEST:
            own = [one for one in left_out if labels.get(one.path.parent.name, -1) == label]
            why = f"; {len(own)} could not be used, the first: {own[0].path.name} {own[0].reason}" if own else ""
            raise TrainingError(
                f"{root}: too few pictures of {name}: at least {FEWEST + 3} are needed, better hundreds{why}"
            )
    notes = (*notes, *_notes(splits, classes, left_out))
    sha256 = _sha256(root, read_.values())
    source = NEU_SOURCE if sha256 == NEU_SHA256 else "pictures of the user"
    return Index(classes, splits, sha256, tuple(left_out), notes, source)


# What lies where ---------------------------------------------------------------------------------------------------


def _parts(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Split to class to files; a folder without splits is all `train`."""
    folders = {f.name.lower(): f for f in root.iterdir() if f.is_dir()}
    given = {split: folders[name] for split, names in SPLIT_NAMES.items() for name in names if name in folders}
    if "train" not in given:
        return {"train": _by_class(root)}
    return {split: _by_class(folder) for split, folder in given.items()}


def _by_class(folder: Path) -> dict[str, list[Path]]:
    folders = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != LEFT_OUT]
    inside = [f for f in folders if f.name.lower() == "images"]
    if inside and all(f.name.lower() in ("images", "annotations", "labels") for f in folders):
        return _by_class(inside[0])
    if folders:
        return {f.name: files(f) for f in sorted(folders)}
    flat: dict[str, list[Path]] = {}
    for path in files(folder):
        flat.setdefault(re.sub(r"_?\d+$", "", path.stem), []).append(path)
    return flat if flat and all(_neu(name) for name in flat) else {}


def _neu(name: str) -> str | None:
    plain = re.sub(r"[-_ ]", "", name.lower())
    return next((full for full, short in NEU.items() if plain in (short, re.sub(r"[-_]", "", full))), None)


def _spelling(names: Sequence[str]) -> dict[str, str]:
    """NEU's classes as the model card writes them, if all are; else every name as it is."""
    known = {name: _neu(name) for name in names}
    return {name: full or name for name, full in known.items()} if all(known.values()) else {n: n for n in names}


def files(folder: Path) -> list[Path]:
    """Pictures of one folder, by number; none where there is no folder."""
    if not folder.is_dir():
        return []
    shown = (f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    return sorted(shown, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts a_9 before a_10: neighbours in number are often neighbours on the coil."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def _place(picture: Picture) -> tuple[int, list[tuple[int, str]], str]:
    return picture.label, _natural(picture.path), str(picture.path)


# What it holds -----------------------------------------------------------------------------------------------------


def _read_all(
    pictures: Sequence[Picture], *, look_for_twins: bool, report: Callable[[int, int], None]
) -> tuple[dict[Path, Picture], list[LeftOut]]:
    """The usable pictures with hash and group, by path, and those that are not."""

    def look(picture: Picture) -> tuple[Picture, near_duplicates.Mark | None] | LeftOut:
        try:
            image = read(picture.path)
        except TrainingError as error:
            reason = str(error).removeprefix(f"{picture.path}: ").removesuffix(f". {REMEDY}")
            return LeftOut(picture.path, reason)
        if min(image.shape) < MIN_PX:
            return LeftOut(picture.path, f"is {image.shape[1]}x{image.shape[0]} px, at least {MIN_PX} each way")
        if int(image.max()) - int(image.min()) < FLAT:
            return LeftOut(picture.path, f"shows nothing: every pixel is about {int(image[0, 0])}")
        known = replace(picture, sha256=hashlib.sha256(picture.path.read_bytes()).hexdigest())
        return known, near_duplicates.mark(image) if look_for_twins else None

    usable: list[Picture] = []
    marks: list[near_duplicates.Mark] = []
    left_out: list[LeftOut] = []
    with ThreadPoolExecutor() as pool:
        for done, seen in enumerate(pool.map(look, sorted(pictures, key=_place)), 1):
            if isinstance(seen, LeftOut):
                left_out.append(seen)
            else:
                usable.append(seen[0])
                marks += [seen[1]] if seen[1] else []
            report(done, len(pictures))
    groups = near_duplicates.groups(marks, [p.label for p in usable]) if look_for_twins else [-1] * len(usable)
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
            "The rare ones are trained on more often; more pictures would be better"
        )
    return notes + _notes_on_twins(splits, classes)


def _notes_on_twins(splits: dict[str, tuple[Picture, ...]], classes: tuple[str, ...]) -> list[str]:
    members: dict[int, list[tuple[str, Picture]]] = {}
    for split, pictures in splits.items():
        for p in pictures:
            if p.group >= 0:
                members.setdefault(p.group, []).append((split, p))
    together = [m for m in members.values() if len(m) > 1]
    if not together:
        return []
    count = sum(map(len, together))
    notes = [f"{count} pictures have near duplicates or show a place that another shows ({len(together)} groups)"]
    for label, name in enumerate(classes):
        if sum(any(p.label == label for _, p in m) for m in members.values()) == 1:
            notes.append(f"all pictures of {name} show the same place: training and test cannot be kept apart")
    mixed = [sorted(m, key=lambda one: _place(one[1])) for m in together if len({p.label for _, p in m}) > 1]
    if mixed:
        a, b = mixed[0][0][1].path, mixed[0][-1][1].path
        notes.append(f"{len(mixed)} groups stand in several classes, for example {_short(a)} and {_short(b)}")
    for split in ("valid", "test"):
        seen = sum(s == split for m in together for s, _ in m if {"train", "held_out"} & {other for other, _ in m})
        if seen:
            notes.append(f"{seen} pictures of {split} have a near duplicate in train: it measures memory in part")
    return notes


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _sha256(root: Path, pictures: Iterable[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in sorted(pictures, key=lambda p: p.path):
        digest.update(picture.path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(picture.sha256))
    return digest.hexdigest()


# Who goes where ----------------------------------------------------------------------------------------------------


def _split(
    given: dict[str, tuple[Picture, ...]], classes: tuple[str, ...]
) -> tuple[dict[str, tuple[Picture, ...]], tuple[str, ...]]:
    """train, held_out, valid and test.  What the folder gives is kept; what it lacks is taken from train."""
    splits = {split: given.get(split, ()) for split in SPLITS}
    train, notes = splits["train"], []
    for split, where in (("test", 1.0), ("valid", 0.0)):
        lacking = {p.label for p in train} - {p.label for p in splits[split]}
        if not lacking:
            continue
        source = tuple(p for p in train if p.label in lacking)
        rest, taken = _slice(source, where, OWN_SPLIT)
        train = tuple(p for p in train if p.label not in lacking) + rest
        splits[split] = tuple(sorted((*splits[split], *taken), key=_place))
        if split in given:
            names = ", ".join((*classes, "good")[label] for label in sorted(lacking))
            notes.append(f"{split} has no pictures of {names}: {len(taken)} are taken from train")
    rest, held_out = _slice(tuple(sorted(train, key=_place)), 0.5, HELD_OUT)
    return {"train": rest, "held_out": held_out, "valid": splits["valid"], "test": splits["test"]}, tuple(notes)


def _slice(
    pictures: tuple[Picture, ...], where: float, share: float
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Take a run of neighbouring files out of each class, twins together: (rest, taken).

    where: 0 the first, 1 the last ones.
    """
    rest: list[Picture] = []
    taken: list[Picture] = []
    for label in sorted({p.label for p in pictures}):
        blocks = _blocks([p for p in pictures if p.label == label])
        size = sum(map(len, blocks))
        count = max(1, round(size * share)) if size > 1 else 0
        start, passed = round((size - count) * where), 0
        chosen: list[int] = []
        for n, block in enumerate(blocks):
            so_far = sum(len(blocks[i]) for i in chosen)
            if passed + len(block) > start and so_far < count and so_far + len(block) <= 2 * count:
                chosen.append(n)
            passed += len(block)
        if count and not chosen:  # large groups only
            smallest = min(range(len(blocks)), key=lambda n: len(blocks[n]))
            chosen = [smallest] if 2 * len(blocks[smallest]) <= size else []
        for n, block in enumerate(blocks):
            (taken if n in chosen else rest).extend(block)
    # Twins under two names stay together as well.
    kept = {(p.group, p.label) for p in rest if p.group >= 0}
    back = {p.group for p in taken if any(g == p.group and label != p.label for g, label in kept)}
    rest += [p for p in taken if p.group in back]
    return tuple(sorted(rest, key=_place)), tuple(p for p in taken if p.group not in back)


def _blocks(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Twins together, in the order of the first of each group.  If all are twins of each other: every one alone."""
    blocks: dict[tuple[int, int], list[Picture]] = {}
    for place, picture in enumerate(sorted(pictures, key=_place)):
        key = (picture.group, 0) if picture.group >= 0 else (-1, place)
        blocks.setdefault(key, []).append(picture)
    return list(blocks.values()) if len(blocks) > 1 else [[p] for block in blocks.values() for p in block]


def folds(
    pictures: Sequence[Picture], count: int, *, by: Grouping = "numbers", seed: int = 0
) -> list[tuple[tuple[Picture, ...], tuple[Picture, ...]]]:
    """Cross-validation: (the others, those left out) for each fold; every picture is left out once.

    Each class is spread evenly, twins stay together.  by: "numbers" leaves out runs of neighbouring file numbers,
    which on a coil are neighbouring places: the harder and more honest question.  Raises TrainingError.
    """
    fold_of: dict[Path, int] = {}
    of_group: dict[int, int] = {}
    rng = np.random.default_rng([seed, 7])
    for label in sorted({p.label for p in pictures}):
        own = [p for p in pictures if p.label == label]
        blocks = _blocks(own)
        grouped = any(len(block) > 1 for block in blocks) or len({p.group for p in own}) > 1
        if len(blocks) < count:
            raise TrainingError(f"{count} folds need {count} independent pictures of each class; one has {len(blocks)}")
        total, passed = sum(map(len, blocks)), 0
        sizes = [0] * count
        if by == "twins":
            order = [blocks[i] for i in rng.permutation(len(blocks))]
            blocks = sorted(order, key=len, reverse=True)
        for block in blocks:
            running = min(count - 1, int((passed + len(block) / 2) * count / total))
            fold = running if by == "numbers" else sizes.index(min(sizes))
            if grouped and block[0].group >= 0:  # a twin of another class may have its place already
                fold = of_group.setdefault(block[0].group, fold)
            fold_of |= {p.path: fold for p in block}
            sizes[fold] += len(block)
            passed += len(block)
    ordered = sorted(pictures, key=_place)
    return [
        (tuple(p for p in ordered if fold_of[p.path] != n), tuple(p for p in ordered if fold_of[p.path] == n))
        for n in range(count)
    ]


def part(index: Index, pictures: Sequence[Picture], name: str) -> Index:
    """Some of the pictures as data of their own, without a test split: what is trained on in a fold."""
    rest, valid = _slice(tuple(sorted(pictures, key=_place)), 0.0, HELD_OUT)  # what a fold learns from is scarce
    train, kept = _slice(rest, 0.5, HELD_OUT)
    return Index(
        index.classes,
        {"train": train, "held_out": kept, "valid": valid, "test": ()},
        _hash_of(index.sha256, name, *(p.sha256 for p in sorted(pictures, key=_place))),
        source=index.source,
    )


def fewer(index: Index, most: int) -> Index:
    """About `most` pictures of each class, spread evenly over its numbers; shares of the splits as they are."""
    sizes = Counter(p.label for p in index.pictures)
    splits = {}
    for split, pictures in index.splits.items():
        kept: list[Picture] = []
        for label, size in sorted(sizes.items()):
            own = [p for p in pictures if p.label == label]
            count = min(len(own), max(2 if split == "train" else 1, round(len(own) * min(1.0, most / size))))
            kept += [own[i * len(own) // count] for i in range(count)]
        splits[split] = tuple(kept)
    return replace(index, splits=splits, sha256=_hash_of(index.sha256, str(most)))


def fingerprint(root: Path) -> str:
    """Changes when a picture is added, removed or written to; reads none.  Raises TrainingError."""
    if not root.is_dir():
        raise TrainingError(f"{root}: no such folder. Give a folder with one folder of pictures for each class")
    seen = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES):
        status = path.stat()
        seen.append(f"{path.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}")
    return _hash_of(*seen)


def file_sha256(path: Path) -> str:
    """Raises TrainingError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error


def _hash_of(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def held_out(pictures: Sequence[Picture]) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Take a small run of neighbouring pictures of each class out of training, for the temperature: (rest, taken)."""
    return _slice(tuple(pictures), 0.5, HELD_OUT)


# Pixels ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Gray:
    """Decode one picture as the daemon does.  Returns (H, W) uint8, the high byte of 16 bit.  Raises TrainingError."""
    try:
        return read_image(path)
    except ImageError as error:
        reason = str(error).removeprefix(str(path)).lstrip(": ")
        raise TrainingError(f"{path}: {reason}. {REMEDY}") from error


def read_boxes(path: Path) -> Boxes:
    """Boxes of defects: {"stem": [["class", xmin, ymin, xmax, ymax], ...]}.  Raises TrainingError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return {stem: [(int(a), int(b), int(c), int(d)) for _, a, b, c, d in boxes] for stem, boxes in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"{path}: not a file of boxes: {error}") from error


def tile_px(pictures: Sequence[Picture]) -> int:
    """The scale of the training pictures: the median of their shorter sides, in px."""
    return int(np.median([min(read(p.path).shape) for p in pictures]))


def cut(image: Gray, input_px: int) -> Gray:
    """One picture as the tiles that the edge would make of it.  Returns (N, input_px, input_px) uint8."""
    height, width = image.shape
    return lay((height, width), tile_px=min(height, width), input_px=input_px).cut(image)


def find_boxes(folder: Path) -> Path | None:
    """boxes.json in the data folder, or where NEU-DET lies beside NEU-CLS."""
    for path in (folder / "boxes.json", folder.parent / "neu-det" / "boxes.json"):
        if path.is_file():
            return path
    return None
