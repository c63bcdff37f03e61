"""install.sh in a booted Debian: installs, upgrades and removals give the same result twice."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from machine import CACHE, ROOT, Machine, need_nspawn
from releases import DIES_SOON, NEVER_READY, REFUSES, bundle, checkout

from edge import __version__

pytestmark = pytest.mark.plant
SITE = {
    "node": "line3",
    "state_dir": "/var/lib/defectd",
    "report_s": 1.0,
    "mqtt": {"broker": "mqtt://127.0.0.1:9"},
    "cameras": [{"name": "top", "source": "strip:", "fps": 10, "budget_ms": 1000}],
}


@pytest.fixture(scope="session")
def folders() -> Iterator[dict[str, Path]]:
    """The folders that machines mount: this checkout, bundles of several releases, and the site's configuration."""
    need_nspawn()
    here = CACHE / "releases"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    (here / "config.yaml").write_text(yaml.safe_dump(SITE))
    bundle(ROOT, here / "first")
    for name, version, faults in (
        ("second", "9.0.0", {}),
        ("broken", "9.1.0", {"edge/daemon.py": NEVER_READY}),
        ("dying", "9.2.0", {"edge/daemon.py": DIES_SOON}),
        ("refusing", "9.3.0", {"edge/config/loader.py": REFUSES}),
    ):
        bundle(checkout(here / f"{name}-source", version, faults), here / name)
    yield {"/checkout": ROOT, "/site": here}
    shutil.rmtree(here)


