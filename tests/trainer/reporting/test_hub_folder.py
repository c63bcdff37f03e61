"""A published folder serves other people's code, and comes back as a bundle with the same verdicts."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edge.camera.sources.simulator import CLASSES
from edge.cli import main as defectd
from edge.model.bundle import FP32, load, selftest_tiles
from edge.model.classifier import Classifier
from edge.vision.tiles import shrink
from trainer.cli.commands import main
from trainer.compression import hub_network

SNIPPET = """
import json

import numpy as np
import onnxruntime as ort
from huggingface_hub import hf_hub_download
from PIL import Image

with open(hf_hub_download(repo_id=REPO, filename="config.json")) as file:
    cfg = json.load(file)
network = hf_hub_download(repo_id=cfg["repo_id"], filename=cfg["onnx_file"])
session = ort.InferenceSession(network, providers=cfg["providers"])
image = Image.open(PICTURE).convert("RGB").resize((cfg["img_size"], cfg["img_size"]))
x = np.asarray(image, np.float32) / 255.0
x = (x - np.array(cfg["mean"])) / np.array(cfg["std"])
x = x.transpose(2, 0, 1)[None].astype(np.float32)
logits = session.run(None, {session.get_inputs()[0].name: x})[0]
p = np.exp(logits - logits.max(axis=1, keepdims=True))
p = p / p.sum(axis=1, keepdims=True)
answer = cfg["class_names"][int(np.argmax(logits, axis=1)[0])], p[0]
"""
"""What people write who use such a repository."""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The shipped model, published to a folder."""
    folder = tmp_path_factory.mktemp("hub") / "acme" / "steel"
    done = CliRunner().invoke(main, ["publish", "builtin", "--to", str(folder), "--repo", "acme/steel"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw):
    """Files of 200x200 px, two of each class."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in CLASSES:
        for number, picture in enumerate(draw(name, 2, 11)):
            cv2.imwrite(str(folder / f"{name}-{number}.png"), picture)
    return sorted(folder.iterdir())


def stand_in(root: Path) -> types.ModuleType:
    """A module `huggingface_hub` whose hub is a folder."""
    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = lambda repo_id, filename: str(root / repo_id / filename)  # type: ignore[attr-defined]
    return module


def test_the_usual_snippet_runs_on_the_folder(published, pictures, monkeypatch):
    """It names the class that the daemon's network names, `good` included, for every picture."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in(published.parents[1]))
    classifier = Classifier(load("builtin"))
    names = [*CLASSES, "good"]
    for path in pictures:
        space = {"REPO": "acme/steel", "PICTURE": str(path)}
        exec(SNIPPET, space)
        tile = shrink(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 100, 100)
        scores = classifier.score(tile[None])
        wanted = np.concatenate((scores.logits, scores.good), 1)[0]
        name, probabilities = space["answer"]
        assert name == names[wanted.argmax()]
        assert np.abs(np.log(probabilities) - (wanted - wanted.max()))[wanted.argmax()] < 0.6
        assert np.ptp(np.log(probabilities) - wanted) < 1e-3


def test_snippet_of_the_readme_runs_too(published, pictures, monkeypatch, tmp_path, capsys):
    """The code that the README shows prints a class and a confidence."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in(published.parents[1]))
    code = (published / "README.md").read_text().split("```python\n")[1].split("```")[0]
    cv2.imwrite(str(tmp_path / "picture.bmp"), cv2.imread(str(pictures[0])))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    name, confidence = capsys.readouterr().out.split()
    assert name in (*CLASSES, "good")
    assert 0 < float(confidence) <= 1


def test_readme_has_the_metadata_block_figures_and_limits(published):
    """The block is YAML that the hub reads; figures have n and an interval."""
    _, block, text = (published / "README.md").read_text().split("---\n", 2)
    known = yaml.safe_load(block)
    assert (known["library_name"], known["pipeline_tag"]) == ("onnx", "image-classification")
    assert known["model-index"][0]["results"][0]["metrics"][0]["type"] == "accuracy"
    assert "license" not in known
    assert "| 1800 | 1790 | 99.44 % | 99.0 to 99.7 |" in text
    assert "## Limits" in text
    settings = json.loads((published / "config.json").read_text())
    assert {"repo_id", "onnx_file", "img_size", "mean", "std", "class_names", "providers"} <= set(settings)


def test_round_trip_gives_the_same_verdicts(published, pictures, tmp_path):
    """Published, imported, installed: logits within 1e-3, and `inspect` says the same about every picture."""
    back = tmp_path / "back.zip"
    state = tmp_path / "config.yaml"
    state.write_text(json.dumps({
        "node": "n", "state_dir": str(tmp_path / "var"), "model": {"precision": "fp32"},
        "cameras": [{"name": "top", "source": "strip:", "budget_ms": 2000}],
    }))  # fmt: skip
    for words in (
        ["model", "import", str(published), "-o", str(back)],
        ["model", "install", str(back), "-c", str(state), "--allow-unsigned"],
    ):
        done = CliRunner().invoke(defectd, words)
        assert done.exit_code == 0, done.output
    tiles = selftest_tiles(9, 6, 200)
    small = np.stack([shrink(tile, 100, 100) for tile in tiles])
    ours, theirs = Classifier(load("builtin"), network=FP32).score(small), Classifier(load(back)).score(tiles)
    for one, other in (
        (ours.logits, theirs.logits), (ours.good, theirs.good), (ours.features, theirs.features),
        (ours.max_activations, theirs.max_activations),
    ):  # fmt: skip
        assert np.abs(one - other).max() < 1e-3

    def verdicts(*options: str) -> list[tuple[str, list[str]]]:
        done = CliRunner().invoke(defectd, ["inspect", "--json", *options, *map(str, pictures)])
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [(one["state"], [region["class"] for region in one["regions"]]) for one in found]

    plain = tmp_path / "plain.yaml"
    plain.write_text(state.read_text().replace(str(tmp_path / "var"), str(tmp_path / "plain")))
    assert verdicts("-c", str(state)) == verdicts("-c", str(plain))


def test_area_weights_are_those_of_opencv():
    """For a whole factor and for one that is not."""
    picture = selftest_tiles(2, 1, 60)[0]
    for side in (30, 20, 44):
        weights = hub_network.area_weights(60, side)
        found = weights @ picture.astype(np.float32) @ weights.T
        assert np.abs(found - shrink(picture, side, side)).max() <= 0.5 + 1e-3


def test_upload_needs_the_library_and_says_so(published, tmp_path, monkeypatch):
    """Without it, one sentence; with it, repository and files are sent; its errors become messages."""
    words = ["publish", "builtin", "--to", str(tmp_path), "--upload"]
    assert "--upload needs --repo" in CliRunner().invoke(main, words).output
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = CliRunner().invoke(main, [*words, "--repo", "acme/steel"])
    assert (done.exit_code, "pip install huggingface_hub" in done.output) == (1, True)

    sent = []

    class Api:
        def create_repo(self, repo, **options):
            sent.append((repo, options["private"]))

        def upload_folder(self, *, allow_patterns, **_options):
            if len(sent) > 1:
                raise OSError("no network")
            sent.append(sorted(allow_patterns))

    module = types.ModuleType("huggingface_hub")
    module.HfApi = Api  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    done = CliRunner().invoke(main, [*words, "--repo", "acme/steel", "--private"])
    assert done.exit_code == 0, done.output
    assert sent == [("acme/steel", True), ["README.md", "bundle.zip", "config.json", "model.onnx"]]
    done = CliRunner().invoke(main, [*words, "--repo", "acme/steel"])
    assert (done.exit_code, "not uploaded to acme/steel: no network" in done.output) == (1, True)
