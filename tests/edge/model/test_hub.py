"""hf://OWNER/NAME: a repository of the hub, or of a local stand-in for it."""

from __future__ import annotations

import functools
import http.server
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.bundles import bundle_of, zip_bundle
from fakes.foreign_networks import repository, rgb_network
from fakes.https_server import https_server

from edge.config import Model
from edge.control.model_rollout import install
from edge.errors import BundleError
from edge.host.clock import SystemClock
from edge.model import imported, signature
from edge.model.bundle import attach_signature, load
from edge.model.hub import Repository
from edge.model.store import Store


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a stand-in for the hub serves: OWNER/NAME/resolve/REVISION/FILE."""
    (tmp_path / "tls").mkdir()
    files = tmp_path / "hub"
    files.mkdir()
    with https_server(tmp_path / "tls", functools.partial(QuietFiles, directory=str(files))) as (url, certificate):  # type: ignore[arg-type]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield files


def test_addresses_become_urls_of_the_hub(monkeypatch):
    """With a revision, without one, and with another hub."""
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    place = Repository.of("hf://acme/steel-1.0")
    assert place.url("bundle.zip") == "https://huggingface.co/acme/steel-1.0/resolve/main/bundle.zip"
    assert Repository.of("hf://a/b@refs/pr/1").url("x/y.onnx").endswith("/a/b/resolve/refs%2Fpr%2F1/x/y.onnx")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert Repository.of("hf://a/b@v2").url("c.json") == "https://hub.example/a/b/resolve/v2/c.json"


@pytest.mark.parametrize(
    "address", ["hf://a", "hf://a/b/c", "hf:///b", "hf://a/../b", "hf://a/b@", "hf://a/b?x=1", "hf://a/b@../.."]
)
def test_other_addresses_are_refused(address):
    """A path that leaves the repository, a query, a missing part."""
    with pytest.raises(BundleError, match="give hf://OWNER/NAME"):
        Repository.of(address)


def test_install_fetches_the_bundle_and_keeps_the_rules_of_signatures(hub, tmp_path):
    """Unsigned it is refused; signed with a trusted key it is installed, and its origin is the address."""
    release = hub / "acme" / "steel" / "resolve" / "v1"
    release.mkdir(parents=True)
    bundle_of(tmp_path / "made", "1")
    packed = zip_bundle(tmp_path / "made" / "v1", release / "bundle.zip")
    public = signature.keygen(tmp_path / "key.pem")
    (tmp_path / "state").mkdir()
    store, model = Store(tmp_path / "state"), Model(trusted_keys=(public,))
    with pytest.raises(BundleError, match="hf://acme/steel@v1: is not signed"):
        install("hf://acme/steel@v1", model, store, SystemClock())
    attach_signature(packed, signature.sign(load(packed).card_bytes, tmp_path / "key.pem"))
    digest = install("hf://acme/steel@v1", model, store, SystemClock())
    assert digest == load(packed).digest
    assert [(one.origin, one.signed_by) for one in store.list()] == [("hf://acme/steel@v1", public)]
    with pytest.raises(BundleError, match="404"):
        install("hf://acme/steel", model, store, SystemClock())


def test_import_fetches_config_and_network(hub):
    """The two files that the repository names, nothing else."""
    repository(hub / "somebody" / "steel" / "resolve" / "main", rgb_network())
    source = imported.read("hf://somebody/steel", None, SystemClock())
    made = imported.bundle_of(source).bundle
    assert made.card.training["imported_from"] == "hf://somebody/steel"
    assert made.card.name == "somebody/steel"


def test_a_hub_without_https_is_refused(monkeypatch):
    """HF_ENDPOINT cannot lower the rule of downloads."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(BundleError, match="https://"):
        imported.read("hf://a/b", None, SystemClock())
