"""Image, composition, alerts and dashboard, as far as they can be tested without a container engine."""

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
from fakes.monitoring import Scene
from programs import needs_program

from edge import config
from edge.cli import main
from edge.config.camera_calibration import Made
from edge.coverage.width_curve import WidthLimits
from edge.host.clock import NS_PER_S
from edge.monitoring.collectors import machine
from edge.monitoring.prometheus import MetricsPage
from edge.pipeline.camera_session import WidthState
from edge.vision.domain import DomainWatch
from edge.vision.drift import DriftDetector, Figures, reference
from edge.vision.image_quality import ImageStats

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, in order, with continued lines joined."""
    lines = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], " ".join(line.split(" ", 1)[1].split())) for line in lines]


# The image


def test_dockerfile_is_clean_to_hadolint() -> None:
    """hadolint reports nothing at any level."""
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_runs_without_root_and_names_no_architecture() -> None:
    """The user is a number, the base image has a tag, and no instruction names a platform."""
    names = [value for name, value in instructions() if name == "USER"]
    assert names == ["10001:10001"]
    assert all(re.fullmatch(r"python:3\.11-slim-bookworm( AS \w+)?", v) for name, v in instructions() if name == "FROM")
    steps = " ".join(value for _, value in instructions())
    assert not re.search("amd64|arm64|x86_64|aarch64|--platform", steps)


def test_command_and_health_check_of_the_image_are_commands_of_defectd() -> None:
    """The command line knows every command and option that the image uses."""
    by_name = dict(instructions())
    entry, command = json.loads(by_name["ENTRYPOINT"]), json.loads(by_name["CMD"])
    check = json.loads(by_name["HEALTHCHECK"].partition("CMD ")[2])
    assert entry == ["defectd"] == check[:1]
    for arguments in (command, check[1:]):
        result = CliRunner().invoke(main, [arguments[0], "--help"])
        assert result.exit_code == 0
        assert all(word in result.output for word in arguments[1:] if word.startswith("-"))


def test_build_context_contains_only_what_is_copied() -> None:
    """.dockerignore admits exactly the files that the Dockerfile copies: no trained model, no secret."""
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
    """The RUN steps run in order as this user, with their folders below a scratch folder (takes a minute)."""
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
    """The Compose specification accepts it, every image has a tag, and all used secrets and volumes are declared."""
    assert PyCompose.from_yaml((DEPLOY / "compose.yaml").read_text()).service_names() == list(COMPOSE["services"])
    for name, service in COMPOSE["services"].items():
        assert name == "defectd" or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert service["logging"]["options"]["max-size"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_the_broker_is_open_to_the_network() -> None:
    """Prometheus and Grafana listen on this machine alone, and the host does not publish the metrics of the node."""
    ports = {name: service.get("ports", []) for name, service in COMPOSE["services"].items()}
    assert ports.pop("mosquitto") == ["8883:8883"]
    assert all(port.startswith("127.0.0.1:") for own in ports.values() for port in own)
    assert ports["defectd"] == []


def test_configuration_of_the_composition_is_valid() -> None:
    """defectd accepts it, and it names the secrets where Compose mounts them."""
    settings = config.load(DEPLOY / "defectd.yaml")
    secrets = {f"/run/secrets/{name}" for name in COMPOSE["services"]["defectd"]["secrets"]}
    assert {str(settings.mqtt.password_file), str(settings.mqtt.ca_file)} == secrets
    assert settings.mqtt.address == ("mosquitto", 8883, True)
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert settings.metrics.address is not None
    assert scraped["static_configs"][0]["targets"] == [f"defectd:{settings.metrics.address[1]}"]


# Metrics, alerts and the dashboard


def promtool(*arguments: str) -> None:
    """promtool, which has to find nothing."""
    program = needs_program("promtool", "prometheus")
    done = subprocess.run(
        [program, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration() -> None:
    """promtool has nothing against the configuration and the alert rules that it names."""
    promtool("check", "config", "prometheus.yml")


def test_each_alert_is_about_one_node() -> None:
    """promtool: each rule fires for the node in trouble, whatever other nodes with the same cameras do."""
    promtool("test", "rules", "rules_test.yml")


def test_every_alert_has_a_promtool_test() -> None:
    """rules_test.yml expects each alert at least once."""
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
    scenes = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())["tests"]
    expected = {case["alertname"] for scene in scenes for case in scene["alert_rule_test"] if case["exp_alerts"]}
    assert expected == {rule["alert"] for rule in rules}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every metric of the node, with its labels."""
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
    scene = Scene()
    scene.session.miss("overload", scene.clock.monotonic_ns(), "late", frames=2)
    scene.session.counters.last_verdict_ns = scene.clock.monotonic_ns()
    scene.session.drift = DriftDetector(
        reference([ImageStats(100.0, 0.5)], Made(time="", version="", source="", frames=1, frame_px=None)), 60
    )
    scene.session.width = WidthState(WidthLimits(1250.0, 2.0))
    scene.session.width.curve.add(1250.0, None, 0.0, 0)
    scene.session.width.curve.end()
    for second in range(120):
        scene.session.drift.step(Figures(100.0, 0.5), second * NS_PER_S)
    scene.session.domain = DomainWatch(None)  # type: ignore[arg-type]  # never fed
    found: dict[str, set[str]] = {}
    page = scene.routes["/metrics"].handler
    assert isinstance(page, MetricsPage)
    for family in (*page.collect(), *machine.collect(sysfs)):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> dict[str, str]:
    """Every query in the dashboard and the alerts, by panel or alert."""
    panels = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())["panels"]
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"][0]["rules"]
    queries = {f"{p['title']} {t['refId']}": t["expr"] for p in panels for t in p.get("targets", [])}
    return queries | {rule["alert"]: rule["expr"] for rule in rules}


