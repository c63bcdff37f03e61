"""The documentation builds without a warning, and its commands and configurations are valid."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import site_pages
import yaml

import edge
from edge import cli, config
from trainer.cli.commands import main as train

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "decisions" not in path.parts and "reference" not in path.parts
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
COMMANDS = {"defectd": cli.main, "defectd-train": train}
PLACEHOLDER = re.compile(r"[A-Z]{2,}|\.\.\.|<|\[")
MAX_README_WORDS = 700
QUESTIONS = yaml.safe_load((Path(__file__).parent / "questions.yaml").read_text("utf-8"))


def blocks(language):
    for path in PAGES:
        for found in FENCE.finditer(path.read_text("utf-8")):
            if found[2] == language:
                indent = found[1]
                yield pytest.param(re.sub(rf"(?m)^{indent}", "", found[3]), id=f"{path.name}:{found.start()}")


def command_lines():
    """Every line of a shell example, fenced or indented, that calls one of the two commands."""
    for path in PAGES:
        for line in path.read_text("utf-8").splitlines():
            found = re.match(r"(?: {4})?(?:sudo )?(?:\.venv/bin/)?(defectd(?:-train)?) (.*)", line)
            if found and not line.startswith(("defectd is", "defectd does")):
                yield pytest.param(
                    found[1], found[2].split(" #")[0].strip(), id=f"{path.name}: {found[1]} {found[2][:50]}"
                )


@pytest.mark.parametrize("text", [*blocks("yaml")])
def test_a_configuration_in_the_documentation_is_accepted(text):
    """Each YAML block, completed by the two keys without a default, is a valid configuration."""
    camera = {"name": "top", "source": "strip:"}
    given = yaml.safe_load(re.sub(r"\$\{[^}]+\}", "x", text).replace("rtsp://...", "rtsp://10.0.0.20/stream1"))
    given = {"node": "line3", "cameras": [camera], **given}
    given["cameras"] = [camera | one for one in given["cameras"]]
    config.Config.model_validate(given)


@pytest.mark.parametrize("text", [*blocks("json")])
def test_json_in_the_documentation_can_be_read(text):
    """Each JSON block is valid JSON, one value or one a line."""
    try:
        json.loads(text)
    except ValueError:
        for line in re.split(r"\n(?=\{)", text.strip()):
            json.loads(line)


@pytest.mark.parametrize("text", [*blocks("toml")])
def test_toml_in_the_documentation_can_be_read(text):
    """Each TOML block is valid TOML."""
    assert tomllib.loads(text)


@pytest.mark.parametrize(("name", "arguments"), [*command_lines()])
def test_a_command_in_the_documentation_exists(name, arguments):
    """Each example names a command and options that exist."""
    command, words = COMMANDS[name], shlex.split(arguments)
    while isinstance(command, click.Group):
        options = [word for word in words if word.startswith("-")]
        if not words or options == words:
            break
        word = words.pop(0)
        assert word in command.commands, f"{name} has no command {word}"
        command = command.commands[word]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"-h", "--help", "--version"}
    for word in words:
        if word.startswith("-") and word != "-" and not PLACEHOLDER.match(word):
            assert word.split("=")[0] in known, f"{name} {arguments}: {word} is no option"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The documentation, built once for all tests of this file: the finished process, and the folder of the site."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False), site


@pytest.fixture(scope="module")
def pages(built):
    """The content of the pages of the site, by their addresses."""
    return site_pages.articles(built[1])


def test_the_documentation_builds_without_a_warning(built):
    """Every link and anchor leads somewhere, and every page is in the navigation."""
    process, _ = built
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"])
def test_a_question_of_a_newcomer_is_answered_two_clicks_from_the_front_page(pages, asked):
    """Its page has the heading of the answer, and the list on the front page leads there."""
    address = asked["page"].removesuffix(".md") + "/"
    assert site_pages.clicks(pages)[address] <= 2
    anchor = pages[address].headings[asked["heading"]]
    assert pages[""].links[asked["question"].replace("`", "")] == f"{address}#{anchor}"


def test_the_site_loads_nothing_from_another_server(built):
    """A plant without a network reads it whole: scripts, sheets and pictures are its own, and so are the diagrams."""
    loads = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="?https?:')
    pages = {path.relative_to(built[1]): path.read_text("utf-8") for path in built[1].rglob("*.html")}
    assert [path for path, html in pages.items() if loads.search(html) or 'class="mermaid"' in html] == []


def test_every_page_can_be_reached_by_the_links_in_the_text(pages):
    """Nobody needs the navigation or the search to find a page."""
    assert {address for address in pages if address not in site_pages.clicks(pages)} == set()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_a_page_at_the_top_lead_to_files(name):
    """Relative links name files of this repository."""
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text("utf-8")):
        assert "://" in link or (ROOT / link).exists(), link


def test_the_readme_is_short():
    """Everything beyond the first look is in docs/."""
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= MAX_README_WORDS


def test_the_citation_names_this_version():
    """CITATION.cff is changed with the version."""
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == edge.__version__
