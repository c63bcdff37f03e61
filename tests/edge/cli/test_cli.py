"""The command line for people and scripts: exit codes, messages, one JSON object per line."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edge import config
from edge.camera.sources.simulator import Strip
from edge.cli import event_table, main
from edge.cli.events import _event_line
from edge.cli.options import Seconds, found_config
from edge.event import NODE_CAMERA
from edge.host import logs

MINIMAL: dict[str, Any] = {"node": "line3", "cameras": [{"name": "top", "source": "strip:"}]}


def call(*args: str) -> Any:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "strip.png"
    cv2.imwrite(str(path), Strip(width=800, height=400).frame(3))
    return path


def written(folder: Path, **changes: Any) -> str:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "state_dir": str(folder / "var"), **changes}))
    return str(path)


def lines(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_command_explains_itself() -> None:
    """--help of every command exits with 0 and shows more than its name."""
    for name, command in main.commands.items():
        result = call(name, "--help")
        assert result.exit_code == 0
        assert command.help, name


def test_check_accepts_the_shipped_configuration() -> None:
    """config.yaml in the repository is valid as it is."""
    shipped = Path(__file__).resolve().parents[3] / "config.yaml"
    result = call("check", "-c", str(shipped))
    assert result.exit_code == 0, result.output
    assert f"{shipped}: OK." in result.output


def test_check_reports_all_problems_at_once_and_ends_with_78(tmp_path: Path) -> None:
    """Each problem has its key, value and remedy; systemd does not restart on 78."""
    path = written(tmp_path, report_s=-1, nodes="x", cameras=[{"name": "a b", "source": "strip:", "mode": "belt"}])
    result = call("check", "-c", path)
    assert result.exit_code == 78
    for part in ("report_s: -1", "nodes: 'x'", "Write 'node'", "cameras[0].name: 'a b'", "cameras[0].mode: 'belt'"):
        assert part in result.stderr
    as_json = call("check", "-c", path, "--json")
    assert as_json.exit_code == 78
    assert {p["key"] for p in lines(as_json)[0]["problems"]} >= {"report_s", "nodes", "cameras[0].mode"}


def test_check_finds_a_threshold_for_a_class_that_the_model_does_not_know(tmp_path: Path) -> None:
    """Disagreements between configuration and model are found before anything starts."""
    result = call("check", "-c", written(tmp_path, decision={"classes": {"scratch": 0.8}}))
    assert result.exit_code == 78
    assert "scratches" in result.stderr


def test_check_refuses_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    """The message names the path of the missing model; the exit code is 78."""
    result = call("check", "-c", written(tmp_path, model={"bundle": "nowhere"}))
    assert result.exit_code == 78
    assert "nowhere" in result.stderr


def test_check_prints_a_json_schema(tmp_path: Path) -> None:
    """It holds the keys and their descriptions, for editors."""
    schema = json.loads(call("check", "--schema").stdout)
    assert set(schema["properties"]) == set(config.Config.model_fields)


def test_check_probe_opens_each_camera(tmp_path: Path) -> None:
    """--probe prints each camera's actual format, fails with 1 where one does not open, and hides its password."""
    cameras = [
        {"name": "top", "source": "strip:?width=640&height=256"},
        {"name": "far", "source": "rtsp://admin:hunter2@127.0.0.1:9/", "open_timeout_s": 1},
    ]
    result = call("check", "-c", written(tmp_path, cameras=cameras), "--probe", "--json")
    assert result.exit_code == 1
    top, far = lines(result)[0]["cameras"]
    assert top["actual"]["width"] == 640
    assert far["error"]
    assert "hunter2" not in result.output


def test_check_probe_tries_the_broker(tmp_path: Path, free_port: int) -> None:
    """A broker that is not there fails the check with the reason, and the verdict is the last line."""
    path = written(tmp_path, mqtt={"broker": f"mqtt://127.0.0.1:{free_port}"})
    result = call("check", "-c", path, "--probe")
    assert result.exit_code == 1
    *tried, verdict = result.stdout.splitlines()
    assert "  broker: FAIL: " in "\n".join(tried)
    assert "nothing listens" in "\n".join(tried)
    assert verdict.startswith(f"{path}: FAIL (broker).")
    as_json = lines(call("check", "-c", path, "--probe", "--json"))[0]
    assert (as_json["ok"], as_json["broker_probe"]["grade"]) == (False, "fail")
    assert "broker_probe" not in lines(call("check", "-c", path, "--json"))[0]


def test_check_probe_reports_a_dead_camera_before_its_verdict(tmp_path: Path) -> None:
    """A person who reads the first line only must not take the configuration for good."""
    path = written(tmp_path, cameras=[{"name": "top", "source": str(tmp_path / "none.png")}])
    result = call("check", "-c", path, "--probe")
    assert result.exit_code == 1
    assert ": FAIL: " in result.stdout.splitlines()[0]
    assert ": OK" not in result.stdout.replace("broker: OK", "")