@pytest.mark.parametrize("where", sorted(expressions()))
def test_every_queried_metric_exists(known: dict[str, set[str]], where: str) -> None:
    """The node has each metric and each label that the dashboard and the alerts use."""
    query = expressions()[where]
    names = re.findall(r"\bdefectd_\w+", query)
    assert names or "up{" in query
    assert set(names) <= set(known)
    for name, selector in re.findall(r"\b(defectd_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)[=!]", selector)) - {"le", "instance"} <= known[name]
    for labels in re.findall(r"by \(([^)]*)\)", query):
        assert set(labels.split(", ")) - {"instance"} <= set().union(*(known[name] for name in names))


def dashboard_targets() -> list[dict[str, str]]:
    board = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())
    return [target for panel in board["panels"] for target in panel.get("targets", [])]


def test_dashboard_shows_the_chosen_nodes() -> None:
    """Each metric in each query is filtered by the node that the reader chooses, and so are the cameras to choose."""
    board = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())
    choices = {choice["name"]: choice["query"]["query"] for choice in board["templating"]["list"]}
    assert choices["instance"] == "label_values(defectd_info, instance)"
    for query in [choices["camera"], *(target["expr"] for target in dashboard_targets())]:
        metrics = re.findall(r"\bdefectd_\w+", query)
        filtered = re.findall(r'\bdefectd_\w+\{[^}]*instance=~"\$instance"', query)
        assert len(filtered) == len(metrics) > 0, query


def test_curves_of_several_nodes_have_different_names() -> None:
    """The legend names the node, unless the query adds up the chosen nodes."""
    for target in dashboard_targets():
        adds_up = re.search(r"\b(sum|count)\b(?! by \((le, )?instance)", target["expr"])
        assert adds_up or "{{instance}}" in target["legendFormat"], target["expr"]


def test_prometheus_accepts_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """promtool parses each one, with a node and a camera in place of Grafana's variables."""
    queries = [re.sub(r"\$\w+", "chosen", target["expr"]) for target in dashboard_targets()]
    rules = [{"record": f"dashboard:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_dashboard_shows_every_metric(known: dict[str, set[str]]) -> None:
    """Every metric except the version info is in a panel or an alert; the histogram is there by its buckets."""
    used = set(re.findall(r"\bdefectd_\w+", " ".join(expressions().values())))
    assert {name for name in known if not name.endswith(("_info", "_created"))} - used == set()


def test_dashboard_is_provisioned() -> None:
    """Grafana finds it where Compose mounts it, and the panels name its data source."""
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/defectd.yaml").read_text())["providers"][0]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    board = json.loads((DEPLOY / "grafana/dashboards/defectd.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
