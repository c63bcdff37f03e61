"""How severe a defect is: by its class, its surface and its size, with the rules of the coil's product.

Pure Python without the configuration's models: processes that load none of them read the same rules as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Self, get_args

from edge.event import DefectSeverity

SEVERITIES: Final[tuple[DefectSeverity, ...]] = get_args(DefectSeverity)
"""From the least to the worst."""


@dataclass(frozen=True, slots=True)
class SeverityRule:
    """A rule of a product.  classes, surface: None: all of them."""

    severity: DefectSeverity
    classes: frozenset[str] | None = None
    surface: str | None = None
    min_length_mm: float = 0.0
    min_width_mm: float = 0.0

    @classmethod
    def from_json(cls, rule: Mapping[str, Any]) -> Self:
        """A row of `severity` in the configuration."""
        classes = rule.get("classes")
        return cls(
            rule["severity"],
            None if classes is None else frozenset(classes),
            rule.get("surface"),
            rule.get("min_length_mm", 0.0),
            rule.get("min_width_mm", 0.0),
        )


def severity_of(
    rules: Iterable[SeverityRule],
    class_name: str,
    length_mm: float | None = None,
    width_mm: float | None = None,
    surface: str | None = None,
) -> DefectSeverity:
    """The worst severity of the rules that apply; without one, minor.

    A size or a surface that is not known counts as one that the rule is about: not to know never makes a defect better.
    """
    worst = 0
    for rule in rules:
        if (
            (rule.classes is None or class_name in rule.classes)
            and (rule.surface is None or surface is None or rule.surface == surface)
            and (length_mm is None or length_mm >= rule.min_length_mm)
            and (width_mm is None or width_mm >= rule.min_width_mm)
        ):
            worst = max(worst, SEVERITIES.index(rule.severity))
    return SEVERITIES[worst]


@dataclass(frozen=True, slots=True)
class _ProductRules:
    coils: tuple[str, ...]
    rules: tuple[SeverityRule, ...]


class Severities:
    """The severity rules of all products.  Immutable; any thread."""

    def __init__(self, products: Sequence[Mapping[str, Any]] = ()) -> None:
        """products: the section `grading` of the configuration, as JSON."""
        self._products = tuple(
            _ProductRules(tuple(one["coils"]), tuple(SeverityRule.from_json(rule) for rule in one["severity"]))
            for one in products
        )

    def of(
        self,
        coil: str | None,
        class_name: str,
        length_mm: float | None = None,
        width_mm: float | None = None,
        surface: str | None = None,
    ) -> DefectSeverity:
        """The severity of a defect on this coil; None: no coil runs, or its name is unknown."""
        for product in self._products:
            if is_coil_of(product.coils, coil):
                return severity_of(product.rules, class_name, length_mm, width_mm, surface)
        return SEVERITIES[0]


def is_coil_of(patterns: Iterable[str], coil: str | None) -> bool:
    """Whether the name of a coil fits one of the patterns of a product."""
    return any(fnmatchcase(coil or "", pattern) for pattern in patterns)
