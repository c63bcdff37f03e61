"""A bundle from somebody else's image classifier: a folder or a repository with config.json, or one ONNX file.

config.json as such repositories have it:

    onnx_file     name of the network in the folder
    img_size      side of the pictures that it takes, px
    mean, std     the values of a pixel are (value / 255 - mean) / std
    class_names   in the order of the scores; or id2label, as `transformers` writes it
    repo_id, temperature, sharpness, tile_px   optional; other keys are ignored
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from edge import __version__
from edge.errors import BundleError
from edge.frame import Float32s
from edge.host import regular_file
from edge.host.clock import Clock
from edge.host.text import one_line
from edge.model.bundle import (
    FEATURES,
    FP32,
    MAX_ACTIVATIONS,
    MAX_NAME,
    MAX_NETWORK_BYTES,
    Bundle,
    ModelCard,
    SelfTest,
    selftest_tiles,
)
from edge.model.classifier import Classifier, foreign
from edge.model.foreign_network import ForeignNetwork
from edge.model.hub import CONFIG_FILE, MAX_CONFIG_BYTES, SCHEME, Repository, safe_name

GOOD_NAMES: Final = ("good", "normal")
"""A class of this name is "no defect"; as the trainer has it."""
NO_GOOD: Final = "none"
TILES: Final = 3
"""Of the self-test, and of the comparison with the network as it came."""
SEED: Final = 20
TOLERANCE: Final = 1e-3
"""Of a logit: between the wrapped network and the one that came, and in the self-test; relative above 1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the network wants its pictures, and what its scores mean: config.json, overridden by options of the command.

    None: not given.
    """

    onnx_file: str | None = None
    img_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    channels: int | None = None
    name: str | None = None
    temperature: float = 1.0
    sharpness: float = 1.0
    tile_px: int | None = None
    good: str | None = None
    """The class that means "no defect"; `none`: there is none."""

    @classmethod
    def of_json(cls, content: bytes, origin: str) -> Settings:
        """Raises BundleError for anything but a config.json."""
        try:
            found = json.loads(content)
            if not isinstance(found, dict):
                raise TypeError("it is not an object")
            return cls(
                onnx_file=_text(found, "onnx_file"),
                img_size=_size(found.get("img_size", found.get("image_size"))),
                mean=_numbers(found, "mean"),
                std=_numbers(found, "std"),
                class_names=_classes(found),
                name=_text(found, "repo_id"),
                temperature=float(found.get("temperature", 1.0)),
                sharpness=float(found.get("sharpness", 1.0)),
                tile_px=_size(found.get("tile_px")),
            )
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise BundleError(f"{origin}: is not usable: {one_line(str(error), 200)}") from error

    def overridden(self, **options: Any) -> Settings:
        """With the options that are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Source:
    """A network that was read, with its settings.  has_bundle: a bundle of ours lies beside it."""

    origin: str
    network: bytes
    settings: Settings
    has_bundle: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """The bundle, and what a user should know about it, one sentence each."""

    bundle: Bundle
    notes: tuple[str, ...]


def read(where: str, config_file: Path | None, clock: Clock) -> Source:
    """Read a folder, a repository (hf://OWNER/NAME[@REVISION]) or an ONNX file.  Raises BundleError.

    config_file: config.json, where it does not lie beside the network.
    """
    if where.startswith(SCHEME):
        return _fetched(where, config_file, clock)
    path = Path(where)
    beside = (path if path.is_dir() else path.parent) / CONFIG_FILE
    has_config = config_file is not None or beside.is_file()
    if path.is_dir() and not has_config:
        raise BundleError(f"{path}: has no {CONFIG_FILE}. Give one with --config, or give the ONNX file")
    settings = Settings()
    if has_config:
        file = config_file or beside
        settings = Settings.of_json(_content(file, MAX_CONFIG_BYTES), str(file))
    if path.is_dir():
        network = path / _onnx_file(settings, str(beside))
        return Source(str(path), _content(network, MAX_NETWORK_BYTES), settings, (path / "bundle.zip").is_file())
    return Source(str(path), _content(path, MAX_NETWORK_BYTES), settings)


