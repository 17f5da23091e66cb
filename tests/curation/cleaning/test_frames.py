"""Tests of the frames that boxes were drawn in."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from platform.curation.cleaning.findings import Action
from platform.curation.cleaning.frames import MAYBE_TURNED, OTHER_SIZE, RELATIVE, TURNED, Frame, read, upright

SIZE = (60, 100)  # upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_as_pillow_turns_the_picture(orientation):
    pixels = np.zeros((30, 50), np.uint8)
    box = (5, 2, 17, 9)
    pixels[2:9, 5:17] = 255
    stored = Image.fromarray(pixels)
    stored.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(stored)
    assert upright(box, orientation, *turned.size) == turned.getbbox()


@pytest.mark.parametrize(
    ("boxes", "frame", "kind", "action", "mended"),
    [
        ([(0.1, 0.1, 0.5, 0.5)], Frame(*SIZE, 0, None, True), RELATIVE, Action.REPAIRED, [(6, 10, 30, 50)]),
        ([(0.1, 0.1, 0.5, 0.5)], Frame(*SIZE, 0, None, False), None, None, None),  # YOLO is relative as it is
        ([(0.1, 0.1, 0.5, 0.5), (3, 3, 9, 9)], Frame(*SIZE, 0, None, True), None, None, None),
        ([(6, 10, 30, 50)], Frame(*SIZE, 0, SIZE, True), None, None, None),
        ([(6, 10, 30, 50)], Frame(*SIZE, 0, (61, 100), True), None, None, None),  # rounded
        ([(12, 20, 110, 50)], Frame(*SIZE, 0, (120, 200), True), OTHER_SIZE, Action.REPAIRED, [(6, 10, 55, 25)]),
        ([(12, 20, 130, 50)], Frame(*SIZE, 0, (120, 200), True), OTHER_SIZE, Action.ASK, [(12, 20, 130, 50)]),
        ([(12, 20, 50, 50)], Frame(*SIZE, 0, (120, 100), True), OTHER_SIZE, Action.ASK, [(12, 20, 50, 50)]),
        ([(12, 20, 50, 50)], Frame(*SIZE, 0, (0, -1), True), None, None, None),
        ([(70, 10, 90, 40)], Frame(*SIZE, 6, None, True), TURNED, Action.REPAIRED, [(20, 70, 50, 90)]),
        ([(70, 10, 90, 40)], Frame(*SIZE, 6, (100, 60), True), TURNED, Action.REPAIRED, [(20, 70, 50, 90)]),
        ([(70, 10, 90, 70)], Frame(*SIZE, 6, None, True), None, None, None),  # fits neither
        ([(70, 10, 90, 40)], Frame(*SIZE, 1, None, True), None, None, None),
        ([(10, 70, 40, 90)], Frame(*SIZE, 6, None, True), None, None, None),  # fits upright alone
        ([(10, 10, 40, 40)], Frame(*SIZE, 6, None, True), MAYBE_TURNED, Action.ASK, [(10, 10, 40, 40)]),
        ([(10, 10, 61, 40)], Frame(*SIZE, 6, None, True), MAYBE_TURNED, Action.ASK, [(10, 10, 61, 40)]),  # sloppy
        ([(10, 10, 40, 40)], Frame(*SIZE, 6, SIZE, True), None, None, None),  # made for the upright one, it says
        ([(10, 10, 40, 40)], Frame(*SIZE, 3, None, True), MAYBE_TURNED, Action.ASK, [(10, 10, 40, 40)]),
        ([(10, 10, 40, 40)], Frame(*SIZE, 9, None, True), None, None, None),  # there is no such orientation
        ([], Frame(*SIZE, 6, None, True), None, None, None),
    ],
)
def test_the_frame_is_changed_only_where_one_answer_is_possible(boxes, frame, kind, action, mended):
    readings = read(boxes, frame)
    assert [(reading.kind, reading.action) for reading in readings] == ([(kind, action)] if kind else [])
    assert all(np.allclose(reading.boxes, mended) for reading in readings)


@pytest.mark.parametrize(
    ("boxes", "frame", "kinds"),
    [
        ([(0.1, 0.1, 0.5, 0.5)], Frame(*SIZE, 6, None, True), [RELATIVE, MAYBE_TURNED]),
        ([(0.1, 0.1, 0.5, 0.5)], Frame(*SIZE, 6, SIZE, True), [RELATIVE]),  # made for the upright one, it says
        ([(12, 20, 110, 50)], Frame(*SIZE, 3, (120, 200), True), [OTHER_SIZE, MAYBE_TURNED]),
        ([(12, 20, 110, 50)], Frame(*SIZE, 6, (120, 200), True), [OTHER_SIZE]),  # of the upright one's shape alone
        ([(70, 10, 90, 40)], Frame(*SIZE, 6, None, False), [MAYBE_TURNED]),  # YOLO's shares fit any picture
        ([(10, 70, 40, 90)], Frame(*SIZE, 6, None, False), [MAYBE_TURNED]),
    ],
)
def test_what_was_scaled_may_have_been_turned_besides(boxes, frame, kinds):
    readings = read(boxes, frame)
    assert [reading.kind for reading in readings] == kinds
    assert readings[-1].boxes == readings[0].boxes
    assert [reading.action for reading in readings[1:]] == [Action.ASK] * (len(kinds) - 1)
