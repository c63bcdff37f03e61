"""Rules of the whole code: imports, doors to libraries, manners, and a manual that matches the models."""

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, SecretStr

import edge
from edge import config

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "config.yaml"
MODULES = sorted(module.name for module in pkgutil.walk_packages(edge.__path__, "edge."))
SOURCES = sorted((ROOT / "edge").rglob("*.py"))
SOURCE_NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in zip(SOURCE_NAMES, SOURCES, strict=True)}

# ---- the manual ----------------------------------------------------------------------------------

NOT_THE_DEFAULT = {
    "node": "has no default",
    "cameras": "has no default",
    "cameras.name": "has no default",
    "cameras.source": "has no default",
    "grading": "an example, so that a first run shows severities and grades",
    "cameras.fps": "the generated strip is paced like a camera; null would mean the same, but a number shows more",
}
"""Keys of config.yaml whose value is not the model's default, and the reason."""


INHERITED = {"cameras.decision"}
"""Sections that repeat the keys of another one."""


def shown_keys(section, prefix=""):
    """Every key of a part of config.yaml with its value; those of the one camera as `cameras.KEY`."""
    keys = {}
    for name, value in section.items():
        key = prefix + name
        keys[key] = value
        inner = value[0] if key == "cameras" else value
        if isinstance(inner, dict) and key not in INHERITED:
            keys |= shown_keys(inner, f"{key}.")
    return keys


def manual_keys():
    return shown_keys(yaml.safe_load(MANUAL.read_text("utf-8")))


def model_keys(model=config.Config, prefix=""):
    """Every key of the models with its default as YAML would show it."""
    keys = {}
    for name, field in model.model_fields.items():
        key = prefix + name
        keys[key] = field.get_default()
        section = config.Camera if key == "cameras" else field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel) and key not in INHERITED:
            keys |= model_keys(section, f"{key}.")
    return keys


def test_manual_and_models_have_the_same_keys():
    """The models know each key of config.yaml, and config.yaml shows each key of the models."""
    assert set(manual_keys()) == set(model_keys())


def test_manual_shows_the_defaults():
    """The values in config.yaml are the models' defaults, except for NOT_THE_DEFAULT."""
    defaults = model_keys()
    for key, shown in manual_keys().items():
        if key in NOT_THE_DEFAULT or isinstance(shown, dict):
            continue
        default = defaults[key]
        if isinstance(default, Path):
            assert Path(shown) == default, key
        else:
            assert (shown, type(shown)) == (default, type(default)) or (shown == default and key != "protocol"), key


def test_manual_explains_every_key():
    """A comment stands above each key, or above the first of a group of neighbours."""
    uncommented, commented = [], False
    for line in MANUAL.read_text("utf-8").splitlines():
        stripped = line.strip().removeprefix("- ")
        if not stripped:
            commented = False
        elif stripped.startswith("#"):
            commented = True
        elif not stripped.endswith(":") and not commented:
            uncommented.append(stripped)
    assert uncommented == []


def test_manual_is_valid_by_its_own_schema():
    """The JSON Schema for editors is a valid schema, and accepts config.yaml."""
    schema = config.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    raw = yaml.safe_load(MANUAL.read_text("utf-8"))
    jsonschema.validate(raw, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("place", "value"),
    [(("cameras", 0, "fps"), "fast"), (("mqtt", "keepalive_s"), 0), (("unknown",), 1), (("cameras", 0, "fsp"), 1)],
)
def test_schema_refuses_what_the_models_refuse(place, value):
    """An editor marks a wrong type, a value out of range and a mistyped key."""
    raw = yaml.safe_load(MANUAL.read_text("utf-8"))
    target = raw
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, config.json_schema(), cls=jsonschema.Draft202012Validator)


def test_secrets_are_typed_as_secrets():
    """The repr of a value that may hold credentials does not show them."""
    assert config.Camera.model_fields["source"].annotation is SecretStr
    assert SecretStr in config.Mqtt.model_fields["password"].annotation.__args__


def test_every_shipped_schema_is_valid():
    """The files in edge/schema are valid JSON Schemas."""
    schemas = sorted((ROOT / "edge/schema").glob("*.json"))
    for path in schemas:
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text("utf-8")))


# ---- what is imported ----------------------------------------------------------------------------

HEAVY = ("torch", "torchvision", "onnx", "trainer", "amqtt", "sklearn", "matplotlib")


