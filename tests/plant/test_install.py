"""install.sh in a booted Debian: each way in and out, each twice with the same result."""

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
    """What the machines see: this checkout, bundles of several releases, and the site's configuration."""
    need_nspawn()
    here = CACHE / "releases"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    (here / "config.yaml").write_text(yaml.safe_dump(SITE))
    bundle(ROOT, here / "first")
    for name, version, faults in (
        ("second", "9.0.0", {}),
        ("broken", "9.1.0", {"daemon": NEVER_READY}),
        ("dying", "9.2.0", {"daemon": DIES_SOON}),
        ("refusing", "9.3.0", {"config": REFUSES}),
    ):
        bundle(checkout(here / f"{name}-source", version, **faults), here / name)
    yield {"/checkout": ROOT, "/site": here}
    shutil.rmtree(here)


@pytest.fixture
def box(folders: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(CACHE / f"box-{request.node.name.split('_')[1]}", folders) as machine:
        yield machine


def state(box: Machine) -> dict[str, str]:
    """Everything that an install leaves, to be compared: files with owner and mode, the unit, the user."""
    places = "/etc/defectd /etc/systemd/system /etc/udev/rules.d /etc/systemd/journald.conf.d /usr/local/bin"
    found = {
        "files": f"find {places} -printf '%p %u:%g %m %l\\n' 2>/dev/null | sort",
        "contents": "cat /etc/defectd/config.yaml /etc/systemd/system/defectd.service 2>/dev/null | sha256sum",
        "versions": "ls /opt/defectd/versions 2>/dev/null; readlink /opt/defectd/current",
        "unit": "systemctl is-enabled defectd; systemctl is-active defectd",
        "user": "getent passwd defectd",
        "kept": "ls -d /etc/defectd /var/lib/defectd 2>/dev/null",
    }
    return {what: box.run("sh", "-c", command).stdout for what, command in found.items()}


def event_ids(box: Machine) -> set[str]:
    lines = box.must("defectd", "events", "-c", "/etc/defectd/config.yaml", "-n", "100000", "--json").splitlines()
    return {json.loads(line)["event_id"] for line in lines}


def running_version(box: Machine) -> str:
    assert box.show("ActiveState") == "active"
    return box.must("defectd", "--version").split()[-1]


def test_checkout_installs_and_runs_and_goes_without_a_trace(box):
    """From a checkout over the network: twice the same; uninstall keeps, and --purge takes, what is the site's."""
    install = ("/checkout/deploy/install.sh", "--config", "/site/config.yaml")
    said = box.must(*install)
    assert "runs: " in said
    first, pid = state(box), box.show("MainPID")
    assert "0.1.0" in running_version(box)
    assert "already there" in box.must(*install)
    assert state(box) == first
    assert box.show("MainPID") == pid, "a second install interrupts nothing"
    assert box.must("sh", "-c", "git -C /checkout status --porcelain 2>/dev/null || true") == ""

    uninstall = ("/checkout/deploy/install.sh", "--uninstall")
    box.must(*uninstall)
    gone = state(box)
    assert gone["kept"].split() == ["/etc/defectd", "/var/lib/defectd"]
    assert "defectd.service" not in gone["files"]
    assert gone["versions"] == ""
    box.must(*uninstall)
    assert state(box) == gone

    box.must(*install)
    assert state(box) == first
    box.must(*uninstall, "--purge")
    nothing = state(box)
    assert nothing["kept"] == nothing["user"] == ""
    box.must(*uninstall, "--purge")
    assert state(box) == nothing


def test_bundle_upgrades_falls_back_and_goes_back(box):
    """Without a network: install, upgrade, three kinds of failed upgrade, rollback; each twice; events are kept."""
    release = lambda name: (f"/site/{name}/install.sh",)  # noqa: E731
    box.must(*release("first"), "--config", "/site/config.yaml")
    first = state(box)
    box.must(*release("first"))
    assert state(box) == first
    stored = event_ids(box)
    assert stored
    box.must("sh", "-c", "echo '# ours' >> /etc/defectd/config.yaml")

    for _ in range(2):
        box.must(*release("second"))
        assert running_version(box) == "9.0.0"
        assert box.must("tail", "-n", "1", "/etc/defectd/config.yaml") == "# ours\n"
        assert stored <= event_ids(box), "the outbox is kept"
    second = state(box)
    assert len(second["versions"].splitlines()) == 3, "two versions and the one in use"

    for name, words in (("broken", "this release is broken"), ("dying", "does not become ready")):
        for _ in range(2):
            done = box.run(*release(name))
            assert done.returncode == 1
            assert words in done.stderr
            assert "runs again" in done.stderr
            assert running_version(box) == "9.0.0"
            assert state(box)["contents"] == second["contents"]
    pid = box.show("MainPID")
    for _ in range(2):
        done = box.run(*release("refusing"))
        assert done.returncode == 1
        assert "this release knows no node" in done.stderr
        assert box.show("MainPID") == pid, "what runs is not touched"

    box.must(*release("second"))
    assert state(box) == second, "what failed is cleared away"
    box.must("/site/second/install.sh", "--rollback")
    assert running_version(box) == "0.1.0"
    box.must("/site/second/install.sh", "--rollback")
    assert running_version(box) == "9.0.0"

    box.must("systemctl", "disable", "--now", "defectd")
    box.must(*release("first"))
    assert box.show("ActiveState") == "inactive", "what was stopped by hand stays stopped"


def test_first_install_without_a_configuration_starts_nothing_and_says_what_next(box):
    """The example is there, valid, and not used; a second install changes nothing; network cameras hide devices."""
    said = box.must("/site/first/install.sh", "--network-cameras")
    assert "config.example.yaml" in said
    first = state(box)
    assert "disabled\ninactive\n" in first["unit"]
    box.must("defectd", "check", "-c", "/etc/defectd/config.example.yaml")
    box.must("/site/first/install.sh")
    assert state(box) == first
    exposure = box.run("systemd-analyze", "security", "--no-pager", "--threshold=11", "defectd")
    assert exposure.returncode == 0, exposure.stdout[-100:]
    box.must("systemd-analyze", "verify", "/etc/systemd/system/defectd.service")
    rules = box.run("udevadm", "test", "/sys/class/net/lo").stderr
    assert "60-defectd-cameras.rules" in rules
    assert not [line for line in rules.splitlines() if "60-defectd-cameras.rules:" in line], rules


def test_damaged_or_foreign_bundle_is_refused_before_anything_happens(box):
    """A flipped byte, a missing file, wheels for another Python: named, with the remedy; nothing is left."""
    before = state(box)
    box.must("cp", "-r", "/site/first", "/root/bundle")
    install = "/root/bundle/install.sh"
    flip = "printf x | dd of=$(ls defectd-*) bs=1 seek=500 conv=notrunc status=none"
    box.must("sh", "-c", f"cd /root/bundle/wheels && {flip}")
    damaged = box.run(install)
    assert damaged.returncode == 1
    assert "damaged" in damaged.stderr
    box.must("sh", "-c", "cp /site/first/wheels/defectd-* /root/bundle/wheels/ && rm /root/bundle/wheels/numpy*")
    assert "damaged" in box.run(install).stderr
    box.must(
        "sh",
        "-c",
        "cd /root/bundle && echo '3.13 aarch64' > targets && sed -i '/targets/d' SHA256SUMS && "
        "rm -f x && sha256sum ./targets >> SHA256SUMS && cp /site/first/wheels/numpy* wheels/",
    )
    foreign = box.run(install)
    assert foreign.returncode == 1
    assert "this machine is 3.11" in foreign.stderr
    assert state(box) == before


@pytest.fixture(scope="session")
def package() -> Path:
    """The Debian package, made with the tools of this machine."""
    need_nspawn()
    here = CACHE / "deb"
    shutil.rmtree(here, ignore_errors=True)
    done = subprocess.run([str(ROOT / "deploy/deb.sh"), str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = here.glob("*.deb")
    return found


def test_debian_package_installs_upgrades_and_is_purged(package, folders, request):
    """dpkg: configured and running with the site's configuration; again the same; remove keeps, purge takes all."""
    with Machine(CACHE / "box-deb", {**folders, "/package": package.parent}) as box:
        box.must("install", "-D", "-m", "644", "/site/config.yaml", "/etc/defectd/config.yaml")
        for _ in range(2):
            box.must("dpkg", "--install", f"/package/{package.name}")
            assert running_version(box) == "0.1.0"
        box.must("dpkg", "--remove", "defectd")
        assert state(box)["kept"].split() == ["/etc/defectd", "/var/lib/defectd"]
        box.must("dpkg", "--purge", "defectd")
        after = state(box)
        assert after["kept"] == after["user"] == after["versions"] == ""
