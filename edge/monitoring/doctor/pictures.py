"""Pictures of defects: whether there is room for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from edge import config
from edge.errors import EvidenceError
from edge.evidence import archive
from edge.monitoring.doctor.finding import Finding


def findings(settings: config.Config) -> Iterator[Finding]:
    """Whether pictures can be kept, and how long the quota lasts."""
    if not settings.evidence.enabled:
        return
    folder, limits = settings.evidence_dir, settings.evidence
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        remedy = "Give it to the user that runs defectd, or set evidence.dir; events go on without pictures"
        yield Finding("evidence", "bad", f"{there} may not be written", remedy)
        return
    try:
        kept = archive.pictures(folder)
    except EvidenceError as error:
        yield Finding("evidence", "bad", str(error), "Look at the folder, or set evidence.dir")
        return
    held = sum(stored.size_bytes for stored in kept)
    says = f"{len(kept)} pictures, {held >> 20} of {limits.max_mb} MiB, in {folder}"
    free = shutil.disk_usage(there).free
    if free < limits.min_free_mb << 20:
        remedy = "Make room, or lower evidence.min_free_mb: until then no pictures are kept, and old ones go"
        yield Finding("evidence", "warning", f"{says}; {free >> 20} MiB free", remedy)
    elif free + held < (limits.min_free_mb + limits.max_mb) << 20:
        remedy = "The disk will be full before the quota: lower evidence.max_mb"
        yield Finding("evidence", "warning", f"{says}; {free >> 20} MiB free", remedy)
    else:
        yield Finding("evidence", "good", says)
