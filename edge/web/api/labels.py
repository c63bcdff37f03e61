"""Labels: what to look at next, a label, its undo, and what the labels are worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from edge.calibration.binomial import interval
from edge.errors import EvidenceError
from edge.evidence.label_queue import BLIND_EVERY, ORDERS, Order
from edge.evidence.label_worth import worth
from edge.evidence.labels import (
    GOOD,
    MAX_BATCH,
    MAX_CLASSES,
    NO_CLASS,
    UNCLEAR,
    Change,
    Label,
    NewLabel,
    Person,
    is_new_class,
)
from edge.web.api.evidence import refused
from edge.web.labelling import thresholds_of
from edge.web.refusal import bad_value
from edge.web.route import Page, Request, Response

NEXT_SCHEMA: Final = "defectd.api.labels-next/1"
RECENT_SCHEMA: Final = "defectd.api.labels/1"
GIVEN_SCHEMA: Final = "defectd.api.labels-given/1"
UNDONE_SCHEMA: Final = "defectd.api.labels-undone/1"
WORTH_SCHEMA: Final = "defectd.api.labels-worth/1"
MAX_NEXT: Final = 100
MAX_SKIP: Final = 100
_HASH: Final = re.compile(r"[0-9a-f]{16}")

LABELS: Final = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        "labels": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_BATCH,
            "items": {
                "type": "object",
                "required": ["evidence", "label"],
                "additionalProperties": False,
                "properties": {
                    "evidence": {"type": "string", "maxLength": 120},
                    "label": {"type": "string", "maxLength": 63},
                    "how": {"enum": ["single", "grid"]},
                    "new": {"type": "boolean"},
                },
            },
        }
    },
}
"""Body of a POST of labels.  new: the label is the name of a class that nobody has used before."""
UNDO: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"count": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH}},
}


async def following(page: Page, request: Request) -> Response:
    """The pictures that come next.  A blind one is sent without anything that the model said of it."""
    order = cast("Order", request.choice("order", ORDERS) or "unsure")
    limit = request.whole("limit", low=1, high=MAX_NEXT) or 12
    skip = (request.text("skip", max_length=17 * MAX_SKIP) or "").split(",")
    if any(one and not _HASH.fullmatch(one) for one in skip):
        raise bad_value("skip should be hashes of pictures, with commas between them")
    guess, camera = request.text("guess"), request.text("camera")
    state = await _state(page)
    queue = page.labelling.queue
    try:
        classes = await classes_of(page, state, camera)
        limits = thresholds_of(state, classes)
        batch = await page.work.run(queue.next, order, limit, thresholds=limits, guess=guess, camera=camera, skip=skip)
    except EvidenceError as error:
        raise refused(error) from None
    # an audit tile outside a grid is blind: the queue leaves out those whose guess was shown
    items = [one.as_json(blind=one.origin.kind == "audit") for one in batch.items]
    return Response.json(
        {
            "schema": NEXT_SCHEMA,
            "order": order,
            "items": items,
            "left": batch.left,
            "guesses": batch.guesses,
            "classes": classes,
            "blind_every": BLIND_EVERY,
            "thresholds": limits,
        }
    )


async def recent(page: Page, request: Request) -> Response:
    """The newest labels and undos, newest first."""
    limit = request.whole("limit", low=1, high=MAX_BATCH) or 30
    store = page.labelling.store
    try:
        changes = await page.work.run(store.recent, limit)
        count = len(await page.work.run(store.labelled))
    except EvidenceError as error:
        raise refused(error) from None
    return Response.json(
        {
            "schema": RECENT_SCHEMA,
            "changes": [_change_json(one) for one in changes],
            "labelled": count,
            "damaged": store.damaged,
        }
    )


async def give(page: Page, request: Request) -> Response:
    """Store labels.  The answer reveals what the model said, also of the blind ones."""
    rows = request.json()["labels"]
    given = [NewLabel(one["evidence"], one["label"], one.get("how", "single")) for one in rows]
    person, labelling = Person(request.user.name, request.user.role), page.labelling
    try:
        known = await classes_of(page, await _state(page))
        _check_names(known, [(one["label"], one.get("new", False)) for one in rows])
        before = await page.work.run(labelling.store.digest)
        labels = await page.work.run(labelling.store.add, given, person)
        after = await page.work.run(labelling.store.digest)
    except EvidenceError as error:
        raise refused(error) from None
    if labels:
        labelling.note(person, labels=len(labels), before=before, after=after)
        labelling.report_soon(page.commands.ask)
    stored = {one.origin.evidence for one in labels}
    left_out = [one.evidence for one in given if one.evidence not in stored]
    return Response.json({"schema": GIVEN_SCHEMA, "labels": [_label_json(one) for one in labels], "left_out": left_out})


async def undo(page: Page, request: Request) -> Response:
    """Take back the newest labels of this person."""
    person, labelling = Person(request.user.name, request.user.role), page.labelling
    try:
        before = await page.work.run(labelling.store.digest)
        taken = await page.work.run(labelling.store.undo, person, request.json().get("count", 1))
        after = await page.work.run(labelling.store.digest)
    except EvidenceError as error:
        raise refused(error) from None
    if taken:
        labelling.note(person, undone=len(taken), before=before, after=after)
        labelling.report_soon(page.commands.ask)
    return Response.json({"schema": UNDONE_SCHEMA, "undone": [_label_json(one) for one in taken]})


async def value(page: Page, _request: Request) -> Response:
    """What the labels say about the model: recall of each class with its interval, false alarms, what to label next."""
    state = await _state(page)
    labelling = page.labelling
    try:
        classes = await classes_of(page, state)
        labels = await page.work.run(labelling.store.all)
        per_hour = await page.work.run(labelling.queue.defects_per_hour)
    except EvidenceError as error:
        raise refused(error) from None
    found = await page.work.run(
        worth,
        labels,
        classes,
        interval,
        thresholds=thresholds_of(state, classes),
        models=_models(state),
        defects_per_hour=per_hour,
    )
    return Response.json({"schema": WORTH_SCHEMA, **found.as_json()})


async def classes_of(page: Page, state: Mapping[str, Any] | None, camera: str | None = None) -> list[str]:
    """What a defect may be called: as the cameras call it, then what people have called it beyond that.

    A camera that was taught classes has those, any other the classes of the active model; without a daemon those that
    the page was started with.  camera: of this one alone.  Raises EvidenceError.
    """
    own = ((state or {}).get("model") or {}).get("classes") or page.settings.classes
    cameras = [one for one in (state or {}).get("cameras") or () if camera in (None, one.get("name"))]
    used = [(one.get("taught") or {}).get("classes") or own for one in cameras] or [own]
    added = await page.work.run(page.labelling.store.classes)
    return list(dict.fromkeys(str(name) for names in (*used, added) for name in names))


def _models(state: Mapping[str, Any] | None) -> dict[str, str]:
    """What names the defects of each camera, as the facts of its pictures have it."""
    bundle = ((state or {}).get("model") or {}).get("bundle")
    found = {}
    for camera in (state or {}).get("cameras") or () if bundle else ():
        taught = camera.get("taught")
        found[str(camera["name"])] = str(bundle) if taught is None else f"{bundle}+{taught['sha256']}"
    return found


def _check_names(known: Sequence[str], given: Sequence[tuple[str, bool]]) -> None:
    """Raises Refusal for a label that is not known, unless it is meant as a new class and can be one."""
    allowed = {*known, GOOD, UNCLEAR}
    for name, is_new in given:
        if name in allowed or not known:
            continue
        if not is_new:
            raise bad_value(f"label should be one of: {', '.join((*known, GOOD, UNCLEAR))}; or a new class, with `new`")
        if not is_new_class(name):
            rule = "up to 63 small letters, digits, dots, dashes and underscores, the first a letter or a digit"
            raise bad_value(
                f"{name[:80]!r} cannot be the name of a class: {rule}, and not {', '.join(sorted(NO_CLASS))}"
            )
        if len(allowed) >= MAX_CLASSES:
            raise bad_value(f"{MAX_CLASSES} classes are the maximum: use one of those that are there")
        allowed.add(name)


async def _state(page: Page) -> Mapping[str, Any] | None:
    """The newest state of the daemon, without waiting for one."""
    found = await page.feed.state(0.0)
    return None if found is None else found[2]


def _change_json(one: Change) -> dict[str, Any]:
    return {**_label_json(one.label), "before": one.before, "undone": one.undone}


def _label_json(one: Label) -> dict[str, Any]:
    origin = one.origin
    return {
        "number": one.number,
        "evidence": origin.evidence,
        "label": one.label,
        "by": one.by,
        "time": one.time,
        "how": one.how,
        "blind": one.blind,
        "guess": origin.guess,
        "decided": origin.decided,
        "confidence": origin.confidence,
        "camera": origin.camera,
        "kind": origin.kind,
    }