def bundle_of(source: Source) -> Imported:
    """Wrap the network, compare it with the one that came, and describe it.  Raises BundleError."""
    settings, origin = source.settings, source.origin
    names = settings.class_names
    if names is None:
        raise BundleError(f"{origin}: nothing names its classes. Give class_names in {CONFIG_FILE}, or --classes a,b,c")
    found = ForeignNetwork.read(
        source.network, origin, classes=len(names), size_px=settings.img_size, mean=settings.mean or (0.0,),
        std=settings.std or (1.0,), channels=settings.channels,
    )  # fmt: skip
    good = _good(names, settings.good)
    kept = [place for place in range(len(names)) if place != good]
    tiles = selftest_tiles(SEED, TILES, found.pictures.size_px)
    wanted = _as_it_came(found, source.network, tiles)
    if wanted.shape[1] != len(names):
        raise BundleError(f"{origin}: gives {wanted.shape[1]} scores, and there are {len(names)} class names")
    problem = BundleError(f"{origin}: cannot be wrapped")
    for features, alone in product(
        (True, False) if found.features else (False,), (True,) if found.one_at_a_time else (False, True)
    ):
        network = found.wrapped(kept, good, features=features, one_at_a_time=alone)
        try:
            made = _described(source, found, network, kept, good, features=features)
            _compare(made, tiles, wanted, kept, good, is_softmax=found.is_softmax)
        except BundleError as error:
            problem = error
            continue
        return Imported(made, tuple(_notes(made.card, source)))
    raise problem


def _as_it_came(found: ForeignNetwork, network: bytes, tiles: Any) -> Float32s:
    """Its scores for tiles, one at a time: (N, classes)."""
    run, planes = foreign(network), found.pictures.planes(tiles)
    rows = [np.asarray(run(planes[i : i + 1])[found.output], np.float32).reshape(1, -1) for i in range(len(tiles))]
    return np.concatenate(rows)


def _described(
    source: Source, found: ForeignNetwork, network: bytes, kept: Sequence[int], good: int | None, *, features: bool
) -> Bundle:
    settings, side = source.settings, found.pictures.size_px
    outputs = {"logits": "one for each class"}
    outputs |= {FEATURES: "what its last layer reads"} if features else {}
    outputs |= {MAX_ACTIVATIONS: "largest activations"} if found.max_activations else {}
    outputs |= (
        {"good": "logit of defect-free surface, joined with the class logits in one softmax"}
        if good is not None
        else {}
    )
    names = settings.class_names or ()
    title = one_line(settings.name or Path(source.origin).stem, MAX_NAME)
    sha256 = hashlib.sha256(source.network).hexdigest()
    try:
        card = ModelCard(
            schema="defectd.card/1",
            name=title,
            version=f"import-{sha256[:8]}",
            classes=tuple(names[place] for place in kept),
            tile_px=settings.tile_px or side,
            input_px=side,
            outputs=outputs,
            temperature=settings.temperature,
            sharpness=settings.sharpness,
            training={
                "imported_from": one_line(
                    source.origin if source.origin.startswith(SCHEME) else Path(source.origin).name, 200
                ),
                "imported_by": f"defectd {__version__}",
                "network_sha256": sha256,
                "mean": found.pictures.mean,
                "std": found.pictures.std,
                "channels": found.pictures.channels,
                "note": "Made elsewhere. Nothing was measured here: evaluate it on pictures of your own surface.",
            },
            files={FP32: hashlib.sha256(network).hexdigest()},
            selftest=SelfTest(seed=SEED, tiles=TILES, logits=((0.0,) * len(kept),) * TILES, tolerance=TOLERANCE),
        )
    except ValidationError as error:
        raise BundleError(f"{source.origin}: {one_line(str(error.errors()[0]['msg']), 200)}") from error
    made = Bundle(source.origin, card, {FP32: network})
    logits = Classifier(made).score(selftest_tiles(SEED, TILES, side)).logits
    if logits.shape != (TILES, len(kept)) or not np.isfinite(logits).all():
        raise BundleError(f"{source.origin}: its scores are of shape {logits.shape}, or not finite")
    tolerance = min(1.0, TOLERANCE * max(1.0, float(np.abs(logits).max())))
    rows = tuple(tuple(round(float(score), 5) for score in row) for row in logits)
    test = SelfTest(seed=SEED, tiles=TILES, logits=rows, tolerance=tolerance)
    made = replace(made, card=card.model_copy(update={"selftest": test}))
    Classifier(made).selftest()
    return made


