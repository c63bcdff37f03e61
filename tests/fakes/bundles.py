"""Bundles with tiny networks, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from edge.model.bundle import CARD, FP32, INT8, Bundle, ModelCard, SelfTest, Variant, load, selftest_tiles
from fakes.networks import CLASSES, SIDE, expected_logits, network


def card(
    onnx_bytes: bytes,
    *,
    side: int = SIDE,
    weights: tuple[float, ...] = (0, 0, 0, 0, 0, 1),
    offsets: tuple[float, ...] = (0, 0, 0, 0, 0, 0),
    good: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """card.json of such a network.  changes: keys with another value."""
    tiles = selftest_tiles(7, 3, side)
    outputs = {"logits": "class logits", "features": "pooled"} | ({"good": "no defect"} if good else {})
    return {
        "schema": "defectd.card/1",
        "name": "tiny",
        "version": "1",
        "classes": list(CLASSES[: len(weights)]),
        "tile_px": 2 * side,
        "input_px": side,
        "outputs": outputs,
        "files": {FP32: hashlib.sha256(onnx_bytes).hexdigest()},
        "selftest": {"seed": 7, "tiles": 3, "logits": expected_logits(tiles, weights, offsets).tolist()},
        **changes,
    }


def bundle(*, good: tuple[float, float] | None = None, **network_options: Any) -> Bundle:
    """A bundle in memory, like those that `edge.model.bundle.load` returns."""
    onnx_bytes = network(good=good, **network_options)
    known = {k: v for k, v in network_options.items() if k in ("side", "weights", "offsets")}
    described = ModelCard.model_validate(card(onnx_bytes, good=good is not None, **known))
    return Bundle("memory", described, {FP32: onnx_bytes})


def with_int8(made: Bundle, onnx_bytes: bytes, *, temperature: float | None = None, **selftest: Any) -> Bundle:
    """The bundle with a second network.  selftest: values of the card that differ from those of fp32."""
    test = SelfTest.model_validate({**made.card.selftest.model_dump(), **selftest})
    files = {**made.card.files, INT8: hashlib.sha256(onnx_bytes).hexdigest()}
    variants = {INT8: Variant(selftest=test, temperature=temperature)}
    described = made.card.model_copy(update={"files": files, "variants": variants})
    return Bundle(made.origin, described, {**made.networks, INT8: onnx_bytes})


def write_bundle(folder: Path, onnx_bytes: bytes, described: dict[str, Any] | str) -> Path:
    """Write a bundle directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FP32).write_bytes(onnx_bytes)
    (folder / CARD).write_text(described if isinstance(described, str) else json.dumps(described))
    return folder


def zip_bundle(folder: Path, to: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack a bundle directory into a zip file."""
    with zipfile.ZipFile(to, "w", compression) as archive:
        for member in sorted(folder.iterdir()):
            archive.write(member, member.name)
    return to


def bundle_of(folder: Path, version: str, make: Callable[..., bytes] = network, **changes: Any) -> Bundle:
    """A bundle with a network of `make`, read from disk.  changes: weights, offsets, and keys of the card."""
    shape = {name: changes.pop(name) for name in ("weights", "offsets") if name in changes}
    onnx_bytes = make(**shape)
    described = card(onnx_bytes, version=version, **shape, **changes)
    return load(write_bundle(folder / f"v{version}", onnx_bytes, described))


def rebuilt(source: Path, to: Path, version: str, **changes: Any) -> Path:
    """A copy of a bundle directory; its networks compute the same, but have other hashes."""
    loaded = load(source)
    described = loaded.card.model_dump(mode="json", by_alias=True)
    networks = {}
    for name, content in loaded.networks.items():
        model = onnx.load_from_string(content)
        model.producer_version = version
        networks[name] = bytes(model.SerializeToString())
        described["files"][name] = hashlib.sha256(networks[name]).hexdigest()
    described |= {"version": version, **changes}
    write_bundle(to, networks["student.onnx"], described)
    for name, content in networks.items():
        (to / name).write_bytes(content)
    return to
