"""Tests of image features and duplicates: every kind of copy is found, and no other logo."""

from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from platform.curation.cleaning import duplicates, looks

SIZE = (320, 240)


def logo(number, word):
    """Return a word on a plain sign; signs of one number differ only by the word."""
    draw = Random(number)
    image = Image.new("RGB", SIZE, tuple(draw.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    pen.rectangle((40, 70, 280, 170), fill=tuple(draw.randrange(256) for _ in range(3)))
    pen.text((160, 120), word, fill="white", font=ImageFont.load_default(44), anchor="mm")
    return image


def kept(root, **images):
    for name, image in images.items():
        image.save(root / f"{name}.png")
    return {name: root / f"{name}.png" for name in images}


def pairs(root, paths):
    return {(pair.one.stem, pair.other.stem) for pair in duplicates.near(looks.read_looks(root, paths.values()))}


@pytest.mark.parametrize(
    "alter",
    [
        lambda image: image.resize((160, 120)),
        lambda image: image.crop((6, 4, 316, 236)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.85),
        lambda image: image.quantize(32).convert("RGB"),
    ],
    ids=["smaller", "cropped", "darker", "fewer colours"],
)
def test_an_altered_copy_is_a_near_duplicate(tmp_path, alter):
    paths = kept(tmp_path, one=logo(1, "ACME"), copy=alter(logo(1, "ACME")), other=logo(2, "ROLEX"))
    assert pairs(tmp_path, paths) == {("one", "copy")}


def test_another_word_on_the_same_sign_is_another_logo(tmp_path):
    words = {f"w{number}": logo(1, word) for number, word in enumerate(("ACME", "ACNE", "ROLEX", "Acme", "NIKE"))}
    assert pairs(tmp_path, kept(tmp_path, **words)) == set()


def test_equal_pixels_in_whatever_file_are_one_image(tmp_path):
    paths = kept(tmp_path, one=logo(1, "ACME"), other=logo(1, "NIKE"))
    logo(1, "ACME").save(tmp_path / "copy.bmp")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    files = [*paths.values(), tmp_path / "copy.bmp", tmp_path / "broken.png"]
    assert duplicates.exact(looks.read_looks(tmp_path, files)) == [[paths["one"], tmp_path / "copy.bmp"]]
    groups = duplicates.groups(tmp_path, files)
    assert [groups[file] for file in files] == [0, 1, 0, 2]


def test_an_image_is_decoded_again_only_if_it_changed(tmp_path, monkeypatch):
    paths = kept(tmp_path, one=logo(1, "ACME"), other=logo(1, "NIKE"))
    first, done = looks.read_looks(tmp_path, paths.values()), []
    logo(1, "ROLEX").save(paths["other"])
    decoded, load = [], looks.images.load
    monkeypatch.setattr(looks.images, "load", lambda path: (decoded.append(path), load(path))[1])
    second = looks.read_looks(tmp_path, paths.values(), lambda: done.append(1))
    assert (decoded, len(done)) == ([paths["other"]], 2)
    one = paths["one"]
    assert all(np.array_equal(a, b) for a, b in zip(first[one], second[one], strict=True))
    assert first[paths["other"]].pixels != second[paths["other"]].pixels


def test_what_was_kept_of_images_may_be_damaged_in_any_way(tmp_path):
    paths = kept(tmp_path, one=logo(1, "ACME"))
    first = looks.read_looks(tmp_path, paths.values())[paths["one"]]
    whole = (tmp_path / looks.FILE).read_bytes()
    draw = Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (tmp_path / looks.FILE).write_bytes(damaged[: draw.choice([None, draw.randrange(len(whole))])])
        assert looks.read_looks(tmp_path, paths.values())[paths["one"]].width == first.width
