"""What the machine says of itself, from files laid out as the kernel lays them out."""

import os

from edge import box


def test_own_process_has_memory_and_time():
    """This process holds some megabytes and has used some time."""
    assert (box.resident_bytes(os.getpid()) or 0) > 10 << 20
    assert (box.cpu_seconds(os.getpid()) or 0) > 0


def test_process_that_is_gone_has_none(tmp_path):
    """Neither memory nor time of what does not exist."""
    assert box.resident_bytes(1, tmp_path) is None
    assert box.cpu_seconds(1, tmp_path) is None


def test_shared_memory_is_not_counted(tmp_path):
    """The ring of a camera lies in two processes; a leak is what is its own."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nRssAnon:\t 100 kB\nRssFile:\t 20 kB\nRssShmem:\t 5000 kB\n")
    (tmp_path / "7" / "stat").write_text("7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 1 0 100 1 1\n")
    assert box.resident_bytes(7, tmp_path) == 120 * 1024
    assert box.cpu_seconds(7, tmp_path) == 200 / os.sysconf("SC_CLK_TCK")


def test_sensors_are_read_where_they_are(tmp_path):
    """Temperatures and throttling of a box that has them; nothing, and no error, of one that has not."""
    assert list(box.temperatures(tmp_path)) == []
    assert box.throttlings(tmp_path) is None
    assert box.pi_throttled(tmp_path) is None
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48312\n")
    asleep = tmp_path / "class/thermal/thermal_zone1"
    asleep.mkdir()
    for n in range(2):
        core = tmp_path / f"devices/system/cpu/cpu{n}/thermal_throttle"
        core.mkdir(parents=True)
        (core / "core_throttle_count").write_text("3\n")
    firmware = tmp_path / "devices/platform/soc/soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    assert list(box.temperatures(tmp_path)) == [("thermal_zone0:cpu-thermal", 48.312)]
    assert box.throttlings(tmp_path) == 6
    assert box.pi_throttled(tmp_path) == 0x50005
