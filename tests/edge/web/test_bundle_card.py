"""The page reads the card of a bundle itself; a damaged bundle is no bundle."""

from __future__ import annotations

import hashlib
import zipfile

from edge.web.bundle_card import card_of

CARD = b'{"name": "student", "notes": "' + b"steel " * 400 + b'"}'
DIGEST = hashlib.sha256(CARD).hexdigest()


def test_damaged_zip_has_no_card(tmp_path):
    """Wherever a byte of the compressed card is wrong, the answer is None and no error leaves the reader."""
    whole = tmp_path / "student.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", CARD)
    assert card_of(tmp_path, str(whole), DIGEST)["name"] == "student"
    content = whole.read_bytes()
    damaged = tmp_path / "damaged.zip"
    start = content.index(b"card.json") + len(b"card.json")
    for place in range(start, start + 20):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert card_of(tmp_path, str(damaged), DIGEST) is None
