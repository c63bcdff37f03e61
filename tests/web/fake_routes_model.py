"""The answers of the fake node about models: the shipped card, two installed bundles, an upload that is checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from fake_node import stamp

CARD = Path(__file__).parents[2] / "edge" / "model" / "builtin" / "card.json"
DIGESTS = ("4f" * 32, "a1" * 32)


def about(node: Any, request: Any) -> dict[str, Any]:
    content = CARD.read_bytes()
    card = json.loads(content)
    digest = request.get_query_argument("digest", hashlib.sha256(content).hexdigest())
    installed = [
        {"digest": DIGESTS[0], "name": "student", "version": "0.4", "bytes": 691_200, "installed": stamp(time.time())},
        {
            "digest": DIGESTS[1],
            "name": "student",
            "version": "0.2",
            "bytes": 688_400,
            "installed": stamp(time.time() - 9e5),
        },
    ]
    return {
        "schema": "defectd.api.model/1",
        "digest": digest,
        "card": {name: value for name, value in card.items() if name not in ("selftest", "variants")},
        "rollout": {
            "model": node.state()["model"],
            "current": DIGESTS[0],
            "previous": "configured",
            "on_trial": True,
            "rejected": {DIGESTS[1]: "camera top: unsure frames: 21.0% of 1200, with the previous model 4.1% of 1500"},
            "installed": installed,
        },
    }


async def install(node: Any, request: Any) -> dict[str, Any] | None:
    await asyncio.sleep(0.8)
    if b"broken" in request.request.body:
        reason = "the file: student.onnx is damaged: sha256 90ab..., in the card 8152.... Export or copy it again"
        return request.refuse(409, "failed", reason)
    node.posted.append(("/model/install", len(request.request.body)))
    return {
        "schema": "defectd.api.model-install/1",
        "digest": DIGESTS[0],
        "name": "student",
        "version": "0.4",
        "problem": None,
    }


ROUTES = {("GET", "/model"): about, ("POST", "/model/install"): install}
