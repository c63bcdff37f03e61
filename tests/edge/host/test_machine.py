"""Facts about the machine, read from the files of a kernel."""

import logging
import os
import resource

import pytest

from edge.host import machine


def test_own_process_has_memory_and_time():
    """This process holds some megabytes and has used some time."""
    assert (machine.resident_bytes(os.getpid()) or 0) > 10 << 20
    assert (machine.cpu_seconds(os.getpid()) or 0) > 0


def test_process_that_has_ended_uses_nothing(tmp_path):
    """It has neither memory nor processor time."""
    assert machine.resident_bytes(1, tmp_path) is None
    assert machine.cpu_seconds(1, tmp_path) is None


def test_shared_memory_is_not_counted(tmp_path):
    """The ring of a camera belongs to two processes; only memory of its own can leak."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nRssAnon:\t 100 kB\nRssFile:\t 20 kB\nRssShmem:\t 5000 kB\n")
    (tmp_path / "7" / "stat").write_text("7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 1 0 100 1 1\n")
    assert machine.resident_bytes(7, tmp_path) == 120 * 1024
    assert machine.cpu_seconds(7, tmp_path) == 200 / os.sysconf("SC_CLK_TCK")


def test_sensors_are_read_where_they_exist(tmp_path):
    """A machine with sensors gives temperatures and throttling, one without gives nothing and no error."""
    assert list(machine.temperatures(tmp_path)) == []
    assert machine.throttlings(tmp_path) is None
    assert machine.pi_throttled(tmp_path) is None
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
    assert list(machine.temperatures(tmp_path)) == [("thermal_zone0:cpu-thermal", 48.312)]
    assert machine.throttlings(tmp_path) == 6
    assert machine.pi_throttled(tmp_path) == 0x50005


def pi(folder, flags):
    """The firmware's flags as a Raspberry Pi shows them."""
    path = folder / "devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(flags + "\n")


@pytest.mark.parametrize(
    ("flags", "now", "since_boot"),
    [
        ("0", (), ()),
        ("50005", ("under_voltage", "throttled"), ("under_voltage", "throttled")),
        ("a0000", (), ("frequency_capped", "hot")),
        ("8", ("hot",), ()),
    ],
)
def test_flags_of_a_raspberry_pi_are_named(tmp_path, flags, now, since_boot):
    """Bits 0 to 3 are of this moment, bits 16 to 19 since boot."""
    pi(tmp_path, flags)
    assert machine.throttling(tmp_path) == machine.Throttling(now, since_boot)


def test_pc_shows_only_that_it_was_slowed_down(tmp_path):
    """A PC has a counter only; without any counter the answer is None."""
    assert machine.throttling(tmp_path) is None
    count = tmp_path / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    count.parent.mkdir(parents=True)
    count.write_text("0\n")
    assert machine.throttling(tmp_path) == machine.Throttling()
    count.write_text("4\n")
    assert machine.throttling(tmp_path) == machine.Throttling(since_boot=("throttled",))


def test_change_of_power_is_logged_once(tmp_path, caplog):
    """The start of under-voltage is a warning in the log, its end an info line; in between nothing is logged."""
    caplog.set_level(logging.INFO, "edge")
    pi(tmp_path, "0")
    power = machine.PowerWatch(tmp_path)
    now_ns = 0
    seen = []
    for flags in ("0", "50001", "50001", "50000", "50000"):
        pi(tmp_path, flags)
        assert not now_ns or not power.check(now_ns - 1)  # too soon to check again
        seen.append(power.check(now_ns))
        now_ns += machine.CHECK_NS
    assert seen == [False, True, False, True, False]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "under_voltage" in caplog.text


def test_processors_are_distinguished_by_what_their_kernels_can_use(tmp_path):
    """The name alone is not enough on a virtual machine; a flag that no kernel uses changes nothing."""
    page = "processor : 0\nmodel name : AMD EPYC\nflags : fpu avx avx2 {}\n\nprocessor : 1\n"
    found = []
    for flag in ("", "avx512_vnni", "lm"):
        (tmp_path / "cpuinfo").write_text(page.format(flag))
        found.append(machine.processor(tmp_path))
    assert found[0] == found[2] != found[1]
    assert all(name.startswith("AMD EPYC (") for name in found)
    (tmp_path / "cpuinfo").write_text("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd08\n")
    assert machine.processor(tmp_path).startswith("implementer 0x41 part 0xd08 (")
    assert machine.processor(tmp_path / "none") == "unknown"
    assert machine.cores() >= 1


def test_process_without_file_descriptors_reads_nothing_and_logs_it_once(tmp_path, caplog):
    """EMFILE reaches neither the metrics nor the daemon's loop, and does not count as full speed."""
    count = tmp_path / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    count.parent.mkdir(parents=True)
    count.write_text("4\n")
    (tmp_path / "class/thermal/thermal_zone0").mkdir(parents=True)
    power = machine.PowerWatch(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = [
            *(machine.throttlings(tmp_path) for _ in range(3)),
            machine.throttling(tmp_path),
            machine.pi_throttled(tmp_path),
            machine.resident_bytes(os.getpid()),
            machine.cpu_seconds(os.getpid()),
        ]
        sensors = list(machine.temperatures(tmp_path))
        has_changed = power.check(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [None] * len(found)
    assert (sensors, has_changed, power.found) == ([], True, None)
    assert caplog.text.count("devices/system/cpu cannot be read") == 1
    assert machine.throttlings(tmp_path) == 4
