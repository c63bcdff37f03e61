"""Files of bounding boxes."""

from __future__ import annotations

import pytest

from trainer.data.boxes import find_boxes, read_boxes
from trainer.recipe import TrainingError


def test_boxes_file_errors_name_the_file(tmp_path):
    """A file that does not hold boxes is refused by name."""
    path = tmp_path / "boxes.json"
    path.write_text("[1, 2]", "utf-8")
    with pytest.raises(TrainingError, match=r"boxes\.json: not a file of boxes"):
        read_boxes(path)


def test_boxes_are_found_in_the_folder_or_beside_it(tmp_path):
    """boxes.json in the data folder takes precedence over neu-det/boxes.json beside it."""
    folder = tmp_path / "neu-cls"
    folder.mkdir()
    assert find_boxes(folder) is None
    beside = tmp_path / "neu-det" / "boxes.json"
    beside.parent.mkdir()
    beside.write_text('{"a_1": [["rust", 1, 2, 3, 4]]}', "utf-8")
    assert find_boxes(folder) == beside
    assert read_boxes(beside) == {"a_1": [(1, 2, 3, 4)]}
    (folder / "boxes.json").write_text("{}", "utf-8")
    assert find_boxes(folder) == folder / "boxes.json"
