"""Splits: train, held_out, valid and test.  Near duplicates always stay in one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainer.data.pictures import Picture, order

SPLITS: Final = ("train", "valid", "test")
HELD_OUT: Final = 0.04
"""Share of each class that is held out of training, to fit the temperature."""
OWN_SPLIT: Final = 0.1
"""Share of each class for valid, and for test, where the folder has no such split."""


def split(
    given: dict[str, tuple[Picture, ...]], classes: tuple[str, ...]
) -> tuple[dict[str, tuple[Picture, ...]], tuple[str, ...]]:
    """(train, held_out, valid and test; notes).  Splits of the folder stay; missing classes are taken from train."""
    splits = {name: given.get(name, ()) for name in SPLITS}
    train, notes = splits["train"], []
    for name, where in (("test", 1.0), ("valid", 0.0)):
        lacking = {p.label for p in train} - {p.label for p in splits[name]}
        if not lacking:
            continue
        source = tuple(p for p in train if p.label in lacking)
        rest, taken = take_run(source, where, OWN_SPLIT)
        train = tuple(p for p in train if p.label not in lacking) + rest
        splits[name] = tuple(sorted((*splits[name], *taken), key=order))
        if name in given:
            names = ", ".join((*classes, "good")[label] for label in sorted(lacking))
            notes.append(f"{name} has no pictures of {names}: {len(taken)} are taken from train")
    rest, held_out = take_run(tuple(sorted(train, key=order)), 0.5, HELD_OUT)
    return {"train": rest, "held_out": held_out, "valid": splits["valid"], "test": splits["test"]}, tuple(notes)


def take_run(
    pictures: tuple[Picture, ...], where: float, share: float
) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Take a run of neighbouring file numbers out of each class, near duplicates together: (rest, taken).

    where: 0 takes the first files, 1 the last ones.
    """
    rest: list[Picture] = []
    taken: list[Picture] = []
    for label in sorted({p.label for p in pictures}):
        blocks = duplicate_blocks([p for p in pictures if p.label == label])
        size = sum(map(len, blocks))
        count = max(1, round(size * share)) if size > 1 else 0
        start, passed = round((size - count) * where), 0
        chosen: list[int] = []
        for n, block in enumerate(blocks):
            so_far = sum(len(blocks[i]) for i in chosen)
            if passed + len(block) > start and so_far < count and so_far + len(block) <= 2 * count:
                chosen.append(n)
            passed += len(block)
        if count and not chosen:  # every block in reach is too large
            smallest = min(range(len(blocks)), key=lambda n: len(blocks[n]))
            chosen = [smallest] if 2 * len(blocks[smallest]) <= size else []
        for n, block in enumerate(blocks):
            (taken if n in chosen else rest).extend(block)
    # Near duplicates with different labels stay together as well.
    kept = {(p.group, p.label) for p in rest if p.group >= 0}
    back = {p.group for p in taken if any(g == p.group and label != p.label for g, label in kept)}
    rest += [p for p in taken if p.group in back]
    return tuple(sorted(rest, key=order)), tuple(p for p in taken if p.group not in back)


def duplicate_blocks(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Groups of near duplicates, in the order of each group's first picture.

    If all pictures are near duplicates of each other, every picture is a block of its own.
    """
    blocks: dict[tuple[int, int], list[Picture]] = {}
    for place, picture in enumerate(sorted(pictures, key=order)):
        key = (picture.group, 0) if picture.group >= 0 else (-1, place)
        blocks.setdefault(key, []).append(picture)
    return list(blocks.values()) if len(blocks) > 1 else [[p] for block in blocks.values() for p in block]