def test_check_probe_fails_for_a_camera_of_which_no_picture_can_be_inspected(tmp_path: Path) -> None:
    """A region outside the frame, and a recording of dark pictures: both open, and nothing is inspected."""
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((400, 800), np.uint8))
    cameras = [
        {"name": "beside", "source": "strip:", "roi": [5000, 0, 100, 100]},
        {"name": "dark", "source": str(tmp_path / "dark.png")},
    ]
    result = call("check", "-c", written(tmp_path, cameras=cameras), "--probe", "--json")
    assert result.exit_code == 1
    beside, dark = lines(result)[0]["cameras"]
    assert "outside" in beside["error"]
    assert "dark" in dark["error"]
    assert beside["actual"]["width"] == 800


@pytest.mark.parametrize("command", ["check", "run", "doctor"])
@pytest.mark.parametrize("password", ["[hunter2]", "hunt]er2", "[hunter2", "hunter2#1"])
def test_url_that_cannot_be_read_ends_a_command_without_it(tmp_path: Path, command: str, password: str) -> None:
    """Exit code 78 and one message with the remedy, no traceback, no password."""
    result = call(command, "-c", written(tmp_path, cameras=[{"name": "a", "source": f"rtsp://u:{password}@h/x"}]))
    assert result.exit_code == 78
    assert "cameras[0].source: (hidden): is not a URL that can be read" in result.output
    assert "hunt" not in result.output


@pytest.mark.parametrize("password", ["[hunter2]", "p@hunter2#1", "hunter2/?"])
def test_check_accepts_any_password_of_a_reference(tmp_path: Path, password: str) -> None:
    """It shows the camera without the password."""
    (tmp_path / "pw").write_text(password)
    result = call("check", "-c", written(tmp_path, cameras=[{"name": "a", "source": "rtsp://u:${file:pw}@h/x"}]))
    assert result.exit_code == 0, result.output
    assert "a: rtsp://h/x" in result.output
    assert "hunter2" not in result.output


def test_check_shows_no_query_of_a_url(tmp_path: Path) -> None:
    """Cameras take tokens there, by any name."""
    for form in ((), ("--json",)):
        cameras = [{"name": "a", "source": "http://u:x@h/v?key=hunter2"}]
        result = call("check", "-c", written(tmp_path, cameras=cameras), *form)
        assert "http://h/v" in result.output
        assert "hunter2" not in result.output


def test_check_names_a_missing_secret_file_with_the_command_that_makes_it(tmp_path: Path) -> None:
    """The broker's password as well as a camera's."""
    mqtt = {"broker": "mqtts://b", "username": "u", "password_file": "mqtt-password"}
    result = call("check", "-c", written(tmp_path, mqtt=mqtt))
    assert result.exit_code == 78
    assert f"install -m 600 /dev/stdin {tmp_path}/mqtt-password" in result.output
    result = call("check", "-c", written(tmp_path, cameras=[{"name": "a", "source": "rtsp://u:${file:camera}@h"}]))
    assert result.exit_code == 78
    assert f"install -m 600 /dev/stdin {tmp_path}/camera" in result.output


def test_inspect_gives_one_json_line_per_frame(picture: Path) -> None:
    """The line holds the documented keys, plain types, the strongest region first."""
    result = call("inspect", "--json", str(picture))
    assert result.exit_code == 0, result.output
    (line,) = lines(result)
    assert (line["source"], line["frame"], line["size_px"]) == (str(picture), 0, [800, 400])
    assert line["state"] in ("ok", "defect", "unsure")
    assert set(line["latency_ms"]) == {"decode", "preprocess", "inference", "decide", "total"}
    confidences = [region["confidence"] for region in line["regions"]]
    assert confidences == sorted(confidences, reverse=True)


def _bad_inputs(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (300, 300), np.uint8)
    made = {name: folder / name for name in ("text.png", "empty.png", "cut.png", "dot.png", "thread.png")}
    made["text.png"].write_text("not a picture")
    made["empty.png"].write_bytes(b"")
    made["cut.png"].write_bytes(cv2.imencode(".png", image)[1].tobytes()[:20_000])
    cv2.imwrite(str(made["dot.png"]), image[:1, :1])
    cv2.imwrite(str(made["thread.png"]), np.tile(image[:10], (1, 67))[:, :20_000])
    made["notes.txt"] = folder / "notes.txt"
    made["notes.txt"].write_text("hello")
    made["missing.png"] = folder / "missing.png"
    return made


