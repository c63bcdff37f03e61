"""A subset of the pictures, for quick trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from trainer.data.hashes import hash_of
from trainer.data.index import Index
from trainer.data.pictures import Picture


def subset(index: Index, max_per_class: int) -> Index:
    """About `max_per_class` pictures of each class, evenly spaced by file number; the splits keep their shares."""
    sizes = Counter(p.label for p in index.pictures)
    splits = {}
    for split, pictures in index.splits.items():
        kept: list[Picture] = []
        for label, size in sorted(sizes.items()):
            own = [p for p in pictures if p.label == label]
            count = min(len(own), max(2 if split == "train" else 1, round(len(own) * min(1.0, max_per_class / size))))
            kept += [own[i * len(own) // count] for i in range(count)]
        splits[split] = tuple(kept)
    return replace(index, splits=splits, sha256=hash_of(index.sha256, str(max_per_class)))
