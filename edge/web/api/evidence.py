"""Pictures of defects, and tiles: a list with filters, and the pictures themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, cast

from edge.errors import EvidenceError
from edge.evidence import archive, labels
from edge.evidence.archive import KINDS, Kind, Named
from edge.evidence.label_queue import candidate_of
from edge.evidence.shelf import Shelf, Wanted, shelf
from edge.web.labelling import Labelling
from edge.web.refusal import Refusal
from edge.web.route import Page, Request, Response

SCHEMA: Final = "defectd.api.evidence/1"
LIMIT: Final = 60
MAX_LIMIT: Final = 200
FOR_EVER: Final = "private, max-age=31536000, immutable"
"""The hash in its name says what a picture is."""


async def pictures(page: Page, request: Request) -> Response:
    """Pictures, newest first.

    A random tile that nobody has labelled appears without the verdict of the model, and not under a filter by class:
    who labels it later must not have seen it.
    """
    kind = request.choice("kind", KINDS)
    wanted = Wanted(
        kinds=KINDS if kind is None else (cast("Kind", kind),),
        camera=request.text("camera"),
        class_name=request.text("class"),
        coil=request.text("coil"),
        start=request.text("from"),
        end=request.text("to"),
        event_id=request.text("event_id"),
    )
    limit = request.whole("limit", low=1, high=MAX_LIMIT) or LIMIT
    before = request.whole("before", low=0, high=10**10)
    try:
        items, found = await page.work.run(_listed, page, wanted, limit, before)
    except EvidenceError as error:
        raise refused(error) from None
    return Response.json({"schema": SCHEMA, "pictures": items, "before": found.before})


def _listed(page: Page, wanted: Wanted, limit: int, before: int | None) -> tuple[list[dict[str, Any]], Shelf]:
    found = shelf(page.settings.evidence, wanted, limit, before)
    blind = {named.path for named, _ in found.pictures if page.labelling.queue.is_blind(named.path)}
    items = [
        _item(page.labelling, named, facts, is_blind=named.path in blind)
        for named, facts in found.pictures
        if not (wanted.reads_verdict and named.path in blind)
    ]
    return items, found


def _item(labelling: Labelling, named: Named, facts: dict[str, Any], *, is_blind: bool) -> dict[str, Any]:
    label = labelling.store.of(named.path)
    return {
        **candidate_of(named, facts).as_json(blind=is_blind),
        "number": named.number,
        "reason": facts.get("reason"),
        "shadow": _said(facts.get("shadow")),
        "label": None if label is None else {"label": label.label, "by": label.by, "time": label.time},
    }


def _said(shadow: Any) -> dict[str, Any] | None:
    """What the shadow model says of a tile about which it disagrees."""
    if not isinstance(shadow, dict):
        return None
    scores = shadow.get("scores")
    ranked = sorted(scores.items(), key=lambda one: -one[1])[:3] if isinstance(scores, dict) else ()
    return {
        "model": " ".join(str(shadow[name]) for name in ("name", "version") if shadow.get(name)),
        "decided": shadow.get("label"),
        "scores": [{"class": name, "p": p} for name, p in ranked],
    }


def described(page: Page, path: str) -> dict[str, Any] | None:
    """What a list would show of the picture of an event; None for one that was deleted.  Reads its file."""
    found = archive.named(path)
    try:
        facts = {} if found is None else archive.facts_at(page.settings.evidence, path)
    except EvidenceError:
        return None
    return _item(page.labelling, found, facts, is_blind=False) if found is not None and facts else None


async def picture(page: Page, request: Request) -> Response:
    """One picture, without the facts in its comment.  A labelled one is there after the archive has deleted it."""
    path = f"{request.params['kind']}/{request.params['name']}.jpg"
    try:
        jpeg = await page.work.run(_read, page, path)
    except EvidenceError as error:
        raise refused(error) from None
    return Response(content_type="image/jpeg", body=jpeg, headers={"Cache-Control": FOR_EVER})


def _read(page: Page, path: str) -> bytes:
    try:
        data = archive.read(page.settings.evidence, path)
    except EvidenceError as error:
        label = page.labelling.store.of(path) if error.cause == "gone" else None
        if label is None:
            raise
        data = labels.picture(page.settings.labels, label)
    return archive.without_facts(data)


REFUSALS: Final = {
    "path": (HTTPStatus.NOT_FOUND, "There is no such picture"),
    "gone": (HTTPStatus.NOT_FOUND, "The archive deletes the oldest pictures: raise evidence.max_mb"),
    "label": (HTTPStatus.BAD_REQUEST, "Choose a class of the model, good or unclear"),
    "labels_full": (HTTPStatus.INSUFFICIENT_STORAGE, ""),
    "disk": (HTTPStatus.INSUFFICIENT_STORAGE, "Look at the free space and the rights of that folder"),
}
"""By cause of an error: status, and what the person can do."""


def refused(error: EvidenceError) -> Refusal:
    """The refusal for an error of the archive or of the labels."""
    status, remedy = REFUSALS.get(error.cause, (HTTPStatus.NOT_FOUND, ""))
    return Refusal(status, error.cause, str(error), remedy)