def test_inspect_goes_on_after_every_bad_input(tmp_path: Path, picture: Path) -> None:
    """Unreadable inputs give an error line each and exit 1; the good one is still done."""
    bad = _bad_inputs(tmp_path)
    result = call("inspect", "--json", *map(str, bad.values()), str(picture))
    assert result.exit_code == 1
    found = {line["source"]: line for line in lines(result)}
    for name in ("text.png", "empty.png", "cut.png", "notes.txt", "missing.png"):
        assert found[str(bad[name])]["error"], name
    for name in ("dot.png", "thread.png"):
        assert found[str(bad[name])]["state"] == "bad_image"
        assert "too small" in found[str(bad[name])]["reason"]
    assert found[str(picture)]["state"] in ("ok", "defect", "unsure")


def test_inspect_gives_the_same_verdict_for_16_bit_and_colour_pictures(tmp_path: Path) -> None:
    """A 16-bit TIFF and a colour file of one gray picture get the verdict of its 8-bit file."""
    gray = Strip(width=800, height=400).frame(40)
    files = {"g.png": gray, "w.tif": gray.astype(np.uint16) << 8, "c.png": cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)}
    for name, image in files.items():
        cv2.imwrite(str(tmp_path / name), image)
    verdicts = lines(call("inspect", "--json", *(str(tmp_path / name) for name in files)))
    assert len({json.dumps([v["state"], v["regions"]]) for v in verdicts}) == 1


def test_inspect_without_json_prints_sentences(picture: Path, tmp_path: Path) -> None:
    """Verdicts go to stdout, problems to stderr."""
    result = call("inspect", str(picture), str(tmp_path / "gone.png"))
    assert result.exit_code == 1
    assert f"{picture} [0]:" in result.stdout
    assert "gone.png" in result.stderr


def test_inspect_refuses_a_camera_that_is_not_configured(tmp_path: Path, picture: Path) -> None:
    """The message names the configured cameras."""
    result = call("inspect", "-c", written(tmp_path), "--camera", "bottom", str(picture))
    assert result.exit_code == 78
    assert "top" in result.stderr


def test_short_help_is_whole() -> None:
    """No line of the list of commands is cut off."""
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["--help"]).stdout
    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def test_unexpected_argument_is_named_once_with_the_option_it_belongs_to() -> None:
    """`run my.yaml` wants -c; a pattern that the shell made pages of is not repeated."""
    assert "Write: -c my.yaml" in call("run", "my.yaml").stderr
    many = call("run", *(f"{number}.png" for number in range(500)))
    assert (many.exit_code, len(many.stderr) < 300) == (2, True)
    assert "unexpected: 0.png." in many.stderr