def _compare(
    made: Bundle, tiles: Any, wanted: Float32s, kept: Sequence[int], good: int | None, *, is_softmax: bool
) -> None:
    """All tiles in one call, wrapped, against one at a time, as it came.  Raises BundleError."""
    scores = Classifier(made).score(tiles)
    order = [*kept, *([good] if good is not None else [])]
    ours = scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)
    theirs = wanted[:, order]
    if is_softmax:
        exp = np.exp(ours - ours.max(1, keepdims=True))
        ours = exp / exp.sum(1, keepdims=True)
    error = float(np.abs(ours - theirs).max())
    if not error <= TOLERANCE * max(1.0, float(np.abs(theirs).max())):
        raise BundleError(f"{made.origin}: wrapped, its scores differ by {error:.3g}: it cannot be used")


def _notes(card: ModelCard, source: Source) -> list[str]:
    notes = []
    if source.settings.mean is None or source.settings.std is None:
        notes.append("mean and std are not given: it gets gray values from 0 to 1")
    if not card.has_features:
        notes.append(
            "no features found before its scores: calibrate normal, taught classes and the drift distance do not "
            "work with it"
        )
    if not card.has_good:
        notes.append(
            "it has no class for defect-free surface: calibrate thresholds, or `calibrate normal` if it has features"
        )
    if source.has_bundle:
        notes.append("a bundle of defectd lies beside it, which keeps int8 and the signature: install that instead")
    return notes


def _fetched(where: str, config_file: Path | None, clock: Clock) -> Source:
    repository = Repository.of(where)
    with tempfile.TemporaryDirectory() as folder:
        file = config_file or repository.fetch(CONFIG_FILE, Path(folder) / CONFIG_FILE, clock, most=MAX_CONFIG_BYTES)
        settings = Settings.of_json(_content(file, MAX_CONFIG_BYTES), where)
        network = repository.fetch(
            _onnx_file(settings, where), Path(folder) / "network.onnx", clock, most=MAX_NETWORK_BYTES
        )
        return Source(where, _content(network, MAX_NETWORK_BYTES), settings)


def _onnx_file(settings: Settings, origin: str) -> str:
    if settings.onnx_file is None:
        raise BundleError(f"{origin}: does not name the network. Add onnx_file, or give the ONNX file itself")
    return safe_name(settings.onnx_file)


def _content(path: Path, most: int) -> bytes:
    try:
        with regular_file.opened(path) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise BundleError(f"{path}: is larger than {most >> 20} MiB")
    return content


def _good(names: Sequence[str], wanted: str | None) -> int | None:
    """The place of the class that means "no defect"."""
    if wanted == NO_GOOD:
        return None
    if wanted is not None:
        if wanted not in names:
            raise BundleError(f"--good {wanted}: no such class; there are {', '.join(names)}")
        return names.index(wanted)
    return next((place for place, name in enumerate(names) if name.lower() in GOOD_NAMES), None)


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key}: {value!r} is no text")
    return value


def _size(value: Any) -> int | None:
    """A number, or two equal ones."""
    sides = set(value) if isinstance(value, list) else {value}
    if sides == {None}:
        return None
    if len(sides) != 1 or type(next(iter(sides))) is not int or next(iter(sides)) < 1:
        raise ValueError(f"{value!r} is no side of a square in px")
    return int(next(iter(sides)))


def _numbers(found: dict[str, Any], key: str) -> tuple[float, ...] | None:
    value = found.get(key)
    if value is None:
        return None
    return tuple(float(one) for one in (value if isinstance(value, list) else [value]))


def _classes(found: dict[str, Any]) -> tuple[str, ...] | None:
    names = found.get("class_names", found.get("classes"))
    if names is None and isinstance(found.get("id2label"), dict):
        labels = found["id2label"]
        names = [labels.get(str(place)) for place in range(len(labels))]
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names should be a list of names")
    return tuple(names)
