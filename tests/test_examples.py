"""The configurations in examples/ are complete: the daemon would start with them, given their secrets and cameras."""

from pathlib import Path

import pytest

from edge import config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_valid_configuration(path, tmp_path):
    """Each example loads, with a secret in each file that it names."""
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    for name in ("camera-password", "mqtt-password"):
        (tmp_path / name).write_text("p@ss#word\n")
    settings = config.load(copy)
    assert settings.active_cameras
    config.require_secrets(settings, str(copy))


def test_there_are_three_examples():
    """A webcam on a bench, an RTSP line, and a recorded line scan."""
    assert [path.stem for path in EXAMPLES] == ["recorded-line-scan", "rtsp-line", "webcam"]