def test_every_module_imports_without_the_trainer_and_the_demo():
    """A node needs neither torch nor the embedded broker: no module of edge imports them at its top."""
    script = (
        "import importlib, sys\n"
        f"for name in {MODULES!r}:\n"
        "    importlib.import_module(name)\n"
        f"loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "print(' '.join(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.skipif("edge.cli" not in MODULES, reason="there is no command line yet")
def test_command_line_is_imported_quickly_and_alone():
    """`defectd --help` loads no network runtime, no OpenCV, no MQTT client and no HTTP server."""
    heavy = {"onnxruntime", "cv2", "paho", "numpy", "tornado", "asyncio"}
    script = f"import sys, edge.cli; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


def imports(tree):
    """Top-level names of every module that is imported, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


IMPORTERS = sorted(
    path
    for folder in ("edge", "trainer", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "onnxruntime" in imports(ast.parse(path.read_text("utf-8")))
)


@pytest.mark.parametrize("path", IMPORTERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_telemetry_of_onnxruntime_is_off_before_it_is_imported(path):
    """onnxruntime reads the switch during its import; it then neither writes files nor looks up names."""
    how = f"import {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}"
    if path.is_relative_to(ROOT / "tests"):
        how = f"import runpy; runpy.run_path({str(path)!r})"
    script = (
        "import os, sys\n"
        "class Switch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "            sys.exit()\n"
        "sys.meta_path.insert(0, Switch())\n"
        f"{how}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(path.parent)])},
    )
    assert done.stdout.split() == ["1"], done.stderr


def test_user_may_turn_the_telemetry_of_onnxruntime_on():
    """defectd sets the switch only where the user has not set it."""
    script = "import os, edge; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for chosen in ("0", "1"):
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": chosen}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        )
        assert done.stdout.split() == [chosen]


def test_import_contracts_hold():
    """import-linter keeps the contracts of setup.cfg: layers, light edge, doors, trainer."""
    script = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv = ['x']; run()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    assert "0 broken" in done.stdout, done.stdout
    assert done.returncode == 0


# ---- doors ---------------------------------------------------------------------------------------

LIBRARY_DOORS = {
    "onnxruntime": {"edge/model/classifier.py"},
    "paho": {"edge/delivery/mqtt/client.py"},
    "sqlite3": {"edge/delivery/outbox/"},
    "amqtt": {"edge/delivery/mqtt/embedded_broker.py"},
    "yaml": {"edge/config/yaml_file.py"},
    "prometheus_client": {"edge/monitoring/prometheus.py", "edge/monitoring/collectors/"},
    "tornado": {"edge/monitoring/http_server.py", "edge/web/server.py"},
    "google": {"edge/delivery/sparkplug/payload.py", "edge/model/onnx_graph.py"},
}


@pytest.mark.parametrize("library", sorted(LIBRARY_DOORS))
def test_library_has_one_door(library):
    """Only the listed modules import it, at the top or inside a function."""
    users = {name for name, tree in TREES.items() if library in imports(tree)}
    assert [name for name in users if not name.startswith(tuple(LIBRARY_DOORS[library]))] == []


def names_used(tree):
    """Every name and attribute, as `a.b` where it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            before = node.value.id if isinstance(node.value, ast.Name) else "?"
            yield f"{before}.{node.attr}"
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_cameras_have_one_door():
    """cv2.VideoCapture is named in edge/camera/sources/capture.py only."""
    users = {name for name, tree in TREES.items() if any(use.endswith("VideoCapture") for use in names_used(tree))}
    assert users <= {"edge/camera/sources/capture.py"}


CLOCKS = re.compile(
    r"^(time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|process_time|clock_gettime(_ns)?)"
    r"|datetime\.(now|utcnow|today)|date\.today|datetime\.datetime)$"
)


def test_only_the_clock_reads_the_time():
    """All other code receives a Clock or a `now`."""
    users = {
        name
        for name, tree in TREES.items()
        if any(CLOCKS.match(use) and use != "datetime.datetime" for use in names_used(tree))
    }
    assert users <= {"edge/host/clock.py"}


def test_only_the_command_line_prints():
    """All other code logs or returns a value."""
    users = {name for name, tree in TREES.items() if "print" in set(names_used(tree))}
    assert all(name.startswith("edge/cli/") for name in users)


def test_no_module_sleeps():
    """Every wait is on something that a stop can end."""
    assert [name for name, tree in TREES.items() if "time.sleep" in set(names_used(tree))] == []


# ---- manners -------------------------------------------------------------------------------------

NO_NOUNS = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "tools", "base", "core"}


def test_every_module_is_named_by_its_own_noun():
    """No module collects odds and ends."""
    names = [*MODULES, *(path.stem for path in (ROOT / "trainer").rglob("*.py"))]
    assert not {part for name in names for part in re.split(r"[._]", name)} & NO_NOUNS


@pytest.mark.parametrize("module", MODULES)
def test_every_module_describes_itself(module):
    """A docstring stands at the top of each module."""
    assert (importlib.import_module(module).__doc__ or "").strip()


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_broad_except_is_not_silent(name):
    """A handler of all exceptions raises again, logs, keeps the error, or gives its reason in a comment."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or (
            isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
        )
        body = [inner for statement in node.body for inner in ast.walk(statement)]
        handles = any(
            isinstance(inner, ast.Raise) or (isinstance(inner, ast.Name) and inner.id == node.name) for inner in body
        )
        logs = any(isinstance(inner, ast.Attribute) and inner.attr in ("exception", "error") for inner in body)
        reason = any("#" in line for line in lines[max(0, node.lineno - 2) : node.lineno + 1])
        assert not broad or handles or logs or reason, f"{name}:{node.lineno}"
