import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from platform.data import images


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.new("RGB", (8, 4), (200, 0, 0)), "a.png"),
        (Image.new("RGB", (8, 4), (200, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE), "a.png"),
        (Image.new("CMYK", (8, 4), (0, 255, 255, 55)), "a.tif"),
        (Image.new("RGBA", (8, 4), (200, 0, 0, 255)), "a.png"),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, image, name):
    loaded = images.load(saved(tmp_path / name, image))
    assert (loaded.mode, loaded.size, loaded.getpixel((0, 0))) == ("RGB", (8, 4), (200, 0, 0))


def test_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert images.load(path).getpixel((0, 0)) == (255, 0, 0)


def test_16_bit_grey_keeps_its_brightness_instead_of_saturating(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)))
    assert [images.load(path).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_transparent_pixels_show_white_not_the_colour_under_them(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGBA", (4, 4), (10, 20, 30, 0)))
    assert images.load(path).getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (8, 4)), exif=exif)
    assert images.load(path).size == images.size(path) == (4, 8)


def test_truncated_picture_is_refused(tmp_path, save):
    whole = save(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(images.ImageFault):
        images.load(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(images.ImageFault, match="not a picture"):
        images.load(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [10_001, 100_000])  # above our limit, and above the one at which Pillow refuses itself
def test_huge_picture_is_refused_from_its_header(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(images.ImageFault, match="100,000,000 pixels"):
        images.load(tmp_path / "a.png")


@given(st.binary(max_size=40), st.integers(0, 300), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_damaged_bytes_are_decoded_or_refused_but_never_crash(damage, position, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    content[position : position + len(damage)] = damage
    with contextlib.suppress(images.ImageFault):
        assert images.load(io.BytesIO(content)).mode == "RGB"


@given(*[st.integers(1, 60)] * 4)
def test_letterbox_fits_keeps_the_aspect_and_pads_with_zeros(width, height, canvas_width, canvas_height):
    input_size, scale = images.letterbox(Image.new("RGB", (width, height), "white"), canvas_height, canvas_width)
    assert (input_size.shape, input_size.dtype) == ((3, canvas_height, canvas_width), np.uint8)
    shown = input_size.max(axis=0) > 0
    rows, columns = shown.any(axis=1).sum(), shown.any(axis=0).sum()
    assert abs(rows - max(1, height * scale)) <= 1
    assert abs(columns - max(1, width * scale)) <= 1
    assert shown[:rows, :columns].all()
    assert rows == canvas_height or columns == canvas_width


def test_letterbox_antialiases():
    stripes = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (64, 32))).convert("RGB")
    input_size, _ = images.letterbox(stripes, 8, 8)
    assert abs(input_size.astype(int) - 128).max() < 20


def test_hash_is_of_the_pixels_not_of_the_file(tmp_path, save):
    image = images.load(save(tmp_path / "a.png"))
    again = images.load(saved(tmp_path / "b.bmp", image))
    assert images.content_hash(image) == images.content_hash(again)
    assert images.content_hash(image) != images.content_hash(image.transpose(Image.Transpose.ROTATE_180))
    assert images.content_hash(Image.new("RGB", (2, 3))) != images.content_hash(Image.new("RGB", (3, 2)))
