"""The containers: what can be known of them without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from compose_spec import PyCompose
from fakes.node import Parts

from edge import config
from edge.cli import main
from edge.config.camera_calibration import Made
from edge.host.clock import NS_PER_S
from edge.monitoring.prometheus import _machine
from edge.vision.drift import DriftDetector, Figures, reference
from edge.vision.image_quality import ImageStats

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order, with lines that go on below put together."""
    lines = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], " ".join(line.split(" ", 1)[1].split())) for line in lines]


# The image


def test_dockerfile_is_clean_to_hadolint() -> None:
    """No finding of any level."""
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_runs_without_root_and_names_no_architecture() -> None:
    """A number as the user, the base image by tag, no platform and no word of one."""
    names = [value for name, value in instructions() if name == "USER"]
    assert names == ["10001:10001"]
    assert all(re.fullmatch(r"python:3\.11-slim-bookworm( AS \w+)?", v) for name, v in instructions() if name == "FROM")
    steps = " ".join(value for _, value in instructions())
    assert not re.search("amd64|arm64|x86_64|aarch64|--platform", steps)


def test_command_and_health_check_of_the_image_are_commands_of_defectd() -> None:
    """What the image runs is what the command line knows."""
    said = dict(instructions())
    entry, command = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    check = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    assert entry == ["defectd"] == check[:1]
    for arguments in (command, check[1:]):
        told = CliRunner().invoke(main, [arguments[0], "--help"])
        assert told.exit_code == 0
        assert all(word in told.output for word in arguments[1:] if word.startswith("-"))


def test_build_context_holds_what_is_copied_and_no_more() -> None:
    """.dockerignore lets through exactly what the Dockerfile copies from the tree: no model of ours, no secret."""
    copied = {
        word
        for name, value in instructions()
        if name == "COPY" and not value.startswith("--from")
        for word in value.split()[:-1]
    }
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_through
    assert all((ROOT / word).exists() for word in copied)


@pytest.mark.soak
def test_every_run_step_of_the_image_runs(tmp_path: Path) -> None:
    """By hand, a minute: the RUN steps one after the other, their folders below a scratch folder, as this user."""
    places = {"/src": tmp_path / "src", "/opt/defectd": tmp_path / "venv", "/var/lib/defectd": tmp_path / "state"}

    def placed(text: str) -> str:
        for inside, outside in places.items():
            text = text.replace(inside, str(outside))
        return text

    places["/src"].mkdir()
    for name, value in instructions():
        if name == "COPY" and not value.startswith("--from"):
            *sources, target = shlex.split(value)
            for source in sources:
                goal = places["/src"] / target / (source if target == "./" else "")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, goal)
        elif name == "RUN":
            step = placed(value)
            if os.geteuid() != 0:
                step = re.sub(r"-[og] \d+ ", "", step)
            path = f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}"
            done = subprocess.run(
                ["sh", "-euc", step],
                cwd=places["/src"],
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    installed = subprocess.run(
        [places["/opt/defectd"] / "bin/python", "-m", "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "onnxruntime==" in installed
    assert not re.search("^(torch|onnx|amqtt|pytest)==", installed, re.MULTILINE)


# The composition


def test_composition_is_valid() -> None:
    """By the Compose specification; every image has a tag, every secret and volume that is used is declared."""
    assert PyCompose.from_yaml((DEPLOY / "compose.yaml").read_text()).service_names() == list(COMPOSE["services"])
    for name, service in COMPOSE["services"].items():
        assert name == "defectd" or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert service["logging"]["options"]["max-size"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_the_broker_is_open_to_the_network() -> None:
    """Prometheus and Grafana listen on this machine, the metrics of the node on none of its ports."""
    ports = {name: service.get("ports", []) for name, service in COMPOSE["services"].items()}
    assert ports.pop("mosquitto") == ["8883:8883"]
    assert all(port.startswith("127.0.0.1:") for own in ports.values() for port in own)
    assert ports["defectd"] == []


def test_configuration_of_the_composition_is_good() -> None:
    """defectd reads it, and finds its secrets where Compose puts them."""
    settings = config.load(DEPLOY / "defectd.yaml")
    secrets = {f"/run/secrets/{name}" for name in COMPOSE["services"]["defectd"]["secrets"]}
    assert {str(settings.mqtt.password_file), str(settings.mqtt.ca_file)} == secrets
    assert settings.mqtt.address == ("mosquitto", 8883, True)
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert settings.metrics.address is not None
    assert scraped["static_configs"][0]["targets"] == [f"defectd:{settings.metrics.address[1]}"]


# What is watched


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every metric that the node can give, with its labels."""
    sysfs = tmp_path_factory.mktemp("sys")
    for name, text in {
        "class/thermal/thermal_zone0/type": "cpu",
        "class/thermal/thermal_zone0/temp": "40000",
        "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "1",
        "devices/platform/soc/soc:firmware/get_throttled": "0",
    }.items():
        path = sysfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    parts = Parts()
    parts.session.miss("overload", parts.clock.monotonic_ns(), "late", frames=2)
    parts.session.counters.last_verdict_ns = parts.clock.monotonic_ns()
    parts.session.drift = DriftDetector(
        reference([ImageStats(100.0, 0.5)], Made(time="", version="", source="", frames=1, frame_px=None)), 60
    )
    for second in range(120):
        parts.session.drift.step(Figures(100.0, 0.5), second * NS_PER_S)
    found: dict[str, set[str]] = {}
    for family in (*parts.reading.collect(), *_machine(sysfs)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> dict[str, str]:
    """Everything that is asked of Prometheus, by where it stands."""
    panels = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())["panels"]
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
    asked = {f"{p['title']} {t['refId']}": t["expr"] for p in panels for t in p.get("targets", [])}
    return asked | {rule["alert"]: rule["expr"] for rule in rules}


@pytest.mark.parametrize("where", sorted(expressions()))
def test_what_is_asked_of_prometheus_exists(known: dict[str, set[str]], where: str) -> None:
    """Each metric and each label of the dashboard and the alerts is one that the node gives."""
    asked = expressions()[where]
    names = re.findall(r"\bdefectd_\w+", asked)
    assert names or "up{" in asked
    assert set(names) <= set(known)
    for name, selector in re.findall(r"\b(defectd_\w+)\{([^}]*)\}", asked):
        assert set(re.findall(r"(\w+)[=!]", selector)) - {"le"} <= known[name]
    for labels in re.findall(r"by \(([^)]*)\)", asked):
        assert set(labels.split(", ")) <= set().union(*(known[name] for name in names))


def test_dashboard_shows_every_metric(known: dict[str, set[str]]) -> None:
    """What the node tells is drawn somewhere; the histogram by its buckets, information about the version aside."""
    drawn = set(re.findall(r"\bdefectd_\w+", " ".join(expressions().values())))
    assert {name for name in known if not name.endswith(("_info", "_created"))} - drawn == set()


def test_dashboard_is_provisioned() -> None:
    """Grafana finds it where Compose mounts it, and its data source by the name that the panels use."""
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/defectd.yaml").read_text())["providers"][0]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    board = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
