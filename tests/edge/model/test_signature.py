"""Signatures of bundles: made, verified, and refused after any change."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from fakes.bundles import card, write_bundle, zip_bundle
from fakes.networks import network

from edge.errors import BundleError
from edge.model import bundle, signature


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("key") / "release.pem"
    return path, signature.keygen(path)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    onnx = network()
    return write_bundle(tmp_path / "tiny", onnx, card(onnx))


def checked(path: Path, *trusted: str) -> str:
    loaded = bundle.load(path)
    return signature.verify(loaded.origin, loaded.card_bytes, loaded.signature, trusted)


def signed(path: Path, key_file: Path) -> Path:
    bundle.attach_signature(path, signature.sign(bundle.load(path).card_bytes, key_file))
    return path


def test_key_file_is_private_and_never_overwritten(key, tmp_path):
    """It has mode 0600; a key that others may read signs nothing; a second keygen is refused."""
    path, _ = key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(BundleError, match="cannot be written"):
        signature.keygen(path)
    lax = tmp_path / "lax.pem"
    lax.write_bytes(path.read_bytes())
    lax.chmod(0o640)
    with pytest.raises(BundleError, match="chmod 600"):
        signature.sign(b"card", lax)


def test_directory_and_zip_can_be_signed_and_signed_again(key, made, tmp_path):
    """A second signature replaces the first; the other files stay unchanged."""
    path, public = key
    archive = zip_bundle(made, tmp_path / "tiny.zip")
    for place in (made, archive):
        before = bundle.load(place)
        signed(place, path)
        signed(place, path)
        assert checked(place, "x" * 44, public) == public
        assert bundle.load(place).networks == before.networks
        assert bundle.load(place).digest == before.digest


@pytest.mark.parametrize("spot", [0, 100, -3])
def test_flipped_byte_is_found_anywhere(key, made, spot):
    """The hash finds it in the network, the signature or the JSON parser in the card."""
    path, public = key
    signed(made, path)
    for name in ("student.onnx", "card.json"):
        good = (made / name).read_bytes()
        bad = bytearray(good)
        bad[spot] ^= 1
        (made / name).write_bytes(bad)
        with pytest.raises(BundleError):
            checked(made, public)
        (made / name).write_bytes(good)
    assert checked(made, public) == public


def test_wrong_signatures_are_refused_with_the_reason(key, made, tmp_path):
    """No signature, an unknown signer, another card, malformed content, no trusted key."""
    path, public = key
    with pytest.raises(BundleError, match="is not signed"):
        checked(made, public)
    signed(made, path)
    with pytest.raises(BundleError, match="trusts no key"):
        checked(made)
    other_key = tmp_path / "other_key.pem"
    other = signature.keygen(other_key)
    with pytest.raises(BundleError, match=r"not in model\.trusted_keys"):
        checked(made, other)
    content = json.loads((made / "card.sig").read_text())
    foreign = json.loads(signature.sign(b"another card", path))
    for wrong in (
        {**content, "signature": foreign["signature"]},
        {**content, "signature": "AAAA"},
        {**content, "schema": "defectd.signature/9"},
        {**content, "signature": "%%%"},
        {"key": public},
        [],
    ):
        (made / "card.sig").write_text(json.dumps(wrong))
        with pytest.raises(BundleError):
            checked(made, public)
    for text in ("{", "[" * 3000, "x" * 5000):
        (made / "card.sig").write_text(text)
        with pytest.raises(BundleError):
            checked(made, public)


def test_file_without_a_key_signs_nothing(tmp_path):
    """The file may be missing, empty or text."""
    for content in (None, b"", b"hello"):
        path = tmp_path / "key"
        path.unlink(missing_ok=True)
        if content is not None:
            path.touch(0o600)
            path.write_bytes(content)
        with pytest.raises(BundleError, match="keygen"):
            signature.sign(b"card", path)


def test_network_cannot_replace_the_card(tmp_path):
    """A file list with card.sig, card.json or from.json is refused: the network would be written over them."""
    onnx = network()
    described = card(onnx)
    for name in ("card.sig", "card.json", "from.json"):
        described["files"] = {**described["files"], name: "0" * 64}
        with pytest.raises(BundleError, match=r"\.onnx"):
            bundle.load(write_bundle(tmp_path / "tiny", onnx, described))
