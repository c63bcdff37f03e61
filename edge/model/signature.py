"""Signatures of bundles: who made a bundle, and that nobody changed it since.

`card.sig` in a bundle holds an Ed25519 signature over `card.json`, which lists the sha256 of every other file: the
signature covers the whole bundle. A public key is written as the base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.errors import BundleError

SCHEMA: Final = "defectd.signature/1"
PURPOSE: Final = b"defectd.bundle/1\n"
"""Prefix of the signed bytes: a signature that the same key made for another purpose is not valid for a bundle."""
KEY_BYTES: Final = 16 * 1024


def keygen(path: Path) -> str:
    """Write a new private key (PKCS 8, PEM, mode 0600), overwriting nothing.

    Returns the public key.  Raises BundleError.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
    except OSError as error:
        raise BundleError(f"{path}: the key cannot be written: {error.strerror}") from error
    return _public(key)


def sign(card: bytes, key_file: Path) -> bytes:
    """Make the content of card.sig.  card: bytes of card.json.  Raises BundleError."""
    try:
        with key_file.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise BundleError(f"{key_file}: others may read this key. Run: chmod 600 {key_file}")
            key = serialization.load_pem_private_key(file.read(KEY_BYTES), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        remedy = "Make one with `defectd model keygen FILE`"
        raise BundleError(f"{key_file}: not a usable private key: {error}. {remedy}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{key_file}: not an Ed25519 key. Make one with `defectd model keygen FILE`")
    content = {"schema": SCHEMA, "key": _public(key), "signature": base64.b64encode(key.sign(PURPOSE + card)).decode()}
    return json.dumps(content, indent=1).encode() + b"\n"


def verify(origin: str, card: bytes, signature: bytes | None, trusted: Sequence[str]) -> str:
    """The public key that signed the bundle, one of `trusted`.  Raises BundleError."""
    if signature is None:
        raise BundleError(f"{origin}: is not signed. Sign it with `defectd model sign`, or set model.allow_unsigned")
    if not trusted:
        raise BundleError(f"{origin}: this node trusts no key. Add the signer's public key to model.trusted_keys")
    try:
        content = json.loads(signature)
        key, signed, schema = (
            str(content["key"]),
            base64.b64decode(content["signature"], validate=True),
            content["schema"],
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{origin}: card.sig is not a signature. Copy or sign the bundle again") from error
    if schema != SCHEMA:
        raise BundleError(f"{origin}: card.sig is {str(schema)[:40]!r}, not {SCHEMA}")
    if key not in trusted:
        raise BundleError(f"{origin}: the signer {key[:64]!r} is not in model.trusted_keys")
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signed, PURPOSE + card)
    except (InvalidSignature, ValueError) as error:
        raise BundleError(f"{origin}: the signature is wrong: the bundle was changed after it was signed") from error
    return key


def _public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
