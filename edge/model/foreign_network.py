"""Somebody else's image classifier, wrapped so that it takes raw gray tiles and follows the contract of a bundle.

The graph is edited as protobuf, so that a node can do it: nodes before it turn `tiles` (N, S, S) uint8 into what the
network was trained on, nodes after it name and sort its outputs. A network that was exported for one picture at a time
runs in a Scan over the tiles of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.errors import BundleError
from edge.frame import Float32s, Gray
from edge.model import onnx_graph
from edge.model.bundle import FEATURES, MAX_ACTIVATIONS
from edge.model.onnx_graph import FLOAT, INT64, UINT8, node, value, weight

OWN_NAMES: Final = ("tiles", "logits", FEATURES, "good", MAX_ACTIVATIONS)
OWN_PREFIX: Final = "defectd_"
MAX_STEPS: Final = 20
"""Nodes between the scores and the last layer."""
RESHAPERS: Final = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast")


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the network takes: the values of a pixel are (gray / 255 - mean) / std, per channel.

    size_px: side of the square input.  channels: 1 or 3; a gray tile is repeated.  is_last: the channels come last.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    is_last: bool = False

    def planes(self, tiles: Gray) -> Float32s:
        """(N, S, S) uint8 -> the input of the network as it was exported."""
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        found = (tiles[:, None].astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(found.transpose(0, 2, 3, 1) if self.is_last else found, np.float32)


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """A network that was read.  pictures: its input.  scores: number of its classes, with `good` if there is one.

    The other fields are names of tensors: logits before any softmax; None where the network has no such thing.
    """

    model: Any
    origin: str
    pictures: Pictures
    one_at_a_time: bool
    output: int
    """Which of its outputs has the scores."""
    is_softmax: bool
    """That output holds probabilities; `logits` is the tensor before."""
    logits: str
    features: str | None
    max_activations: str | None

    @classmethod
    def read(
        cls,
        content: bytes,
        origin: str,
        *,
        classes: int,
        size_px: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        channels: int | None = None,
    ) -> ForeignNetwork:
        """Find input and outputs.  classes: how many scores it has.  channels: 1 or 3, where the file leaves it open.

        Raises BundleError with what is missing.
        """
        model = onnx_graph.parse(content, origin)
        graph = model.graph
        _free_names(graph)
        inputs = onnx_graph.own_inputs(graph)
        if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != FLOAT:
            raise BundleError(f"{origin}: has {len(inputs)} inputs; one of float32 pictures is needed")
        batch, found_channels, is_last, found_px = _layout(origin, onnx_graph.shape_of(inputs[0]), channels)
        size = size_px or found_px
        if size is None:
            raise BundleError(f"{origin}: takes pictures of any size. Say which: img_size in config.json, or --size")
        if found_px not in (None, size):
            raise BundleError(f"{origin}: takes pictures of {found_px} px, not of {size} px")
        pictures = Pictures(
            size, _per_channel("mean", mean, found_channels), _per_channel("std", std, found_channels),
            found_channels, is_last,
        )  # fmt: skip
        place = _scores_at(origin, graph, classes)
        name = graph.output[place].name
        last = onnx_graph.producer(graph, name)
        if last is not None and last.op_type == "Sigmoid":
            raise BundleError(f"{origin}: scores each class on its own (Sigmoid); one of several classes is needed")
        is_softmax = last is not None and last.op_type == "Softmax"
        logits = last.input[0] if last is not None and is_softmax else name
        own = {one.name.removesuffix("_theirs"): one.name for one in graph.output}
        return cls(
            model, origin, pictures, batch == 1, place, is_softmax, logits,
            own.get(FEATURES) or _features(graph, logits), own.get(MAX_ACTIVATIONS),
        )  # fmt: skip

    def wrapped(self, kept: Sequence[int], good: int | None, *, features: bool, one_at_a_time: bool) -> bytes:
        """The network of a bundle.

        kept: places of the defect classes among its scores.  good: the place of "no defect", if there is one.
        features: whether to give them out.  one_at_a_time: run it in a Scan, one tile after the other.
        """
        model = onnx_graph.parse(self.model.SerializeToString(), self.origin)
        theirs, pictures = model.graph, self.pictures
        side = pictures.size_px
        entry = onnx_graph.own_inputs(theirs)[0].name
        gain = 1 / (255 * np.array(pictures.std, np.float64))
        shift = -np.array(pictures.mean, np.float64) / np.array(pictures.std, np.float64)
        weights = [
            weight("defectd_planes_shape", [-1, 1, side, side], INT64),
            weight("defectd_gain", gain.reshape(1, -1, 1, 1), FLOAT),
            weight("defectd_shift", shift.reshape(1, -1, 1, 1), FLOAT),
        ]
        before = [
            node("Cast", ["tiles"], ["defectd_float"], to=FLOAT),
            node("Reshape", ["defectd_float", "defectd_planes_shape"], ["defectd_planes"]),
            node("Mul", ["defectd_planes", "defectd_gain"], ["defectd_scaled"]),
            node("Add", ["defectd_scaled", "defectd_shift"], ["defectd_pictures"]),
        ]
        ready = "defectd_pictures"
        if pictures.is_last:
            before.append(node("Transpose", [ready], ["defectd_channels_last"], perm=[0, 2, 3, 1]))
            ready = "defectd_channels_last"
        wanted = [("defectd_scores", self.logits)]
        wanted += [(FEATURES, self.features)] if features and self.features else []
        wanted += [(MAX_ACTIVATIONS, self.max_activations)] if self.max_activations else []
        if one_at_a_time:
            middle = [self._scan(theirs, entry, ready, wanted)]
        else:
            middle = [
                node("Identity", [ready], [entry]),
                *theirs.node,
                *(node("Flatten", [theirs_name], [name], axis=1) for name, theirs_name in wanted),
            ]
            weights += theirs.initializer
        after = [node("Gather", ["defectd_scores", "defectd_classes"], ["logits"], axis=1)]
        weights.append(weight("defectd_classes", list(kept), INT64))
        if good is not None:
            after.append(node("Gather", ["defectd_scores", "defectd_good"], ["good"], axis=1))
            weights.append(weight("defectd_good", [good], INT64))
        outputs = [value("logits", FLOAT, ["N", len(kept)])]
        outputs += [value("good", FLOAT, ["N", 1])] if good is not None else []
        outputs += [value(name, FLOAT, ["N", f"{name}_columns"]) for name, _ in wanted[1:]]
        made = onnx_graph.graph(
            "imported", [*before, *middle, *after], [value("tiles", UINT8, ["N", side, side])], outputs, weights
        )
        model.graph.CopyFrom(made)
        return onnx_graph.written(model)

    def _scan(self, theirs: Any, entry: str, ready: str, wanted: Sequence[tuple[str, str]]) -> Any:
        """Their whole graph, once for each picture of `ready`."""
        side, channels = self.pictures.size_px, self.pictures.channels
        shape = [side, side, channels] if self.pictures.is_last else [channels, side, side]
        flat = weight("defectd_flat", [-1], INT64)
        body = onnx_graph.graph(
            "one_picture",
            [
                node("Reshape", ["defectd_one", "defectd_one_shape"], [entry]),
                *theirs.node,
                *(node("Reshape", [inside, "defectd_flat"], [f"defectd_row_{name}"]) for name, inside in wanted),
            ],
            [value("defectd_one", FLOAT, shape)],
            [value(f"defectd_row_{name}", FLOAT, [f"{name}_columns"]) for name, _ in wanted],
            [flat, weight("defectd_one_shape", [1, *shape], INT64), *theirs.initializer],
        )
        return node("Scan", [ready], [name for name, _ in wanted], body=body, num_scan_inputs=1)


def _free_names(graph: Any) -> None:
    """Rename their tensors that are called as ours are."""
    names = onnx_graph.tensor_names(graph)
    taken = [name for name in names if name in OWN_NAMES or name.startswith(OWN_PREFIX)]
    onnx_graph.rename(graph, {name: _unused(f"{name}_theirs", names) for name in taken})


def _unused(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    return name


def _layout(origin: str, shape: Sequence[int | str], channels: int | None) -> tuple[int | str, int, bool, int | None]:
    """(batch, channels, whether they come last, side in px if it is fixed)."""
    if len(shape) != 4:
        raise BundleError(
            f"{origin}: its input has {len(shape)} dimensions; pictures have 4: batch, channels, height, width"
        )
    batch, first, third, last = shape
    if isinstance(batch, int) and batch != 1:
        raise BundleError(f"{origin}: takes {batch} pictures at a time. Export it for one, or for any number")
    is_last = last in (1, 3) and first not in (1, 3)
    found = last if is_last else first
    count = found if isinstance(found, int) else channels or 3
    if count not in (1, 3) or channels not in (None, count):
        wanted = "1 or 3" if channels is None else str(channels)
        raise BundleError(f"{origin}: takes pictures of {count} channels, not of {wanted}")
    sides = {side for side in ((first, third) if is_last else (third, last)) if isinstance(side, int)}
    if len(sides) > 1:
        raise BundleError(f"{origin}: takes pictures of {' x '.join(map(str, sorted(sides)))} px; tiles are square")
    return batch, count, is_last, next(iter(sides), None)


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if len(found) == 3 and channels == 1:
        found = (sum(found) / 3,)
    if len(found) == 1:
        found *= channels
    if len(found) != channels or not np.isfinite(found).all() or (name == "std" and min(found) <= 0):
        raise BundleError(
            f"{name}: {list(values)}: give 1 or {channels} numbers" + (" above 0" if name == "std" else "")
        )
    return found


def _scores_at(origin: str, graph: Any, classes: int) -> int:
    """Which output has as many columns as there are classes; the first where none of them says."""
    shapes = [onnx_graph.shape_of(one) for one in graph.output]
    columns = [[size for size in shape[1:] if size != 1] for shape in shapes]
    for place, found in enumerate(columns):
        if found == [classes]:
            return place
    if all(any(isinstance(size, str) for size in found) or not found for found in columns):
        return 0
    told = "; ".join(f"{one.name} {list(shape)}" for one, shape in zip(graph.output, shapes, strict=True))
    raise BundleError(f"{origin}: no output with {classes} scores, one for each class: it has {told[:300]}")


def _features(graph: Any, logits: str) -> str | None:
    """What the last layer reads: the input of the linear layer, or of the 1x1 convolution, that makes the scores."""
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {one.output[0] for one in graph.node if one.op_type == "Constant"}
    name = logits
    for _ in range(MAX_STEPS):
        last = onnx_graph.producer(graph, name)
        if last is None:
            return None
        if last.op_type in RESHAPERS:
            name = last.input[0]
        elif last.op_type == "Add" and len(constant.intersection(last.input)) == 1:
            name = next(one for one in last.input if one not in constant)
        elif last.op_type == "Gemm" or (last.op_type in ("MatMul", "Conv") and last.input[1] in constant):
            return str(last.input[0])
        else:
            return None
    return None
