"""Installed bundles: written atomically, bounded, and always one that can be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.bundles import card, write_bundle
from fakes.clock import FakeClock
from fakes.networks import network

from edge.errors import BundleError
from edge.model import bundle
from edge.model.store import CONFIGURED, ActiveModel, Store

ONNX = network()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def made(tmp_path: Path, version: int) -> bundle.Bundle:
    return bundle.load(write_bundle(tmp_path / f"made{version}", ONNX, card(ONNX, version=str(version))))


def test_bundle_is_stored_unchanged_under_its_digest(store, tmp_path):
    """It loads equal; installing it again changes nothing; a prefix of the digest finds it."""
    loaded = made(tmp_path, 1)
    digest = store.put(loaded, "key", FakeClock())
    assert store.put(loaded, "key", FakeClock()) == digest == loaded.digest
    back = store.get(digest)
    assert (back.card_bytes, back.networks, back.digest) == (loaded.card_bytes, loaded.networks, digest)
    listed = store.list()
    assert [(s.digest, s.name, s.version, s.signed_by) for s in listed] == [(digest, "tiny", "1", "key")]
    assert store.find(digest[:8]) == digest
    assert sorted(path.name for path in store.folder.iterdir()) == [digest]
    assert store.folder.stat().st_mode & 0o777 == 0o700


def test_missing_or_damaged_bundle_is_refused(store, tmp_path):
    """So is a name that is no digest."""
    digest = store.put(made(tmp_path, 1), None, FakeClock())
    for wrong in ("0" * 64, "../made1", "", digest[:20]):
        with pytest.raises(BundleError, match="is installed"):
            store.get(wrong)
    with pytest.raises(BundleError, match="0 installed bundles"):
        store.find("ffff")
    place = store.folder / digest / "card.json"
    place.write_bytes(place.read_bytes().replace(b'"1"', b'"2"'))
    with pytest.raises(BundleError, match="damaged"):
        store.get(digest)


def test_quota_deletes_the_oldest_but_never_the_active_model_or_its_predecessor(store, tmp_path):
    """The quota limits number and bytes."""
    clock = FakeClock()
    digests = []
    for version in range(6):
        digests.append(store.put(made(tmp_path, version), None, clock))
        clock.advance(60)
    active = ActiveModel("builtin", current=digests[0], previous=digests[1])
    deleted = store.prune(keep=4, keep_bytes=1 << 30, active=active)
    assert set(deleted) == {digests[2], digests[3]}
    assert {s.digest for s in store.list()} == {digests[0], digests[1], digests[4], digests[5]}
    size = store.list()[0].size
    deleted = store.prune(keep=4, keep_bytes=3 * size + 10, active=active)
    assert deleted == (digests[4],)
    assert set(store.prune(keep=2, keep_bytes=1, active=active)) == {digests[5]}
    assert {s.digest for s in store.list()} == {digests[0], digests[1]}


def test_active_model_survives_a_restart_and_a_canary_can_go_back(store):
    """A rollback leads to the predecessor; a rejected model is remembered until it is installed again."""
    a, b = "a" * 64, "b" * 64
    active = ActiveModel("builtin").with_canary(a, {"top": {"delivered": 9}}).promoted().with_canary(b, {})
    assert (active.current, active.previous, active.is_canary) == (b, a, True)
    store.write(active)
    assert store.active("builtin") == active
    back = active.rolled_back("too slow")
    assert (back.current, back.previous, back.is_canary, back.rejected) == (a, None, False, {b: "too slow"})
    assert back.rolled_back().current == CONFIGURED
    assert back.with_canary(b, {}).rejected == {}


def test_changed_configuration_overrides_the_active_model(store):
    """A model.bundle that was edited after an installation is the bundle that is used."""
    store.write(ActiveModel("builtin").with_canary("a" * 64, {}))
    assert store.active("/opt/new.zip").current == CONFIGURED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "x"}', "null"])
def test_unreadable_file_gives_the_configured_model(store, text):
    """The configured bundle decides, and nothing raises."""
    store.folder.mkdir()
    (store.folder / "standing.json").write_text(text)
    assert store.active("builtin") == ActiveModel("builtin")


def test_file_with_wrong_values_gives_the_configured_model(store):
    """Malformed digests and unknown keys raise nothing."""
    store.write(replace(ActiveModel("builtin"), current="a" * 64))
    path = store.folder / "standing.json"
    good = json.loads(path.read_text())
    for wrong in ({"current": "../../etc"}, {"current": 3}, {"previous": ["x"]}, {"more": 1}):
        path.write_text(json.dumps({**good, **wrong}))
        assert store.active("builtin") == ActiveModel("builtin")


def test_unwritable_disk_raises_and_leaves_nothing(tmp_path):
    """A file in the place of the folder fails as a full or read-only disk would."""
    (tmp_path / "models").write_text("no folder")
    store = Store(tmp_path)
    with pytest.raises(BundleError, match="cannot be written"):
        store.put(made(tmp_path, 1), None, FakeClock())
    with pytest.raises(BundleError, match="cannot be written"):
        store.write(ActiveModel("builtin"))
    assert store.list() == ()


def test_file_of_version_0_1_is_read_and_its_keys_are_kept(store):
    """`on_trial`, `starts` and `before` are the keys on disk: both versions read the file of the other."""
    content = {
        "schema": "defectd.standing/1",
        "configured": "builtin",
        "current": "a" * 64,
        "previous": "b" * 64,
        "on_trial": True,
        "starts": 2,
        "before": {"top": {"delivered": 9}},
        "rejected": {"c" * 64: "too slow"},
    }
    store.folder.mkdir()
    path = store.folder / "standing.json"
    path.write_text(json.dumps(content))
    active = store.active("builtin")
    assert (active.is_canary, active.unclean_starts, active.baseline) == (True, 2, {"top": {"delivered": 9}})
    store.write(active)
    assert json.loads(path.read_text()) == content
