"""`defectd init`: asks, tries everything, and writes a configuration that the daemon accepts."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge import config
from edge.cli import main
from edge.config.new_file import NewCamera, NewConfig, text_of


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run `defectd init` in an empty folder with these options and answers."""
    monkeypatch.chdir(tmp_path)

    def run(*options, answers=()):
        typed = "".join(f"{answer}\n" for answer in answers)
        return CliRunner().invoke(main, ["init", "--no-search", *options], input=typed)

    return run


def test_answers_become_a_configuration_that_loads(ask, tmp_path):
    """The defaults give a node with the generated strip; its picture with the tiles lies beside the file."""
    result = ask(answers=["line9", "strip", "", "embedded"])
    assert result.exit_code == 0, result.output
    settings = config.load(tmp_path / "config.yaml")
    assert (settings.node, settings.cameras[0].name) == ("line9", "top")
    assert (tmp_path / "config-top.png").read_bytes().startswith(b"\x89PNG")
    assert "Next: defectd run\n" in result.output


def test_passwords_are_in_files_that_only_the_owner_reads(ask, tmp_path):
    """Neither the configuration nor the output has them; the URL refers to the file."""
    answers = ["line9", "rtsp://10.0.0.20/stream1", "", "viewer", "Pa#ss/1", "10.0.0.9", "n", "Br@ker"]
    result = ask("--no-probe", answers=answers)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "config.yaml").read_text()
    for secret, name in (("Pa#ss/1", "camera-top-password"), ("Br@ker", "mqtt-password")):
        assert secret not in text + result.output
        assert (tmp_path / name).read_text() == f"{secret}\n"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "Pa%23ss%2F1" in config.load(tmp_path / "config.yaml").cameras[0].source.get_secret_value()


def test_a_camera_that_does_not_open_writes_nothing_without_consent(ask, tmp_path):
    """The reason is shown; after a stop, neither the file nor a new secret stays."""
    answers = ["line9", "rtsp://127.0.0.1:1/x", "", "viewer", "secret", "embedded", "s"]
    result = ask(answers=answers)
    assert result.exit_code == 1
    assert "✗ camera top" in result.output
    assert list(tmp_path.iterdir()) == []


def test_what_failed_is_asked_again_and_the_rest_is_kept(ask, tmp_path):
    """A camera that does not open is corrected; node, broker and the picture come out of one run."""
    answers = ["line9", "rtsp://127.0.0.1:1/x", "side", "viewer", "wrong", "embedded", "c", "strip:?mm_per_px=0.25"]
    result = ask(answers=answers)
    assert result.exit_code == 0, result.output
    assert not list(tmp_path.glob("*password*"))
    settings = config.load(tmp_path / "config.yaml")
    assert (settings.node, settings.cameras[0].name) == ("line9", "side")
    assert settings.cameras[0].source.get_secret_value().startswith("strip:")


def test_a_wrong_answer_is_asked_for_again(ask, tmp_path):
    """Node, source, name of the camera and broker are checked when they are given."""
    answers = ["line 9", "line9", "rtsp://u:p/w@h/x", "strip strip", "a/b", "top", "top", "bottom"]
    result = ask("--no-probe", answers=[*answers, "mqtts://h:99999", "embedded:1884"])
    assert result.exit_code == 0, result.output
    assert result.output.count("Error: ") == 5
    settings = config.load(tmp_path / "config.yaml")
    assert [camera.name for camera in settings.cameras] == ["top", "bottom"]
    assert settings.mqtt.broker == "embedded:1884"


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("10.0.0.9", "mqtts://10.0.0.9:8883"),
        ("broker:1883", "mqtt://broker:1883"),
        ("127.0.0.1:18833", "mqtts://127.0.0.1:18833"),
        ("localhost", "mqtt://localhost:1883"),
    ],
)
def test_a_broker_without_a_scheme_is_taken_with_tls_unless_its_port_says_otherwise(ask, tmp_path, typed, address):
    """The port is not written twice; this machine needs no TLS."""
    options = ("--no-probe", "--yes", "--node", "l1", "--camera", "top=strip", "--broker", typed)
    assert ask(*options).exit_code == 0
    assert config.load(tmp_path / "config.yaml").mqtt.broker == address


