"""One set of words: what the code and its documents no longer call things."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXEMPT = re.compile(r"^(CHANGELOG\.md|docs/decisions/|tests/test_words\.py|edge/web/static/vendor/)")
"""History keeps its words, and so do libraries."""

WORDS = {
    r"\bhand(s|ed|ing)? (it |them |everything )?over\b": "deliver",
    r"\b(is|are|was|were|be|been|being) told\b": "is reported",
    r"\b(goes|go|went|going) before\b": "override",
    r"\b(the|a|its|their|each|every|at|from|by|of) begins?\b|\bbegun\b": "start",
    r"\bsound[- ](surface|tile|frame|crop|steel|picture)s?\b": "defect-free",
    r"\bflaws?\b": "defect",
    r"\b(in|of|leaves? more in) doubt\b": "unsure",
    r"\bh(o|e)lds? [^.\n]{0,30}\bagainst\b": "compare with",
    r"\blooks? on\b": "runs in shadow mode",
    r"\bcosts? (it |them )?deadlines\b": "misses deadlines",
    r"\breally (gave|gives)\b": "actual camera format",
    r"\bwhat paid\b": "ablation",
    r"\bon trial\b": "canary",
    r"\b(MOST|LEAST|FEWEST)_[A-Z]": "MAX_, MIN_",
    r"\b(Station|JudgeBy|Refit|Witness|Keeper|Exhibit|Strangeness|SparkplugView|Sight)\b": "the names of today",
    r"\b(class|def) (Line|Show|Trust|Asked|News|Mark|Spot|Kept|Look|Given|View)\b": "the names of today",
    r"\b(class|def) (Rare|Proof|Refusals|Trail|Standing)\b": "the names of today",
    r"\b(class|def) (_hear|_obey|_heed|_tell|become)\b": "the names of today",
    r"\blogger = ": "log",
    r"\b(ailment|strangeness|normality)s?\b": "fault, anomaly score, anomaly model",
    r"\b(see_all_frames|watch_s|memory_mb|strip_metres|loop_age|edge_px)\b": "the keys and metrics of today",
    r"camera\.settled": "camera.drift_cleared",
}
"""Pattern -> the word to use."""

KEPT = {
    "edge/cli/model.py": "a mark in the answers of a daemon",
    "edge/config/messages.py": "the table of renamed keys",
    "edge/vision/anomaly.py": "the name of a file format",
    "tests/edge/vision/test_anomaly.py": "the name of a file format",
    "tests/system/test_upgrade.py": "a configuration of the version before",
}
"""Files that name an old word because it is on somebody's disk."""


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.yaml", "*.js", "*.css", "*.html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\n") if name and not EXEMPT.match(name)]


@pytest.mark.parametrize("pattern", sorted(WORDS))
def test_old_words_are_gone(pattern: str) -> None:
    """No source, document or configuration uses a word that was replaced."""
    word = re.compile(pattern, re.IGNORECASE if pattern.lower() == pattern else 0)
    found = []
    for name in tracked():
        if name in KEPT:
            continue
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
            if word.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, f"say: {WORDS[pattern]}\n" + "\n".join(found)
