"""The model bundle: one directory or zip with the network and its description.

    student.onnx        the fp32 network
    student.int8.onnx   the int8 network, if it is faster
    card.json           inputs, outputs and measured accuracy of the network
    card.sig            signature (`edge.model.signature`), optional

Contract of the network: input `tiles`, uint8 (N, input_px, input_px), grayscale; output `logits`, float32
(N, classes); optionally `features`, float32 (N, F), the pooled features before the last layer (only an
imported network may lack them), `good`, float32 (N, 1), the logit of "no defect", which joins the class
logits in one softmax, and `peaks`, float32 (N, P), the maximum activation of each channel of the first
layers over the tile.
Everything after the resize (scaling, offsets) is inside the network.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import BundleError
from edge.frame import Gray
from edge.host import atomic_files, regular_file
from edge.host.text import one_line
from edge.host.zip_errors import ZIP_ERRORS
from edge.model.sharpness import MAX_SHARPNESS, MIN_SHARPNESS
from edge.model.surface import Surface

CARD = "card.json"
SIGNATURE = "card.sig"
FP32 = "student.onnx"
INT8 = "student.int8.onnx"
MAX_STUDENT_BYTES = 626_688
"""612 KB: the promised limit for the fp32 network."""

MAX_CARD_BYTES: Final = 1 << 20
MAX_SIGNATURE_BYTES: Final = 4096
MAX_NETWORK_BYTES: Final = 32 << 20
"""Far above any student; bounds what a damaged or hostile bundle can make this process read."""
MAX_INPUT_PX: Final = 1024
MAX_NAME: Final = 200
"""Characters of the name of a model or of a class."""
FEATURES: Final = "features"
MAX_ACTIVATIONS: Final = "peaks"
"""Name of the output with the maximum activations: shipped bundles and anomaly models use this name."""


def _printable(text: str) -> str:
    if one_line(text, MAX_NAME) != text:
        raise ValueError(f"should be one line of at most {MAX_NAME} printable characters")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""Goes into events, logs and terminals."""
