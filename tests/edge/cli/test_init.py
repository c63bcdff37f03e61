"""`defectd init`: asks, tries everything, and writes a configuration that the daemon accepts."""

import stat

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
    assert "Next: defectd run -c config.yaml" in result.output


def test_passwords_are_in_files_that_only_the_owner_reads(ask, tmp_path):
    """Neither the configuration nor the output has them; the URL refers to the file."""
    answers = ["line9", "rtsp://10.0.0.20/stream1", "", "viewer", "Pa#ss/1", "mqtts://10.0.0.9:8883", "n", "Br@ker"]
    result = ask("--no-probe", answers=answers)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "config.yaml").read_text()
    for secret, name in (("Pa#ss/1", "camera-top-password"), ("Br@ker", "mqtt-password")):
        assert secret not in text + result.output
        assert (tmp_path / name).read_text() == f"{secret}\n"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "Pa%23ss%2F1" in config.load(tmp_path / "config.yaml").cameras[0].source.get_secret_value()


def test_a_camera_that_does_not_open_writes_nothing_without_consent(ask, tmp_path):
    """The reason is shown; after a no, neither the file nor a new secret stays."""
    answers = ["line9", "rtsp://127.0.0.1:1/x", "", "viewer", "secret", "embedded", "n"]
    result = ask(answers=answers)
    assert result.exit_code == 1
    assert "✗ camera top" in result.output
    assert list(tmp_path.iterdir()) == []


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
