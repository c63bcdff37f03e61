"""One calibration at the command line: common options, input, output and files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from edge.cli.options import json_option
from edge.cli.progress import note, progress, progress_lines, uninterrupted

if TYPE_CHECKING:
    from edge import config
    from edge.config.calibration_change import Change
    from edge.config.camera_calibration import Made
    from edge.control.loaded_model import LoadedModel
    from edge.model.bundle import Bundle

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Output:
    """What a calibration does with its result.  plates: folder for what a dry run would write."""

    as_json: bool = False
    dry_run: bool = False
    plates: Path | None = None
    progress_lines: bool = False


def output_options(command: Callable[P, R]) -> Callable[P, R]:
    """--json, --dry-run, --plates and --progress-json, as one argument `output`."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        values: dict[str, Any] = {name: kwargs.pop(name) for name in ("as_json", "dry_run", "plates", "progress_lines")}
        if values["plates"] is not None and not values["dry_run"]:
            raise click.UsageError("--plates holds what a dry run would write: give --dry-run too")
        kwargs["output"] = Output(**values)
        return command(*args, **kwargs)

    for option in (
        click.option(
            "--progress-json", "progress_lines", is_flag=True, help="Progress as JSON lines on stderr, for programs."
        ),
        click.option(
            "--plates",
            type=click.Path(path_type=Path, file_okay=False),
            help="With --dry-run: folder for pictures and files, to look at and for `calibrate apply`.",
        ),
        click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing."),
        json_option,
    ):
        option(wrapped)
    return wrapped