@pytest.fixture
def machine(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(CACHE / f"box-{request.node.name.split('_')[1]}", folders) as machine:
        yield machine


def state(machine: Machine) -> dict[str, str]:
    """Everything that an install changes, for comparisons: files with owner and mode, the unit, the user."""
    places = "/etc/defectd /etc/systemd/system /etc/udev/rules.d /etc/systemd/journald.conf.d /usr/local/bin"
    places += " /usr/local/share/man/man1 /usr/local/share/bash-completion"
    found = {
        "files": f"find {places} -printf '%p %u:%g %m %l\\n' 2>/dev/null | sort",
        "contents": "cat /etc/defectd/config.yaml /etc/systemd/system/defectd.service 2>/dev/null | sha256sum",
        "versions": "ls /opt/defectd/versions 2>/dev/null; readlink /opt/defectd/current",
        "unit": "systemctl is-enabled defectd; systemctl is-active defectd",
        "user": "getent passwd defectd",
        "kept": "ls -d /etc/defectd /var/lib/defectd 2>/dev/null",
    }
    return {what: machine.run("sh", "-c", command).stdout for what, command in found.items()}


def event_ids(machine: Machine) -> set[str]:
    lines = machine.must("defectd", "events", "-c", "/etc/defectd/config.yaml", "-n", "100000", "--json").splitlines()
    return {json.loads(line)["event_id"] for line in lines}


def running_version(machine: Machine) -> str:
    assert machine.show("ActiveState") == "active"
    return machine.must("defectd", "--version").split()[-1]


def test_checkout_installs_and_runs_and_uninstalls_without_a_trace(machine):
    """A second install changes nothing; uninstall keeps the files of the site, and --purge removes them."""
    install = ("/checkout/deploy/install.sh", "--config", "/site/config.yaml")
    output = machine.must(*install)
    assert "runs: " in output
    first, pid = state(machine), machine.show("MainPID")
    assert running_version(machine) == __version__
    assert "is already installed" in machine.must(*install)
    assert state(machine) == first
    assert machine.show("MainPID") == pid, "a second install restarts nothing"
    assert machine.must("sh", "-c", "git -C /checkout status --porcelain 2>/dev/null || true") == ""

    uninstall = ("/checkout/deploy/install.sh", "--uninstall")
    machine.must(*uninstall)
    gone = state(machine)
    assert gone["kept"].split() == ["/etc/defectd", "/var/lib/defectd"]
    for name in ("defectd.service", "man1/defectd.1", "completions/defectd"):
        assert name in first["files"]
        assert name not in gone["files"]
    assert gone["versions"] == ""
    machine.must(*uninstall)
    assert state(machine) == gone

    machine.must(*install)
    assert state(machine) == first
    machine.must(*uninstall, "--purge")
    nothing = state(machine)
    assert nothing["kept"] == nothing["user"] == ""
    machine.must(*uninstall, "--purge")
    assert state(machine) == nothing


def test_bundle_upgrades_falls_back_and_rolls_back(machine):
    """Install, upgrade, three kinds of failed upgrade and rollback work without a network, and keep all events."""
    release = lambda name: (f"/site/{name}/install.sh",)  # noqa: E731
    machine.must(*release("first"), "--config", "/site/config.yaml")
    first = state(machine)
    machine.must(*release("first"))
    assert state(machine) == first
    stored = event_ids(machine)
    assert stored
    machine.must("sh", "-c", "echo '# ours' >> /etc/defectd/config.yaml")

    for _ in range(2):
        machine.must(*release("second"))
        assert running_version(machine) == "9.0.0"
        assert machine.must("tail", "-n", "1", "/etc/defectd/config.yaml") == "# ours\n"
        assert stored <= event_ids(machine), "the outbox is kept"
    second = state(machine)
    assert len(second["versions"].splitlines()) == 3, "two versions and the one in use"

    for name, words in (("broken", "this release is broken"), ("dying", "does not become ready")):
        for _ in range(2):
            done = machine.run(*release(name))
            assert done.returncode == 1
            assert words in done.stderr
            assert "runs again" in done.stderr
            assert running_version(machine) == "9.0.0"
            assert state(machine)["contents"] == second["contents"]
    pid = machine.show("MainPID")
    for _ in range(2):
        done = machine.run(*release("refusing"))
        assert done.returncode == 1
        assert "this release knows no node" in done.stderr
        assert machine.show("MainPID") == pid, "the running version is not touched"

    machine.must(*release("second"))
    assert state(machine) == second, "the failed versions are removed"
    machine.must("/site/second/install.sh", "--rollback")
    assert running_version(machine) == __version__
    machine.must("/site/second/install.sh", "--rollback")
    assert running_version(machine) == "9.0.0"

    machine.must("systemctl", "disable", "--now", "defectd")
    machine.must(*release("first"))
    assert machine.show("ActiveState") == "inactive", "a unit that was stopped by hand stays stopped"


def test_first_install_without_a_configuration_starts_nothing_and_names_the_example(machine):
    """The example is valid and not used; a second install changes nothing; --network-cameras hides devices."""
    output = machine.must("/site/first/install.sh", "--network-cameras")
    assert "config.example.yaml" in output
    first = state(machine)
    assert "disabled\ninactive\n" in first["unit"]
    machine.must("defectd", "check", "-c", "/etc/defectd/config.example.yaml")
    machine.must("/site/first/install.sh")
    assert state(machine) == first
    exposure = machine.run("systemd-analyze", "security", "--no-pager", "--threshold=11", "defectd")
    assert exposure.returncode == 0, exposure.stdout[-100:]
    machine.must("systemd-analyze", "verify", "/etc/systemd/system/defectd.service")
    rules = machine.run("udevadm", "test", "/sys/class/net/lo").stderr
    assert "60-defectd-cameras.rules" in rules
    assert not [line for line in rules.splitlines() if "60-defectd-cameras.rules:" in line], rules


def test_damaged_or_foreign_bundle_is_refused_before_anything_changes(machine):
    """The message names a flipped byte, a missing file or wheels for another Python, and the remedy."""
    before = state(machine)
    machine.must("cp", "-r", "/site/first", "/root/bundle")
    install = "/root/bundle/install.sh"
    flip = "printf x | dd of=$(ls defectd-*) bs=1 seek=500 conv=notrunc status=none"
    machine.must("sh", "-c", f"cd /root/bundle/wheels && {flip}")
    damaged = machine.run(install)
    assert damaged.returncode == 1
    assert "damaged" in damaged.stderr
    machine.must("sh", "-c", "cp /site/first/wheels/defectd-* /root/bundle/wheels/ && rm /root/bundle/wheels/numpy*")
    assert "damaged" in machine.run(install).stderr
    machine.must(
        "sh",
        "-c",
        "cd /root/bundle && echo '3.13 aarch64' > targets && sed -i '/targets/d' SHA256SUMS && "
        "rm -f x && sha256sum ./targets >> SHA256SUMS && cp /site/first/wheels/numpy* wheels/",
    )
    foreign = machine.run(install)
    assert foreign.returncode == 1
    assert "this machine is 3.11" in foreign.stderr
    assert state(machine) == before


@pytest.fixture(scope="session")
def package() -> Path:
    """The Debian package, built with the tools of this machine."""
    need_nspawn()
    here = CACHE / "deb"
    shutil.rmtree(here, ignore_errors=True)
    done = subprocess.run([str(ROOT / "deploy/deb.sh"), str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = here.glob("*.deb")
    return found


def test_debian_package_installs_upgrades_and_is_purged(package, folders, request):
    """dpkg installs it with the site's configuration, also twice; remove keeps the site's files, purge removes them."""
    with Machine(CACHE / "box-deb", {**folders, "/package": package.parent}) as machine:
        machine.must("install", "-D", "-m", "644", "/site/config.yaml", "/etc/defectd/config.yaml")
        for _ in range(2):
            machine.must("dpkg", "--install", f"/package/{package.name}")
            assert running_version(machine) == __version__
        machine.must("dpkg", "--remove", "defectd")
        assert state(machine)["kept"].split() == ["/etc/defectd", "/var/lib/defectd"]
        machine.must("dpkg", "--purge", "defectd")
        after = state(machine)
        assert after["kept"] == after["user"] == after["versions"] == ""
