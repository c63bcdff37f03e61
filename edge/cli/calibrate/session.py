"""One calibration at the command line: common options, input, output and files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from edge.cli.progress import note, progress, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path

    from edge import config
    from edge.config.camera_calibration import Made
    from edge.control.loaded_model import LoadedModel

P = ParamSpec("P")
R = TypeVar("R")


def frames_options(command: Callable[P, R]) -> Callable[P, R]:
    """The options that calibrations have in common."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing."),
        click.option(
            "--frames", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum number of frames."
        ),
        sources_option,
        click.option("--camera", help="Camera of the configuration [default: the first]."),
    ):
        command = option(command)
    return command


def sources_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--source` takes many paths: `--source good/*.png`, which the shell makes a list of."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        more: Any = kwargs.pop("more_sources")
        first: Any = kwargs.pop("sources")
        if more and not first:
            raise click.UsageError(f"unexpected: {more[0]}. Name recordings after --source")
        kwargs["sources"] = (*first, *more)
        return command(*args, **kwargs)

    for option in (
        click.argument("more_sources", nargs=-1, metavar="[--source PATH...]"),
        click.option(
            "--source",
            "sources",
            multiple=True,
            metavar="PATH...",
            help="Recordings to use instead of the camera: images, folders, patterns, videos.",
        ),
    ):
        option(wrapped)
    return wrapped


class Shape(click.ParamType[Any]):
    """`x,y,w,h`, or `x,y x,y x,y ...`."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = str(value).split()
        corners = [tuple(int(n) for n in word.split(",")) for word in words if _NUMBERS.match(word)]
        lengths = {len(corner) for corner in corners}
        if len(corners) != len(words) or ((len(corners), lengths) != (1, {4}) and (len(corners) < 3 or lengths != {2})):
            self.fail(f"{value!r}: write x,y,w,h for a rectangle, or at least three corners 'x,y x,y x,y'", param, ctx)
        return corners[0] if lengths == {4} else tuple(corners)


_NUMBERS = re.compile(r"\d{1,5}(,\d{1,5})+$")


class Run:
    """One run of a calibration command: reads frames, prints results, writes files."""

    def __init__(self, config_path: Path, camera: str | None, *, as_json: bool, dry_run: bool) -> None:
        from edge import config
        from edge.config import calibration

        self.settings: config.Config = config.load(config_path)
        self.camera = config.find_camera(self.settings, camera, str(config_path))
        self.path = self.settings.state.calibration(self.camera.name)
        calibration.load(self.path)  # an unreadable file must be reported before frames are gathered
        self.as_json = as_json
        self._dry_run = dry_run
        if not dry_run:
            self._check_writable()
        self._written: list[str] = []

    def calibrated_camera(self) -> config.Camera:
        """The camera with its calibrations.  Raises ConfigError."""
        from edge.control.effective_config import with_calibrations

        return self._ours(with_calibrations(self.settings))

    def effective(self, bundle_path: str | None = None) -> tuple[config.Camera, LoadedModel]:
        """The camera and the model as the daemon would inspect with them.  Raises ConfigError, BundleError.

        bundle_path: of a model that is to decide in place of the active one.
        """
        from edge.control.effective_config import effective_config, load_model
        from edge.host.clock import SystemClock
        from edge.model import bundle

        clock = SystemClock()
        model = None if bundle_path is None else load_model(self.settings, bundle.load(bundle_path), clock)
        found = effective_config(self.settings, clock, model=model)
        return self._ours(found.settings), found.model

    def _ours(self, settings: config.Config) -> config.Camera:
        return next(camera for camera in settings.cameras if camera.name == self.camera.name)

    def _check_writable(self) -> None:
        """Refuse before ten minutes of footage are gathered in vain.  Raises CalibrationError."""
        from edge.errors import CalibrationError
        from edge.host.rights import REMEDY, nearest

        there = nearest(self.path.parent)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "is not a folder: choose another state_dir" if not there.is_dir() else f"is not writable. {REMEDY}"
            raise CalibrationError(f"{there} {why}")

    def progress(self, total: int, label: str) -> AbstractContextManager[Callable[[], None]]:
        """A progress bar with the time left, on a terminal."""
        return progress(total, label, hidden=self.as_json)

    def footage(self, sources: tuple[str, ...], max_frames: int, **options: Any) -> Any:
        """Gather frames.  options: of `edge.calibration.footage.gather`."""
        from edge.calibration.footage import expected_frames, gather
        from edge.host.clock import SystemClock

        with self.progress(expected_frames(sources, max_frames), "frames") as advance:
            return gather(self.camera, sources, SystemClock(), max_frames=max_frames, on_frame=advance, **options)

    def made(self, footage: Any) -> Made:
        """The origin of a part that is made from this footage."""
        return self.made_of(footage.source, len(footage.frames), footage.size_px)

    def made_of(
        self, source: str, frames: int, size_px: tuple[int, int] | None, overruled: tuple[str, ...] = ()
    ) -> Made:
        """The origin of a part.  size_px: width and height of the frames it holds for; None: of any.

        overruled: what spoke against the part.
        """
        from edge import __version__
        from edge.config.camera_calibration import Made
        from edge.host.clock import SystemClock, stamp

        now = stamp(SystemClock().wall_ns())
        return Made(time=now, version=__version__, source=source, frames=frames, frame_px=size_px, overruled=overruled)

    def keep(self, parts: dict[str, Any], *, pictures: dict[str, Any], files: dict[str, bytes] | None = None) -> None:
        """Write parts into the camera's file, with their pictures and data files, all or none.

        Raises CalibrationError.
        """
        from edge.config import calibration
        from edge.vision.drawing import png

        drawn = {f"{self.camera.name}.{name}.png": png(picture) for name, picture in pictures.items()}
        if not self._dry_run:
            with uninterrupted():
                calibration.save(self.path, {**(files or {}), **drawn}, **parts)
            self.written(self.path, *map(self.path.with_name, drawn))

    def named(self, name: str, content: bytes, suffix: str) -> str:
        """A file name with a digest of the content: a changed calibration changes the configuration."""
        import hashlib

        return f"{self.camera.name}.{name}-{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"

    def say(self, sentence: str) -> None:
        """Print for a person, unless the output is JSON."""
        if not self.as_json:
            click.echo(sentence)

    def written(self, *paths: Path) -> None:
        """Note files for the last line of the output."""
        self._written += map(str, paths)

    def done(self, found: dict[str, Any], then: str = "`defectd reload` makes a running daemon use it") -> None:
        """Print the results and the files.  then: how the daemon comes to use them."""
        if self.as_json:
            click.echo(json.dumps({"camera": self.camera.name, **found, "written": self._written}))
            return
        for name, value in found.items():
            if value and name != "edges":
                click.echo(f"{name}: {json.dumps(value)}")
        if self._written:
            note(f"written: {', '.join(self._written)}; {then}")
            if self.camera.roi is not None and "roi" in found:
                note("the configuration has its own roi, which overrides this one: remove it there")
        else:
            note("dry run: nothing was written")