@pytest.mark.parametrize("command", [("tail", "--for", "1s"), ("evidence", "list")])
def test_unknown_camera_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Not an empty answer, which looks like a camera without events."""
    result = call(*command, "-c", written(tmp_path), "--camera", "tpo")
    assert result.exit_code == 78
    assert "The configuration has: top" in result.stderr


def test_no_events_since_a_time_names_the_time(tmp_path: Path) -> None:
    """`--since 2` means two seconds; whoever meant hours sees it."""
    path = written(tmp_path)
    assert re.search(r"no events stored since \d{4}-\d\d-\d\d ", call("events", "-c", path, "--since", "2").stderr)


def test_new_node_has_no_events(tmp_path: Path) -> None:
    """A missing database is not an error."""
    result = call("events", "-c", written(tmp_path), "--json")
    assert (result.exit_code, result.stdout) == (0, "")


def test_run_refuses_a_bad_configuration_with_78(tmp_path: Path) -> None:
    """`run` and `check` share one path."""
    assert call("run", "-c", written(tmp_path, report_s="soon")).exit_code == 78
    assert call("run", "-c", str(tmp_path / "none.yaml")).exit_code == 78


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("30s", 30.0), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86_400.0), ("1h30m", 5400.0)],
)
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    """--for and --since take what people write."""
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "-3s", "soon", "0", "nan", "1e99", "3 weeks"])
def test_impossible_durations_are_refused(text: str, tmp_path: Path) -> None:
    """Usage errors end with 2 and give an example."""
    result = call("run", "-c", written(tmp_path), "--for", text)
    assert result.exit_code == 2
    assert "30s" in result.stderr


def test_bench_reports_conditions_and_count_of_each_figure() -> None:
    """Network, threads, batch, quantiles and n of each; the paths side by side with their ratios."""
    rows = lines(call("bench", "--json", "--calls", "10"))
    network = {(row["network"], row["threads"], row["batch"]) for row in rows if row["what"] == "network"}
    assert network == set(product(("fp32", "int8"), (1, 2), (1, 8, 32)))
    assert any("1600x256" in row["what"] for row in rows)
    alone, beside = [row for row in rows if "ms" in row], [row for row in rows if "ratios" in row]
    for found in [row["ms"] for row in alone] + [row["us"] for row in beside]:
        assert found["n"] >= 10
        assert 0 < found["p50"] <= found["p95"] <= found["p99"] <= found["p999"] <= found["max"]
    assert len(beside) == 6
    assert all(row["ratios"][row["network"]] == 1.0 for row in beside if row["what"].startswith("daemon"))
    assert set(rows[-1]["share_of_it"]) == {"fp32", "int8"}


def test_bench_holds_a_camera_and_shows_every_stage() -> None:
    """One real camera process for a moment: stages with quantiles, cores and memory."""
    shown = call("bench", "--camera-count", "1", "--fps", "20", "--for", "1s").output
    assert "1 x 1600x256 at 20 fps" in shown
    for stage in ("queue", "preprocess", "inference", "decide", "total"):
        assert f"\n{stage} " in shown
    assert "of a core" in shown


def test_model_show_and_verify_accept_the_shipped_bundle() -> None:
    """The card is readable, and the self-test holds on this processor."""
    card = lines(call("model", "show", "--json"))[0]
    assert card["classes"][-1] == "scratches"
    assert call("model", "verify").output.endswith(": OK\n")


@pytest.mark.parametrize("more", [(), ("--verify",)])
def test_tail_that_never_reached_the_broker_fails(tmp_path: Path, free_port: int, more: tuple[str, ...]) -> None:
    """A check that proved nothing must not look like one that found nothing missing."""
    path = written(tmp_path, mqtt={"broker": f"mqtt://127.0.0.1:{free_port}"})
    result = call("tail", "-c", path, "--for", "0.3s", *more)
    assert result.exit_code == 1
    assert "never reached" in result.stderr


def test_tail_prints_messages_that_are_no_events() -> None:
    """It shows another client's message on an event topic as such."""
    for text in ("", "nonsense", "[1]", "null", '{"seq": 1}'):
        assert _event_line(text).startswith("not an event")


def test_times_for_people_are_local_and_name_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log, tail and events agree; what may be old has its date."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        text = json.dumps({"time": "2026-11-22T23:46:11.482Z", "seq": 7, "camera": "top", "type": "image.bad"})
        assert _event_line(text).startswith("00:46:11.482 CET #7")
        assert event_table._row(text, "queued")[0] == "2026-11-23 00:46:11.482 CET"
        stream = StringIO()
        logs.start("info", "plain", stream)
        logging.getLogger("edge.daemon").info("hello")
        assert re.match(r"\d\d:\d\d:\d\d CET   info", stream.getvalue())
    finally:
        logging.getLogger().handlers.clear()
        monkeypatch.undo()
        time.tzset()


def test_configuration_is_found_here_and_then_where_the_installer_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named file is always taken; where none is there, the error names the one that was expected here."""
    installed, here = tmp_path / "etc", tmp_path / "here"
    installed.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    assert found_config(None, installed) == Path("config.yaml")
    (installed / "config.yaml").touch()
    assert found_config(None, installed) == installed / "config.yaml"
    assert found_config(Path("my.yaml"), installed) == Path("my.yaml")
    Path("config.yaml").touch()
    assert found_config(None, installed) == Path("config.yaml")


def test_tail_prints_an_event_on_one_line() -> None:
    """Time, seq, camera, type, and for a defect what and where."""
    defect = {"class": "scratches", "confidence": 0.97, "box_px": [1, 2, 3, 4], "frames": 5}
    fact = {"time": "2026-11-22T13:46:11.482Z", "seq": 7, "camera": NODE_CAMERA, "type": "defect.closed"}
    line = _event_line(json.dumps({**fact, "defect": defect, "detail": None, "replayed": True}))
    assert "\n" not in line
    for part in (":46:11.482", "#7", "scratches", "0.97", "1,2 3x4", "5 frames", "replayed"):
        assert part in line
    placed = {**defect, "position_m": 812.4, "coil": "A4711"}
    assert "3x4 px, 812.400 m on A4711, 5 frames" in _event_line(json.dumps({**fact, "defect": placed}))
    measured = {**placed, "extent_px": [1, 3, 2, 1], "length_mm": 31.5}
    assert "1,3 2x1 px, 812.400 m on A4711, 31.5 mm long, 5" in _event_line(json.dumps({**fact, "defect": measured}))


def test_help_is_quick_because_libraries_wait() -> None:
    """Importing the command line loads neither OpenCV nor ONNX Runtime."""
    import subprocess

    code = "import sys, edge.cli; sys.exit(bool({'cv2', 'onnxruntime', 'paho', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
