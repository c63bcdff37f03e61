"""Evidence images: whether they can be stored, and whether the disk holds the quota."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from edge import config
from edge.errors import EvidenceError
from edge.evidence import archive
from edge.host.rights import nearest
from edge.monitoring.doctor.finding import Finding


def findings(settings: config.Config) -> Iterator[Finding]:
    """Nothing where evidence is off."""
    if not settings.evidence.enabled:
        return
    folder, limits = settings.evidence_dir, settings.evidence
    there = nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK):
        remedy = "Give it to the user that runs defectd, or set evidence.dir; events are published without images"
        yield Finding("evidence", "fail", f"{there} is not writable", remedy)
        return
    try:
        stored = archive.pictures(folder)
    except EvidenceError as error:
        yield Finding("evidence", "fail", str(error), "Repair the folder, or set evidence.dir")
        return
    used = sum(picture.size_bytes for picture in stored)
    says = f"{len(stored)} images, {used >> 20} of {limits.max_mb} MiB, in {folder}"
    free = shutil.disk_usage(there).free
    if free < limits.min_free_mb << 20:
        remedy = "Free disk space, or lower evidence.min_free_mb: until then no images are stored, and old ones go"
        yield Finding("evidence", "warning", f"{says}; {free >> 20} MiB free", remedy)
    elif free + used < (limits.min_free_mb + limits.max_mb) << 20:
        remedy = "The disk will be full before the quota: lower evidence.max_mb"
        yield Finding("evidence", "warning", f"{says}; {free >> 20} MiB free", remedy)
    else:
        yield Finding("evidence", "ok", says)
