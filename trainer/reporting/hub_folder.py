"""A folder in the form of a Hugging Face model repository: README.md, config.json, the network, the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from edge.model.bundle import Bundle, save, selftest_tiles
from edge.model.classifier import Classifier, foreign
from edge.model.hub import BUNDLE_FILE, CONFIG_FILE
from trainer.compression import hub_network
from trainer.recipe import TrainingError
from trainer.reporting.report import DEFECT_FREE, OWN_SURFACE, SCOPE
from trainer.run_folder import write

README, NETWORK = "README.md", "model.onnx"
PROVIDERS: Final = ("CPUExecutionProvider",)
TOLERANCE: Final = 1e-3
CHECKED: Final = 4
"""Pictures on which the network in the folder is compared with the bundle."""
FIGURES: Final = (
    "Intervals are exact (Clopper and Pearson). Rows over folds evaluate networks made in the same way, each on the "
    "pictures that its fold holds out; the others evaluate the files in the bundle."
)
SNIPPET: Final = """\
import json
import numpy as np, onnxruntime as ort
from huggingface_hub import hf_hub_download
from PIL import Image

with open(hf_hub_download("{repo}", "config.json")) as file:
    cfg = json.load(file)
session = ort.InferenceSession(hf_hub_download("{repo}", cfg["onnx_file"]), providers=cfg["providers"])
image = Image.open("picture.bmp").convert("RGB").resize((cfg["img_size"], cfg["img_size"]))
x = (np.asarray(image, np.float32) / 255 - np.array(cfg["mean"])) / np.array(cfg["std"])
scores = session.run(None, {{session.get_inputs()[0].name: x.transpose(2, 0, 1)[None].astype(np.float32)}})[0][0]
p = np.exp((scores - scores.max()) * cfg["sharpness"] / cfg["temperature"])
print(cfg["class_names"][scores.argmax()], (p / p.sum()).max())
"""


def write_folder(made: Bundle, folder: Path, *, repo: str, licence: str | None = None) -> tuple[str, ...]:
    """Write the folder; returns the names of its files.  Raises TrainingError.

    repo: OWNER/NAME.  licence: an identifier of the hub, such as `apache-2.0`; None: the README says none.
    """
    network = hub_network.hub_network(made)
    _check(made, network)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / NETWORK, network)
    save(made, folder / BUNDLE_FILE)
    write(folder / CONFIG_FILE, json.dumps(config(made, repo), indent=2) + "\n")
    write(folder / README, readme(made, repo, licence))
    return (README, CONFIG_FILE, NETWORK, BUNDLE_FILE)


def config(made: Bundle, repo: str) -> dict[str, Any]:
    """config.json.  temperature, sharpness and tile_px are for `defectd model import`; others need not know them."""
    return {
        "repo_id": repo,
        "onnx_file": NETWORK,
        "img_size": hub_network.img_size(made),
        "mean": list(hub_network.MEAN),
        "std": list(hub_network.STD),
        "class_names": list(hub_network.class_names(made)),
        "providers": list(PROVIDERS),
        "temperature": made.card.temperature,
        "sharpness": made.card.sharpness,
        "tile_px": made.card.tile_px,
    }


def readme(made: Bundle, repo: str, licence: str | None) -> str:
    """README.md: the metadata block of the hub, figures with n and intervals, how to use it, limits."""
    card = made.card
    sizes = ", ".join(f"`{name}` {len(content):,} bytes" for name, content in made.networks.items())
    good = (
        "The last score, `good`, is defect-free surface." if card.has_good
        else "There is no score for defect-free surface."
    )  # fmt: skip
    rows = accuracy_rows(made)
    table = "\n".join(
        ["| split | network | n | correct | accuracy | 95 % interval |", "| --- | --- | ---: | ---: | ---: | ---: |"]
        + [
            f"| {split} | {network} | {n} | {right} | {100 * right / n:.2f} % | {100 * low:.1f} to {100 * high:.1f} |"
            for split, network, n, right, low, high in rows
        ]
    )
    limits = [SCOPE, OWN_SURFACE, *([DEFECT_FREE] if card.has_good else []), *_corruption_limit(made)]
    note = card.training.get("final")
    summary = (
        f"Classifies gray tiles of {card.tile_px}x{card.tile_px} px of a surface into {len(card.classes)} kinds of "
        f"defects: {', '.join(card.classes)}. {good} Made by `defectd-train`; {sizes} in the bundle."
    )
    size = hub_network.img_size(made)
    contract = (
        f"`{NETWORK}` takes (N, 3, {size}, {size}) float32 as `{CONFIG_FILE}` describes it, turns it into gray and "
        "shrinks it as the daemon does. Multiply the scores by `sharpness` / `temperature` before the softmax to get "
        "the confidences of the daemon."
    )
    parts = [
        f"# {card.name} {card.version}",
        summary,
        "## Data",
        f"{str(card.training.get('data', 'not stated')).rstrip('.')}.",
        "## Figures",
        *([str(note)] if note else []),
        f"{table}\n\n{FIGURES}" if rows else "Nothing was measured on pictures.",
        "## Use",
        f"With `defectd`, which keeps int8 and the signature:\n\n    defectd model install hf://{repo}",
        f"With onnxruntime alone:\n\n```python\n{SNIPPET.format(repo=repo)}```",
        contract,
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
        *([] if licence else ["No licence of the model is stated here."]),
    ]
    block = yaml.safe_dump(_metadata(made, licence, rows), sort_keys=False, allow_unicode=True)
    return f"---\n{block}---\n\n" + "\n\n".join(parts) + "\n"


def accuracy_rows(made: Bundle) -> list[tuple[str, str, int, int, float, float]]:
    """(split, network, n, right, low, high) of the card, most pictures first."""
    found = made.card.metrics.get("accuracy", {})
    rows = [
        (split, network, int(one["n"]), int(one["right"]), *map(float, one["interval_95"]))
        for split, networks in found.items()
        for network, one in networks.items()
        if one.get("n")
    ]
    return sorted(rows, key=lambda row: -row[2])  # type: ignore[return-value]


def _metadata(made: Bundle, licence: str | None, rows: list[tuple[str, str, int, int, float, float]]) -> dict[str, Any]:
    """What the hub reads: https://huggingface.co/docs/hub/model-cards."""
    block: dict[str, Any] = {
        **({"license": licence} if licence else {}),
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["defect-detection", "steel", "surface-inspection", "onnx", "defectd"],
        "metrics": ["accuracy"],
    }
    if rows:
        block["model-index"] = [
            {
                "name": made.card.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": f"{split} (n = {n})", "type": "pictures"},
                        "metrics": [{"type": "accuracy", "value": round(right / n, 5), "name": f"accuracy, {network}"}],
                    }
                    for split, network, n, right, _low, _high in rows
                ],
            }
        ]
    return block


def _corruption_limit(made: Bundle) -> list[str]:
    """The worst corruption of the first split that was corrupted."""
    for split, networks in made.card.metrics.get("robustness", {}).items():
        for network, one in networks.items():
            if one.get("worst"):
                right, n = one["right"][one["worst"]], one["n_each"]
                return [f"Its worst corruption is {one['worst']}: {right} of {n} correct ({network}, {split})."]
    return []


def _check(made: Bundle, network: bytes) -> None:
    """Compare it with the bundle on generated pictures.  Raises TrainingError."""
    pictures = selftest_tiles(1, CHECKED, hub_network.img_size(made))
    scores = Classifier(made).score(hub_network.tiles(made, pictures))
    wanted = scores.logits if scores.good is None else np.concatenate((scores.logits, scores.good), 1)
    found = foreign(network)(hub_network.normalised(pictures))[0]
    error = float(np.abs(found - wanted).max())
    if not error <= TOLERANCE:
        raise TrainingError(f"the network for the hub differs from the bundle by {error:.4g}: nothing was written")
