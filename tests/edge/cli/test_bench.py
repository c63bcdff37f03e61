"""`defectd bench`: its options."""

from __future__ import annotations

from click.testing import CliRunner

from edge.cli.bench import bench


def test_the_old_name_of_camera_count_is_refused_with_the_new_name() -> None:
    """`--hold N` is a usage error, exit code 2, that names --camera-count; --help does not list it."""
    result = CliRunner().invoke(bench, ["--hold", "1"])
    assert result.exit_code == 2
    assert "--camera-count" in result.stderr
    shown = CliRunner().invoke(bench, ["--help"]).output
    assert "--camera-count" in shown
    assert "--hold" not in shown


def test_camera_count_is_bounded() -> None:
    """From 1 to 64: each camera is a process."""
    for count in ("0", "65"):
        assert CliRunner().invoke(bench, ["--camera-count", count]).exit_code == 2
