"""What people have labelled on the page, as class folders for a calibration."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from edge.cli.progress import note

if TYPE_CHECKING:
    from edge import config
    from edge.cli.calibrate.session import Run


P = ParamSpec("P")
R = TypeVar("R")


def labelled_option(help_text: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Folders of labelled pictures, as the argument `folders`."""
    return click.option(
        "--labelled",
        "folders",
        multiple=True,
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help=help_text,
    )


labels_option = click.option(
    "--labels",
    is_flag=True,
    help="The pictures of this camera that people have labelled on the page, beside or in place of --labelled.",
)


@dataclass(frozen=True, slots=True)
class PageLabels:
    """folders: of class folders; empty where the labels are not wanted.  too_few: labels of the classes left out."""

    folders: tuple[Path, ...] = ()
    too_few: dict[str, int] = field(default_factory=dict)


@contextmanager
def labelled_on_page(run: Run, calibrated: config.Camera, min_pictures: int, *, wanted: bool) -> Iterator[PageLabels]:
    """The labelled tiles of this camera.

    Classes with fewer labels than `min_pictures`, and tiles of another size than the camera has now, are left out and
    reported.  Raises EvidenceError, CalibrationError when nothing is left.
    """
    if not wanted:
        yield PageLabels()
        return
    from edge.errors import CalibrationError
    from edge.evidence import export as exporting
    from edge.evidence.labels import UNCLEAR

    with tempfile.TemporaryDirectory(prefix="defectd-") as place:
        store, folder = run.settings.state.labels, Path(place) / "labelled"
        chosen, unclear = exporting.chosen_labels(store, camera=run.camera.name)
        counts, others = Counter[str](), 0
        for tile in tuple(exporting.export_labels(store, chosen, folder)):
            if _is_whole(tile.tile_px, calibrated.tile_px):
                counts[tile.label] += 1
            else:
                (folder / tile.file).unlink()
                others += 1
        too_few = {name: n for name, n in sorted(counts.items()) if n < min_pictures}
        for name in too_few:
            shutil.rmtree(folder / name)
        if unclear[UNCLEAR]:
            note(f"left out: {unclear[UNCLEAR]} labels {UNCLEAR}")
        if others:
            note(f"left out: {others} labelled pictures that show no whole tile of {calibrated.tile_px} px")
        for name, n in too_few.items():
            note(f"left out: {name} has {n}, at least {min_pictures} are needed: label {min_pictures - n} more")
        if not counts.keys() - too_few.keys():
            raise CalibrationError(
                f"camera {run.camera.name} has no class with {min_pictures} labels: label more pictures on the page"
            )
        yield PageLabels((folder,), too_few)


def _is_whole(place: str, side_px: int) -> bool:
    """place: x y w h, as the manifest has it."""
    return place.split()[2:] == [str(side_px)] * 2
