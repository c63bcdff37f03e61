"""An outbox in a folder of the test, the events that report its losses, and damage to its file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edge.delivery.outbox.rows import Draft, Loss
from edge.delivery.outbox.store import Outbox
from fakes.clock import FakeClock


def open_outbox(folder: Path, **changes: Any) -> Outbox:
    """The outbox `outbox.db` in the folder."""
    options = {"max_rows": 1000, "keep_delivered": 50, "durability": "full", "clock": FakeClock(), **changes}
    return Outbox(folder / "outbox.db", **options)


def open_reporting(folder: Path, **changes: Any) -> Outbox:
    """An outbox that reports its losses as events."""
    box = open_outbox(folder, **changes)
    box.report_losses_by(loss_draft)
    return box


def loss_draft(loss: Loss) -> Draft:
    detail = {"first_seq": loss.first_seq, "last_seq": loss.last_seq, "count": loss.count, "cause": loss.cause}
    return Draft("n/event", {"event_id": "loss", "seq": 0, "type": "events.dropped", "detail": detail}, "loss", "alarm")


def reported(box: Outbox) -> list[dict[str, Any]]:
    """The details of the events.dropped events that wait, oldest first."""
    payloads = [json.loads(row.payload) for row in box.peek(0, 10_000)]
    return [payload["detail"] for payload in payloads if payload.get("type") == "events.dropped"]


def sized(number: int, size_bytes: int, severity: Any = "info") -> Draft:
    """An event of at least that size."""
    return Draft("t", {"event_id": f"e{number}", "seq": 0, "fill": "x" * size_bytes}, f"e{number}", severity)


def counted_bytes(box: Outbox) -> int:
    """Payload of the undelivered events, counted by SQLite."""
    query = "SELECT coalesce(sum(length(payload)), 0) FROM event WHERE delivered_ns IS NULL"
    return int(box._db.execute(query).fetchone()[0])


def known_bytes(box: Outbox) -> int:
    """Payload of the undelivered events, as the outbox keeps count of it."""
    return box._totals.waiting_bytes


def damage(path: Path, offset: int, length: int) -> None:
    """Overwrite a part of the file with noise."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(length))