def frames_options(command: Callable[P, R]) -> Callable[P, R]:
    """The options that calibrations have in common."""
    for option in (
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
            help="Instead of the camera: images, folders, patterns, videos; `live:` is the running daemon.",
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

    def __init__(
        self, config_path: Path, camera: str | None, kind: str, output: Output, state_dir: Path | None = None
    ) -> None:
        """kind: the command, as `edge.config.calibration_change` names it.

        state_dir: where calibrations are read and written; None: that of the configuration.
        """
        from edge import config
        from edge.config import calibration

        self.settings: config.Config = config.load(config_path)
        self.feed = self.settings.state.page_socket
        """Where a running daemon gives frames."""
        if state_dir is not None:
            self.settings = self.settings.model_copy(update={"state_dir": state_dir})
        self.camera = config.find_camera(self.settings, camera, str(config_path))
        self.path = self.settings.state.calibration(self.camera.name)
        calibration.load(self.path)  # an unreadable file must be reported before frames are gathered
        self.as_json = output.as_json
        self._output = output
        self._kind = kind
        if not output.dry_run:
            self._check_writable()
        self._written: list[str] = []
        self._kept: dict[str, Any] = {}

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

    def bundle(self) -> Bundle:
        """The bundle of the model that decides; its network is not loaded.  Raises BundleError."""
        from edge.errors import BundleError
        from edge.model import bundle
        from edge.model.store import CONFIGURED, Store

        store = Store(self.settings.state_dir)
        current = store.active(self.settings.model.bundle).current
        if current != CONFIGURED:
            with suppress(BundleError):  # the daemon falls back to the configured one
                return store.get(current)
        return bundle.load(self.settings.model.bundle)

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

    def progress(self, total: int | None, label: str) -> AbstractContextManager[Callable[[], None]]:
        """A progress bar with the time left on a terminal, or lines for a program."""
        if self._output.progress_lines:
            return progress_lines(total, label)
        return progress(total, label, hidden=self.as_json)

    @property
    def is_dry(self) -> bool:
        """Whether nothing is written."""
        return self._output.dry_run

    @property
    def has_plates(self) -> bool:
        """Whether what a dry run would write goes into a folder, for a person to look at."""
        return self._output.plates is not None

    def footage(self, sources: tuple[str, ...], max_frames: int, **options: Any) -> Any:
        """Gather frames.  options: of `edge.calibration.footage.gather`."""
        from edge.calibration.footage import expected_frames, gather
        from edge.host.clock import SystemClock

        with self.progress(expected_frames(sources, max_frames), "frames") as advance:
            clock, feed = SystemClock(), self.feed
            return gather(self.camera, sources, clock, max_frames=max_frames, on_frame=advance, feed=feed, **options)

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

    def keep(
        self,
        parts: dict[str, Any],
        *,
        pictures: dict[str, Any],
        files: dict[str, bytes] | None = None,
        objections: tuple[str, ...] = (),
    ) -> None:
        """Write parts into the camera's file, with their pictures and data files, all or none.

        objections: what speaks against the change, and a person has to overrule.  Raises CalibrationError.
        """
        from edge.config import calibration, calibration_change

        before = calibration.load(self.path)
        after = before.model_copy(update=parts)
        drawn = _drawn(self.camera.name, pictures)
        seen = calibration_change.digest(self.path)
        beside = {**(files or {}), **drawn}
        change = calibration_change.Change(
            self._kind, self.camera.name, self.path, seen, after.coded(), beside, objections
        )
        self._keep(change, list(drawn), _shown(getattr(before, self._kind)), _shown(getattr(after, self._kind)))

    def keep_tuning(self, tuned: Any, *, pictures: dict[str, Any]) -> None:
        """Write the measurements of the machine, with their pictures, all or none.  Raises CalibrationError."""
        from edge.config import calibration_change, tuning

        path, drawn = self.settings.state.tuning, _drawn("node", pictures)
        seen = calibration_change.digest(path)
        change = calibration_change.Change(self._kind, self.camera.name, path, seen, tuning.coded(tuned), drawn)
        before = None if seen is None else tuning.load(path)
        self._keep(change, list(drawn), None if before is None else _shown(before.chosen), _shown(tuned.chosen))

    def _keep(self, change: Change, drawn: list[str], before: Any, after: Any) -> None:
        from edge.config import calibration_change

        self._kept = {
            "kind": change.kind,
            "file": change.path.name,
            "before_sha256": change.before_sha256,
            "after_sha256": change.after_sha256,
            "before": before,
            "after": after,
            "objections": list(change.objections),
            "plates": drawn if self._output.plates is not None else [],
        }
        if self._output.plates is not None:
            calibration_change.store(change, self._output.plates)
        elif not self._output.dry_run:
            with uninterrupted():
                calibration_change.apply(change, has_looked=True)
            self.written(change.path, *map(change.path.with_name, drawn))

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
        remarks = self.overrides()
        if self.as_json:
            self._kept["remarks"] = remarks
            click.echo(
                json.dumps({"camera": self.camera.name, **found, "change": self._kept, "written": self._written})
            )
            return
        for name, value in found.items():
            if value and name not in ("edges", "tiles", "tile_sizes"):
                click.echo(f"{name}: {json.dumps(value)}")
        if self._written:
            note(f"written: {', '.join(self._written)}; {then}")
        elif self._output.plates is not None:
            place = self._output.plates
            note(f"dry run: nothing was written. Look at {place}, then: defectd calibrate apply {place}")
        else:
            note("dry run: nothing was written")
        for remark in remarks:
            note(remark)

    def overrides(self) -> list[str]:
        """Keys of the configuration that override this calibration, in words."""
        keys = _KEYS.get(self._kind, ())
        return [
            f"the configuration has its own {key}, which overrides this one: remove it there"
            for key in keys
            if getattr(self.camera, key) not in (None, [])
        ]


_KEYS: Final = {
    "roi": ("roi", "exclude"),
    "scale": ("scale",),
    "flatfield": ("flatfield",),
    "normal": ("anomaly",),
    "thresholds": ("calibrated_thresholds",),
}
"""Keys of a camera that override what a calibration writes."""


def _drawn(name: str, pictures: dict[str, Any]) -> dict[str, bytes]:
    """Pictures as files."""
    from edge.vision.drawing import png

    return {f"{name}.{part}.png": png(picture) for part, picture in pictures.items()}


def _shown(part: Any) -> Any:
    """A part of the file as plain values; of several models, the newest."""
    one = (part[0] if part else None) if isinstance(part, tuple) else part
    return None if one is None else one.model_dump(mode="json", by_alias=True)
