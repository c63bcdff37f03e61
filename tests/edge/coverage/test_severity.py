"""Severities of defects: the worst rule that applies."""

from edge import config
from edge.coverage.severity import Severities, SeverityRule, severity_of

RULES = [
    SeverityRule("major", frozenset(["scratches"]), min_length_mm=40.0),
    SeverityRule("critical", surface="top", min_length_mm=100.0, min_width_mm=50.0),
]


def test_worst_rule_that_applies_counts():
    """Class, surface and size decide; without a rule that applies a defect is minor."""
    assert severity_of(RULES, "scratches", 39.9, 10.0, "top") == "minor"
    assert severity_of(RULES, "scratches", 40.0, 10.0, "top") == "major"
    assert severity_of(RULES, "patches", 40.0, 10.0, "top") == "minor"
    assert severity_of(RULES, "scratches", 100.0, 50.0, "top") == "critical"
    assert severity_of(RULES, "scratches", 100.0, 50.0, "bottom") == "major"
    assert severity_of([], "scratches", 1e6) == "minor"


def test_unknown_size_and_surface_count_as_the_worst():
    """What is not known may be what the rule is about."""
    assert severity_of(RULES, "scratches", None, 10.0, "top") == "major"
    assert severity_of(RULES, "patches", None, None, None) == "critical"
    assert severity_of(RULES, "patches", 120.0, 60.0, None) == "critical"


def test_product_of_the_coil_decides():
    """The first product whose coils have such names has the rules; a coil of no product has none."""
    products = [
        {"product": "exposed", "coils": ["EX*"], "severity": [{"severity": "critical"}]},
        {"product": "plain", "coils": ["P?"], "severity": [{"severity": "major"}]},
    ]
    severities = Severities([config.Product.model_validate(one).model_dump(mode="json") for one in products])
    found = [severities.of(coil, "scratches") for coil in ("EX1", "P1", "P12", None)]
    assert found == ["critical", "major", "minor", "minor"]
