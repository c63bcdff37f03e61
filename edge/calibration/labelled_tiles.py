"""Labelled tiles: a folder for each class, and one named `good` or `normal` with defect-free surface."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.camera.recordings import iter_recording
from edge.camera.sources.contract import Unreadable
from edge.camera.sources.files import find_images
from edge.errors import CalibrationError, CameraError
from edge.evidence.export import MANIFEST, UNSURE
from edge.frame import Gray
from edge.host.suggestion import did_you_mean

GOOD_FOLDERS: Final = ("good", "normal")
MAX_PICTURES: Final = 200_000
MAX_LISTED: Final = 10
"""Unusable files that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture.  label: the number of its class; defect-free surface has the number of classes as its label."""

    path: Path
    label: int


@dataclass(slots=True)
class LeftOut:
    """Files that were not used, and the reasons."""

    reasons: list[tuple[Path, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        for path, why in self.reasons[:MAX_LISTED]:
            yield f"left out: {path}: {why}"
        if len(self.reasons) > MAX_LISTED:
            yield f"left out: {len(self.reasons) - MAX_LISTED} more"


def find(folders: Sequence[Path], classes: Sequence[str], skipped: Sequence[str] = (UNSURE,)) -> list[Labelled]:
    """List the pictures in the class folders, in order, without the folder `unsure` of `defectd evidence export`.

    skipped: folders that are left out.

    Raises CalibrationError for folders that name no class of the model, and when there are no pictures.
    """
    numbers = {normalised(name): number for number, name in enumerate(classes)} | dict.fromkeys(
        GOOD_FOLDERS, len(classes)
    )
    found, unknown = list[Labelled](), list[str]()
    for folder in folders:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError as error:
            raise CalibrationError(
                f"{folder} cannot be read: {error.strerror}. Give a folder of class folders"
            ) from None
        for path in inner:
            if normalised(path.name) in skipped:
                continue
            if normalised(path.name) not in numbers:
                unknown.append(str(path))
                continue
            try:
                base, names = find_images(str(path))
            except CameraError:
                continue  # an empty folder: its class has no pictures
            found += [Labelled(base / name, numbers[normalised(path.name)]) for name in names]
    if unknown:
        meant = did_you_mean(Path(unknown[0]).name, classes)
        raise CalibrationError(
            f"no class of this model: {', '.join(unknown)}. {meant}It knows: {', '.join(classes)}; good or normal is "
            f"defect-free surface, {UNSURE} is left out"
        )
    if not found:
        where = ", ".join(map(str, folders))
        raise CalibrationError(f"{where} holds no class folders with pictures: {', '.join(classes)}, good")
    if len(found) > MAX_PICTURES:
        raise CalibrationError(f"{len(found)} pictures are too many, at most {MAX_PICTURES}: give a sample")
    return found


def normalised(name: str) -> str:
    """The name of a class, from the name of its folder."""
    return name.lower().replace(" ", "_")


def read(
    found: Sequence[Labelled], side: int, allowed_px: Sequence[int], left_out: LeftOut
) -> Iterator[tuple[Labelled, Gray]]:
    """Yield each readable picture with its (side, side) uint8 pixels, resized as the daemon resizes tiles.

    allowed_px: sides that a tile may have; all pictures must have the same one.  Raises CalibrationError.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    for one in found:
        for picture in iter_recording(one.path):
            if isinstance(picture, Unreadable):
                left_out.reasons.append((one.path, str(picture.error)))
                continue
            height, width = picture.pixels.shape
            if first is None:
                _check(one.path, width, height, allowed_px)
                first = one.path, (width, height)
            if (width, height) != first[1]:
                raise CalibrationError(
                    f"{one.path} is {width}x{height} px, {first[0]} is {first[1][0]}x{first[1][1]}: give one size, "
                    "because a tile shows the same length of steel everywhere"
                )
            pixels = picture.pixels
            if height != side:
                pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            yield one, pixels


def _check(path: Path, width: int, height: int, allowed_px: Sequence[int]) -> None:
    if width != height or width not in allowed_px:
        sides = " or ".join(f"{px}x{px}" for px in sorted(set(allowed_px)))
        raise CalibrationError(
            f"{path} is {width}x{height} px: give tiles of {sides} px (the camera's tile_px, or that of the model's "
            "training), as `defectd evidence export` writes them"
        )


def check_counts(labels: Sequence[int], classes: Sequence[str], min_pictures: int) -> None:
    """Raises CalibrationError when a class has some pictures but too few, or when no class has any."""
    counts = Counter(labels)
    few = [f"{name} has {counts[n]}" for n, name in enumerate((*classes, "good")) if 0 < counts[n] < min_pictures]
    if few:
        raise CalibrationError(
            f"too few pictures: {', '.join(few)}; a class that has any needs at least {min_pictures}. Give more, "
            "or remove the folder: its class then keeps its threshold"
        )
    if not any(counts[number] for number in range(len(classes))):
        raise CalibrationError(f"no picture of a defect: thresholds need pictures of {', '.join(classes)}")


@dataclass(frozen=True, slots=True)
class Checked:
    """Pictures of evidence exports.  pictures: all.  blind: labelled at random, without the guess of the model.

    unmoved: nobody has confirmed them, and they are in the folder that the model chose.  chosen: not taken at random:
    the model found them, or was unsure about them.
    """

    pictures: int
    unmoved: int
    chosen: int
    blind: int

    def lines(self) -> Iterator[str]:
        """What a person should know before he believes the recall."""
        yield from self.unchecked()
        if self.chosen:
            yield (
                f"the model found {self.chosen} of {self.pictures} exported pictures itself, or was unsure about them; "
                "defects that it missed are not among those, so recall looks too high"
                + (f". {self.blind} were taken at random and labelled blind" if self.blind else "")
            )

    def unchecked(self) -> Iterator[str]:
        """What a person should know before the labels teach anything."""
        if self.unmoved:
            yield (
                f"{self.unmoved} of {self.pictures} exported pictures still have the label of the model: has a person "
                "checked them?"
            )


def checked(folders: Sequence[Path]) -> Checked:
    """Count the pictures of evidence exports by who labelled them; folders that are no export count nothing."""
    total = unmoved = chosen = blind = 0
    for folder in folders:
        try:
            with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    name = row.get("file") or ""
                    is_there = bool(name) and not name.startswith(UNSURE) and (folder / name).is_file()
                    confirmed = row.get("confirmed") == "yes"
                    unmoved += is_there and not confirmed
                    chosen += row.get("kind") == "defect" or (confirmed and row.get("kind") != "audit")
                    blind += row.get("blind") == "yes"
                    total += 1
        except (OSError, ValueError, csv.Error):
            continue  # not an export
    return Checked(total, unmoved, chosen, blind)
