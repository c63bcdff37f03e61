"""Pictures: how files are read and cut into tiles."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import surfaces

from trainer.data.index import index_folder
from trainer.data.pictures import cut, read, tile_px
from trainer.recipe import TrainingError


def test_read_names_the_file_that_is_no_picture(tmp_path):
    """An unreadable picture is an error with its path, not a black tile."""
    for content in (b"", b"not a picture"):
        bad = tmp_path / "bad.png"
        bad.write_bytes(content)
        with pytest.raises(TrainingError, match=r"bad\.png: is (empty|not an image).* Remove or replace it"):
            read(bad)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_formats_give_the_same_picture(tmp_path, suffix):
    """8 bit in four formats, and 16 bit if the format has it, are read as the daemon reads them."""
    picture = surfaces.texture(1)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    assert np.abs(read(tmp_path / f"a{suffix}").astype(int) - picture).mean() < (2 if suffix == ".jpg" else 1e-9)
    if suffix in (".png", ".tif"):
        cv2.imwrite(str(tmp_path / f"b{suffix}"), picture.astype(np.uint16) * 256 + 200)
        assert (read(tmp_path / f"b{suffix}") == picture).all()


def test_mixed_sizes_are_cut_each_at_its_own_scale(tmp_path):
    """Pictures of several sizes and shapes can be mixed: each shorter side fills the tile."""
    for n, name in enumerate(("dent", "rust")):
        surfaces.write(tmp_path / name, [f"{k}" for k in range(6)], 10 * n)
    cv2.imwrite(str(tmp_path / "dent" / "wide.png"), cv2.resize(surfaces.texture(90), (500, 250)))
    index = index_folder(tmp_path)
    wide = next(p for p in index.pictures if p.path.stem == "wide")
    assert cut(read(wide.path), 100).shape == (2, 100, 100)
    assert tile_px(index.pictures) == 120
