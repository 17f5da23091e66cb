"""Tests of recognizing and storing images."""

import pytest
from faulty_server import huge_png, logo

from platform.curation.fetching import image_store
from platform.curation.fetching.download import Failure, Outcome


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b" \r\n", "blanks"),
        (b"\xef\xbb\xbf  <!DOCTYPE HTML><html>", "an HTML page"),
        (b"<!-- a --><html>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<svg xmlns=""/>', "SVG, which has no pixels"),
        (b"<!-- made by --><svg/>", "SVG, which has no pixels"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"\0\0\0\x1cftypavif", "AVIF or HEIC, which is not read"),
        (b"\0\0\0\x1cftypisom", "a video"),
        (b"%PDF-1.7", "PDF"),
        (b"Not found", "plain text"),
        (b"\x01\x02\x03", "unknown bytes"),
    ],
)
def test_what_is_no_image_is_reported_as_what_it_is(body, kind):
    assert image_store.kind(body) == kind


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_an_image_is_a_broken_one_wherever_it_ends(tmp_path, format_):
    body = logo(1, format_)
    assert image_store.kind(body) == format_
    for part in (len(body) // 8, len(body) // 2):
        with pytest.raises(Failure) as caught:
            image_store.keep(body[:part], tmp_path, tmp_path, 1e6)
        assert caught.value.outcome is Outcome.BROKEN_IMAGE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(("size", "most"), [((30_000, 30_000), 1e8), ((12_000, 12_000), 1e8), ((200, 101), 20_000)])
def test_a_bomb_is_not_unpacked(tmp_path, size, most):
    with pytest.raises(Failure) as caught:
        image_store.keep(huge_png(*size), tmp_path, tmp_path, most)
    assert caught.value.outcome is Outcome.TOO_MANY_PIXELS


def test_an_image_is_named_by_its_bytes(tmp_path):
    (tmp_path / "scratch").mkdir()
    kept = [image_store.keep(logo(seed), tmp_path, tmp_path / "scratch", 1e6) for seed in (1, 2, 1)]
    assert kept[0] == kept[2] != kept[1]
    assert image_store.is_name(kept[0].image)
    assert image_store.is_intact(tmp_path, kept[0].image)
    (tmp_path / kept[0].image).write_bytes(logo(2))
    assert not image_store.is_intact(tmp_path, kept[0].image)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../images/aa/a.png", "images/aa/" + "b" * 32 + ".png", "images/aa/aa.png"]
)
def test_a_name_that_is_not_ours_is_not_taken(name):
    assert not image_store.is_name(name)
