import json

import numpy as np

from platform.data.detection.arrays import open_arrays


def test_the_arrays_of_an_earlier_version_are_read(tmp_path):
    """Check that the input size is the arrays' shape, whatever an old index.json calls it or whether it has it."""
    np.save(tmp_path / "images.npy", np.zeros((2, 3, 64, 96), np.uint8))
    np.save(tmp_path / "boxes.npy", np.array([[1, 2, 30, 40]], np.float32))
    np.save(tmp_path / "labels.npy", np.array([1]))
    index = {"classes": ["ant"], "first_box": [0, 1, 1], "splits": ["train", "val"], "paths": ["a.png", "b.png"]}
    (tmp_path / "index.json").write_text(json.dumps({**index, "canvas": [64, 96]}))
    arrays = open_arrays(tmp_path)
    assert arrays.input_size == (64, 96)
    assert (arrays.classes, arrays.training_images) == (["ant"], [1])
    assert arrays.target(0)["boxes"].tolist() == [[1, 2, 30, 40]]
    assert arrays.target(1)["labels"].tolist() == []
