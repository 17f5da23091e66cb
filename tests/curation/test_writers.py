"""Tests of the file names that writers give to images."""

from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.writers import safe, unique


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.jpg", "a.jpg"),
        ("Ünïcode ☃ & <x>.JPEG", "Ünïcode ☃ & <x>.JPEG"),
        ("a.b.jpg.png", "a.b.jpg.png"),
        ("photo.jfif", "photo.jfif.png"),
        ("nothing", "nothing.png"),
        (" a\n\\b\u2028.png", "a__b_.png"),
        ("\udcff.png", "_.png"),
        (" .png", "_.png"),
        ("ü" * 120 + ".png", "ü" * 100 + ".png"),
    ],
)
def test_a_name_is_changed_as_little_as_layouts_need(name, kept):
    assert safe(Path("/data") / name, "PNG") == kept


def test_the_suffix_that_is_missing_is_the_formats():
    kinds = ["JPEG", "MPO", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"]
    made = [safe(Path("x"), kind) for kind in kinds]
    assert made == ["x.jpg", "x.jpg", "x.png", "x.bmp", "x.gif", "x.webp", "x.tiff", "x.ppm"]


def test_the_first_keeps_its_name_and_none_takes_anothers():
    names = ["a.jpg", "a.jpg", "a_2.jpg", "A.jpg", "a.png", "a.jpg"]
    folders = ["x", "x", "x", "x", "x", "y"]
    assert unique(names, folders, by_stem=False) == ["a.jpg", "a_3.jpg", "a_2.jpg", "A_4.jpg", "a.png", "a.jpg"]
    assert unique(names, folders, by_stem=True) == ["a.jpg", "a_3.jpg", "a_2.jpg", "A_4.jpg", "a_5.png", "a.jpg"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A", "a_2", "\u00e1", "a\u0301", "ß", "ss"]), st.sampled_from([".jpg", ".png"]))
    ),
    st.booleans(),
)
def test_no_name_is_twice_in_a_folder(parts, by_stem):
    names = ["".join(pair) for pair in parts]
    made = unique(names, [""] * len(names), by_stem)
    keys = {normalize("NFC", name.rpartition(".")[0] if by_stem else name).casefold() for name in made}
    assert len(keys) == len(names)
    assert [Path(name).suffix for name in made] == [Path(name).suffix for name in names]


def test_ten_thousand_of_a_name_take_no_time():
    assert unique(["1.jpg"] * 10_000, [""] * 10_000, by_stem=True)[-1] == "1_10000.jpg"