def test_a_password_in_a_url_goes_into_a_file(ask, tmp_path):
    """Also from an option, and decoded; a user without one is asked for it."""
    cameras = ("--camera", "top=rtsp://viewer:Pa%23ss@h/x", "--camera", "side=rtsp://viewer@h/x")
    result = ask("--no-probe", "--node", "l1", *cameras, "--broker", "embedded", answers=["other"])
    assert result.exit_code == 0, result.output
    assert "Pa%23ss" not in (tmp_path / "config.yaml").read_text()
    assert (tmp_path / "camera-top-password").read_text() == "Pa#ss\n"
    assert (tmp_path / "camera-side-password").read_text() == "other\n"
    assert "Pa%23ss@" in config.load(tmp_path / "config.yaml").cameras[0].source.get_secret_value()


def test_the_manual_of_every_key_stays_where_it_is(ask, tmp_path):
    """In a checkout the new file gets a folder of its own, and the next command says so; after a stop it is gone."""
    manual = (Path(__file__).parents[3] / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(manual)
    options = ("--node", "l1", "--broker", "embedded")
    assert ask(*options, "--camera", "top=missing.png", answers=["s"]).exit_code == 1
    assert not (tmp_path / "l1").exists()
    result = ask(*options, "--camera", "top=strip")
    assert "Next: cd l1 && defectd run\n" in result.output
    assert config.load(tmp_path / "l1" / "config.yaml").node == "l1"
    assert (tmp_path / "config.yaml").read_text() == manual


def test_without_questions_a_failure_writes_nothing(ask, tmp_path):
    """--yes asks nothing; a camera that does not open is an error, and --no-probe is named."""
    result = ask("--yes", "--camera", "top=rtsp://127.0.0.1:1/x")
    assert result.exit_code == 1
    assert "--no-probe" in result.output
    assert not (tmp_path / "config.yaml").exists()


def test_an_existing_file_is_shown_as_a_difference_and_kept_after_a_no(ask, tmp_path):
    """Nothing is overwritten without consent; with consent it is."""
    options = ("--no-probe", "--node", "other", "--camera", "top=strip:", "--broker", "embedded")
    (tmp_path / "config.yaml").write_text("node: mine\n")
    result = ask(*options, answers=["n"])
    assert result.exit_code == 1
    assert "-node: mine" in result.output
    assert "+node: other" in result.output
    assert (tmp_path / "config.yaml").read_text() == "node: mine\n"
    assert ask(*options, answers=["y"]).exit_code == 0
    assert config.load(tmp_path / "config.yaml").node == "other"
    assert "already like this" in ask(*options).output


def test_a_wrong_answer_names_key_value_and_remedy(ask, tmp_path):
    """A node name that is no part of a topic is refused as the daemon would refuse it."""
    result = ask("--yes", "--no-probe", "--node", "line 9/x", "--camera", "top=strip:")
    assert result.exit_code == 78
    assert "node" in result.output
    assert list(tmp_path.iterdir()) == []


def answered(tmp_path, **changes):
    """Answers as the page gives them, in a folder of their own."""
    (tmp_path / "draft").mkdir(exist_ok=True)
    content = {"node": "line9", "keep": [], "cameras": [{"name": "new", "source": "strip:"}], "broker": None, **changes}
    path = tmp_path / "draft" / "answers.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_dry_run_tries_shows_and_writes_nothing(ask, tmp_path):
    """The new camera is opened; the difference has no secret; the picture lies beside the answers."""
    mqtt = "mqtt: {broker: embedded, username: u, password: hidden-1}"
    before = f"node: mine\n{mqtt}\ncameras:\n- {{name: old, source: 'strip:'}}\n"
    (tmp_path / "config.yaml").write_text(before)
    login = {"name": "far", "source": "rtsp://127.0.0.1:1/x", "user": "v@w", "password": "Pa#ss"}
    answers = answered(tmp_path, keep=["old"], cameras=[{"name": "new", "source": "strip:"}, login])
    result = ask("--answers", answers, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert not found["works"]
    new, far = found["cameras"]
    assert (new["picture"], new["width"], new["error"]) == ("new.png", 800, None)
    assert (tmp_path / "draft" / "new.png").read_bytes().startswith(b"\x89PNG")
    assert "refused the connection" in far["error"]
    assert found["effect"]["added"] == ["new", "far"]
    assert found["effect"]["needs_restart"] == ["node"]
    assert "+- {name: far, source: 'rtsp://***@127.0.0.1:1/x'}" in found["difference"]
    assert "hidden-1" not in result.output
    assert "Pa#ss" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "draft"]
    assert (tmp_path / "config.yaml").read_text() == before


def test_answers_are_written_and_taken_back(ask, tmp_path):
    """A secret that is in use is never overwritten; --undo exchanges both files, and the mode of the file stays."""
    path = tmp_path / "config.yaml"
    path.write_text("node: mine\ncameras:\n- {name: old, source: 'strip:'}\n")
    path.chmod(0o640)
    before = path.read_text()
    (tmp_path / "mqtt-password").write_text("in use\n")
    broker = {"address": "mqtts://b:8883", "username": "u", "password": "other"}
    result = ask("--answers", answered(tmp_path, broker=broker), "--json")
    assert json.loads(result.stdout)["secrets"] == ["mqtt-password-2"]
    assert (tmp_path / "mqtt-password").read_text() == "in use\n"
    assert stat.S_IMODE((tmp_path / "mqtt-password-2").stat().st_mode) == 0o600
    settings = config.load(path)
    assert [camera.name for camera in settings.cameras] == ["new"]
    assert settings.mqtt.password_file == tmp_path / "mqtt-password-2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert ask("--undo").exit_code == 0
    assert path.read_text() == before
    ask("--undo")
    assert config.load(path).node == "line9"


def test_stored_password_of_the_same_user_stays(ask, tmp_path):
    """Another address, the same login: the file of the password is not asked for again."""
    (tmp_path / "pw").write_text("x\n")
    mqtt = "mqtt: {broker: 'mqtts://a:8883', username: u, password_file: pw}\n"
    (tmp_path / "config.yaml").write_text(f"node: n\n{mqtt}cameras:\n- {{name: old, source: 'strip:'}}\n")
    broker = {"address": "mqtts://b:8883", "username": "u", "keeps_password": True}
    ask("--answers", answered(tmp_path, node="n", broker=broker), "--json")
    mqtt = config.load(tmp_path / "config.yaml").mqtt
    assert (mqtt.broker, mqtt.username, mqtt.password_file) == ("mqtts://b:8883", "u", tmp_path / "pw")


def test_wrong_answers_are_refused_without_their_values(ask, tmp_path):
    """An unknown key, a name that is none: the key is named, the value is not."""
    result = ask("--answers", answered(tmp_path, cameras=[{"name": "a b", "source": "s3cr3t", "x": "s3cr3t"}]))
    assert result.exit_code == 78
    assert "cameras.0.name" in result.output
    assert "s3cr3t" not in result.output


def test_what_is_configured_is_shown_without_secrets(ask, tmp_path):
    """For the page: names, kinds, and whether there is a password."""
    text = "node: n\nmqtt: {broker: 'mqtts://a:8883', username: u, password: s3cr3t}\ncameras:\n"
    (tmp_path / "config.yaml").write_text(text + "- {name: far, source: 'rtsp://v:s3cr3t@h/x'}\n")
    result = ask("--find", "--json")
    present = json.loads(result.stdout)["present"]
    assert present["cameras"] == [{"name": "far", "source": "rtsp://***@h/x", "kind": "stream"}]
    assert (present["broker"], present["has_password"], present["can_undo"]) == ("mqtts://a:8883", True, False)
    assert "s3cr3t" not in result.output


def test_only_what_differs_is_written():
    """A default is left out."""
    new = NewConfig("l1", [NewCamera("top", "strip:"), NewCamera("cut", "clip.mp4", mode="parts", tile_px=100)])
    assert text_of(new).splitlines()[1:] == [
        "node: l1",
        "state_dir: ./var",
        "cameras:",
        "- {name: top, source: 'strip:'}",
        "- {name: cut, source: clip.mp4, mode: parts, tile_px: 100}",
    ]
