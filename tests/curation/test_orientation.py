import numpy as np
import pytest
from PIL import Image, ImageOps

from platform.curation.orientation import drawn_as_stored, is_open, turned

STORED = (60, 40)
BOX = (5, 10, 20, 14)


@pytest.mark.parametrize("flag", range(2, 9))
def test_a_box_is_turned_along_as_pillow_turns_the_picture(flag):
    pixels = np.zeros((STORED[1], STORED[0]), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = flag
    upright = ImageOps.exif_transpose(image)
    assert turned(BOX, flag, *upright.size) == upright.getbbox()


def test_what_fits_only_as_stored_was_drawn_there_and_what_fits_both_ways_is_open():
    wide = (50.0, 10.0, 58.0, 14.0)  # on the stored picture of 60 x 40; upright it is 40 x 60
    small = (5.0, 10.0, 20.0, 14.0)
    assert drawn_as_stored([wide, small], 6, 40, 60)
    assert not is_open([wide, small], 6, 40, 60)
    assert not drawn_as_stored([small], 6, 40, 60)
    assert is_open([small], 6, 40, 60)
    assert is_open([small], 3, *STORED)  # upside down: everything fits
    assert not is_open([small], 1, *STORED)
    assert not is_open([], 6, 40, 60)
    assert not drawn_as_stored([wide], 3, 40, 60)  # that turn does not change the sides: it is merely outside
