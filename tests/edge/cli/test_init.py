"""`defectd init`: asks, tries everything, and writes a configuration that the daemon accepts."""

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
