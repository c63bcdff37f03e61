"""Passwords, as they are kept: scrypt with a salt of their own, slow on purpose."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

N: Final = 1 << 15
R: Final = 8
P: Final = 1
MAX_MEMORY: Final = 64 << 20
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
MIN_CHARACTERS: Final = 10
MAX_CHARACTERS: Final = 200


def hashed(password: str, salt: bytes | None = None) -> str:
    """What is kept of a password.  Takes about 0.1 s and 32 MB."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return f"scrypt${N}${R}${P}${salt.hex()}${_key(password, salt, N, R, P).hex()}"


def matches(password: str, kept: str) -> bool:
    """Whether it is the password that was kept.  False as well for what `hashed` did not write."""
    try:
        kind, n, r, p, salt, key = kept.split("$")
        found = _key(password, bytes.fromhex(salt), int(n), int(r), int(p))
        return kind == "scrypt" and hmac.compare_digest(found, bytes.fromhex(key))
    except ValueError:
        return False


def _key(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=MAX_MEMORY, dklen=KEY_BYTES)


NO_PASSWORD: Final = f"scrypt${N}${R}${P}${'00' * SALT_BYTES}${'00' * KEY_BYTES}"
"""Compared with where there is no such user, so that the answer takes as long."""
