"""The file of what a calibration learned."""

import numpy as np
import pytest

from edge.errors import ConfigError
from edge.vision import learned_file
from edge.vision.learned_file import Model

MODEL = Model("student", "1.0", "a" * 64)
SCHEMA = "defectd.test/1"


def content():
    return learned_file.coded(SCHEMA, MODEL, {"gain": 2}, {"rows": np.arange(12, dtype=np.float32)})


def test_what_is_coded_is_decoded():
    """Network, head and arrays are those that were written."""
    model, head, arrays = learned_file.decoded(content(), SCHEMA)
    assert (model, head["gain"], arrays["rows"].tolist()) == (MODEL, 2, list(range(12)))


def test_every_damaged_byte_is_refused_or_harmless(tmp_path):
    """A flipped compression, an encrypted member, a wrong length: a message names the key and the remedy."""
    whole, path, refusals = content(), tmp_path / "top.npz", []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (0x01 if place % 2 else 0xFF)]) + whole[place + 1 :])
        try:
            learned_file.read(
                path, lambda b: learned_file.decoded(b, SCHEMA), key="classes", what="classes", remedy="Teach again"
            )
        except ConfigError as error:
            refusals.append(str(error))
    assert len(refusals) > len(whole) / 2
    assert all("Teach again" in text for text in refusals)


def test_a_file_of_another_kind_is_refused():
    """Its schema is named."""
    with pytest.raises(ValueError, match=r"defectd.test/1.*made by another version"):
        learned_file.decoded(content(), "defectd.other/1")