Positive = Annotated[int, Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
"""A name inside the bundle, never a path."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Part):
    """How a tile becomes the network's input; `edge.vision.tiles` does it."""

    resize: Literal["area"] = "area"
    """cv2.INTER_AREA from tile_px to input_px; exact pixel averaging for whole factors."""
    channels: Literal["gray"] = "gray"
    dtype: Literal["uint8"] = "uint8"


class SelfTest(_Part):
    """Expected logits for tiles that any machine can generate from the seed."""

    seed: int
    tiles: Annotated[int, Field(gt=0, le=256)]
    logits: tuple[tuple[Finite, ...], ...]
    tolerance: Annotated[float, Field(gt=0, le=1)] = 1e-3


class Variant(_Part):
    """Another network of the same student, such as int8: the values that differ from `student.onnx`."""

    selftest: SelfTest
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """None: that of the card."""


class ModelCard(_Part):
    """card.json.  `metrics` and `training` are free text and numbers for people."""

    card_schema: Literal["defectd.card/1"] = Field("defectd.card/1", alias="schema")
    name: Text
    version: Text
    classes: Annotated[tuple[Text, ...], Field(min_length=2, max_length=1000)]
    tile_px: Positive
    """Side of a tile at the scale of the training images."""
    input_px: Annotated[int, Field(gt=0, le=MAX_INPUT_PX)]
    preprocessing: Preprocessing = Preprocessing()
    outputs: dict[str, str]
    """Name of each network output, and its meaning."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Logits are divided by it before the softmax. Tiles are decided by these probabilities."""
    sharpness: Annotated[float, Field(ge=MIN_SHARPNESS, le=MAX_SHARPNESS)] = 1.0
    """For the confidence that is published, logits are divided by temperature / sharpness (`edge.model.sharpness`)."""
    metrics: dict[str, Any] = {}
    training: dict[str, Any] = {}
    files: Annotated[dict[FileName, Sha256], Field(max_length=8)]
    """sha256 of each network file."""
    selftest: SelfTest
    """For `student.onnx`."""
    variants: dict[FileName, Variant] = {}
    """By file. For a network that is not listed here, the values of `student.onnx` hold."""
    surface: Surface | None = None
    """What the training showed. Without it, nothing says whether a camera shows something else."""

    @model_validator(mode="after")
    def _is_consistent(self) -> ModelCard:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name occurs twice")
        if "logits" not in self.outputs:
            raise ValueError("outputs: logits missing")
        if FP32 not in self.files:
            raise ValueError(f"files: {FP32} missing")
        if not all(name.endswith(".onnx") for name in self.files):
            raise ValueError("files: a network's name ends in .onnx")
        unknown = set(self.variants) - set(self.files)
        if unknown:
            raise ValueError(f"variants: {', '.join(sorted(unknown))} is not in files")
        for test in (self.selftest, *(variant.selftest for variant in self.variants.values())):
            if len(test.logits) != test.tiles:
                raise ValueError("selftest: the number of rows of logits must equal tiles")
            if any(len(row) != len(self.classes) for row in test.logits):
                raise ValueError("selftest: each row of logits needs one number per class")
        return self

    @property
    def has_good(self) -> bool:
        return "good" in self.outputs

    @property
    def has_features(self) -> bool:
        return FEATURES in self.outputs

    @property
    def has_max_activations(self) -> bool:
        return MAX_ACTIVATIONS in self.outputs

    def selftest_of(self, network: str) -> SelfTest:
        """The expected outputs of a network of the bundle."""
        variant = self.variants.get(network)
        return self.selftest if variant is None else variant.selftest

    def temperature_of(self, network: str) -> float:
        """The divisor of the logits of a network of the bundle."""
        variant = self.variants.get(network)
        return self.temperature if variant is None or variant.temperature is None else variant.temperature


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read; its files match their hashes."""

    origin: str
    card: ModelCard
    networks: dict[str, bytes]
    """File name to ONNX bytes."""
    card_bytes: bytes = b""
    """The content of card.json."""
    signature: bytes | None = None
    """The content of card.sig."""

    @property
    def digest(self) -> str:
        """sha256 of card.json: it identifies the whole bundle, because the card lists the sha256 of each network."""
        return hashlib.sha256(self.card_bytes).hexdigest()

    def sha256(self, network: str = FP32) -> str:
        return self.card.files[network]


def selftest_tiles(seed: int, count: int, input_px: int) -> Gray:
    """Tiles for self-tests, (count, input_px, input_px) uint8: SHAKE-256 bytes, equal on every machine."""
    size = count * input_px * input_px
    noise = hashlib.shake_256(f"defectd selftest {seed}".encode()).digest(size)
    return np.frombuffer(noise, np.uint8).reshape(count, input_px, input_px)


def load(where: str | Path) -> Bundle:
    """Read a bundle: `builtin`, a directory or a zip.  Raises BundleError, with a remedy."""
    if str(where) == "builtin":
        return _read("builtin", Path(str(importlib.resources.files("edge") / "model" / "builtin")))
    path = Path(where)
    if path.is_dir() or path.is_file():
        return _read(str(path), path)
    raise BundleError(f"{path}: no such bundle. Give a directory or zip with {CARD}, or `builtin`")


def require_features(card: ModelCard, purpose: str) -> None:
    """Raises BundleError where the network has nothing but its scores.  purpose: what needs more."""
    if not card.has_features and not card.has_max_activations:
        raise BundleError(
            f"{purpose} needs the features of the network, and {card.name} {card.version} has none: it was imported, "
            "and no layer before its scores could be found. Use a model that `defectd-train` made, or export the "
            "network with a second output `features`, (N, F) float32, and import it again"
        )


def save(made: Bundle, where: Path) -> None:
    """Write a bundle: a zip where the name ends in .zip, else a folder, card.json last.  Raises BundleError.

    A signature stays where the card is as it was read.
    """
    if made.card_bytes and ModelCard.model_validate_json(made.card_bytes) == made.card:
        files = {**made.networks, **({SIGNATURE: made.signature} if made.signature else {}), CARD: made.card_bytes}
    else:
        card = json.dumps(made.card.model_dump(mode="json", by_alias=True), indent=2).encode() + b"\n"
        files = {**made.networks, CARD: card}
    try:
        if where.suffix == ".zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            atomic_files.replace(where, packed.getvalue(), mode=atomic_files.SHARED)
            return
        where.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_files.replace(where / name, content, mode=atomic_files.SHARED)
    except OSError as error:
        raise BundleError(f"{where}: the bundle cannot be written: {error}") from error


def attach_signature(where: Path, content: bytes) -> None:
    """Write card.sig into a bundle, over an older one.  Raises BundleError."""
    try:
        if where.is_dir():
            atomic_files.replace(where / SIGNATURE, content, mode=atomic_files.SHARED)
            return
        packed = io.BytesIO()
        with zipfile.ZipFile(where) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.infolist():
                if member.filename != SIGNATURE:
                    new.writestr(member, _bounded(str(where), member.filename, old.open, MAX_NETWORK_BYTES))  # type: ignore[arg-type]
            new.writestr(SIGNATURE, content)
        atomic_files.replace(where, packed.getvalue(), mode=atomic_files.SHARED)
    except (OSError, *ZIP_ERRORS) as error:
        raise BundleError(f"{where}: the signature cannot be written: {error}") from error


def _read(origin: str, path: Path) -> Bundle:
    try:
        if path.is_dir():
            return _check(origin, lambda name: regular_file.opened(path / name))
        with zipfile.ZipFile(path) as archive:
            return _check(origin, archive.open)  # type: ignore[arg-type]
    except (OSError, KeyError) as error:
        raise BundleError(f"{origin}: incomplete bundle: {one_line(str(error))}. Export or copy it again") from error
    except ZIP_ERRORS as error:
        raise BundleError(f"{origin}: neither a directory nor a readable zip: {one_line(str(error))}") from error


def _check(origin: str, open_member: Callable[[str], BinaryIO]) -> Bundle:
    card_bytes = _bounded(origin, CARD, open_member, MAX_CARD_BYTES)
    try:
        card = ModelCard.model_validate(json.loads(card_bytes))
    except (ValueError, RecursionError) as error:  # errors of json and pydantic are ValueErrors
        details = _first_line(error)
        raise BundleError(f"{origin}: {CARD} is not a model card: {details}") from error
    networks: dict[str, bytes] = {}
    for name, expected in card.files.items():
        networks[name] = _bounded(origin, name, open_member, MAX_NETWORK_BYTES)
        found = hashlib.sha256(networks[name]).hexdigest()
        if found != expected:
            raise BundleError(
                f"{origin}: {name} is damaged: sha256 {found[:12]}..., in the card {expected[:12]}.... "
                "Export or copy the bundle again"
            )
    try:
        signature = _bounded(origin, SIGNATURE, open_member, MAX_SIGNATURE_BYTES)
    except (FileNotFoundError, KeyError):
        signature = None
    return Bundle(origin, card, networks, card_bytes, signature)


def _bounded(origin: str, name: str, open_member: Callable[[str], BinaryIO], limit: int) -> bytes:
    """Read a file of the bundle, at most `limit` bytes: a zip may unpack to a thousand times its size."""
    with open_member(name) as member:
        content = member.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"{origin}: {name} is larger than {limit >> 10} KiB. This is not a student network")
    return content


def _first_line(error: ValueError | RecursionError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return one_line(f"{'.'.join(str(p) for p in first['loc']) or 'card'}: {first['msg']}")
    return one_line(str(error).partition("\n")[0])
