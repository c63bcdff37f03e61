"""Layouts of data folders and spellings of classes."""

from __future__ import annotations

import pytest
import surfaces

from trainer.data.index import index_folder


@pytest.mark.parametrize(
    "names",
    [("Cr", "In", "RS"), ("crazing", "inclusion", "rolled-in_scale"), ("Crazing", "inclusion", "rolled in scale")],
)
def test_neu_is_known_in_every_spelling(tmp_path, names):
    """Short, long and loosely spelled class folders get the names of the model card."""
    for n, name in enumerate(names):
        surfaces.write(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    assert index_folder(tmp_path).classes == ("crazing", "inclusion", "rolled-in_scale")


def test_neu_is_known_without_folders(tmp_path):
    """NEU-CLS as it is published: BMP files named by class and number in one folder."""
    for n, prefix in enumerate(("PS", "Sc")):
        surfaces.write(tmp_path / "images", [f"{prefix}_{k}" for k in range(1, 8)], 10 * n, ".bmp")
    index = index_folder(tmp_path)
    assert index.classes == ("pitted_surface", "scratches")
    assert len(index.pictures) == 14


def test_own_class_names_stay_as_they_are(tmp_path):
    """`in` beside a class of the user's own is not taken for inclusion."""
    for n, name in enumerate(("in", "out")):
        surfaces.write(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    assert index_folder(tmp_path).classes == ("in", "out")
