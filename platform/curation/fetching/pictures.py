"""What an answer's bytes are, whatever its address and headers say; and images kept under the hash of their bytes."""

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platform.curation.fetching.outcomes import Failure, Outcome
from platform.data import images

FOLDER = "images"
SUFFIXES = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with further pictures behind the first
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
}
_HASH = 32  # hex digits of the SHA-256 that a file is named by
_NAME = re.compile(
    rf"{FOLDER}/([0-9a-f]{{2}})/(\1[0-9a-f]{{{_HASH - 2}}})\.({'|'.join(sorted(set(SUFFIXES.values())))})"
)

_SNIFFED = 512  # bytes
# What bytes begin with, blanks aside, in lower case: the first that fits.
_KINDS = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89png", "PNG"),
        (rb"gif8", "GIF"),
        (rb"riff....webp", "WEBP"),
        (rb"bm....\0\0\0\0", "BMP"),
        (rb"ii\*\0|mm\0\*", "TIFF"),
        (rb".{4}ftyp(avi|hei|hev|mif)", "AVIF or HEIC, which is not read"),
        (rb".{4}ftyp", "a video"),
        (rb"(<\?xml.*)?(<!--.*-->\s*)?(<!doctype svg|<svg)", "SVG, which has no pixels"),
        (rb"(<!--.*-->\s*)?<(!doctype html|html|head|body|script|meta|title)", "an HTML page"),
        (rb"<\?xml", "XML"),
        (rb"<", "markup"),
        (rb"%pdf", "PDF"),
        (rb"%!ps", "PostScript"),
        (rb"[{\[]", "JSON"),
        (rb"\x1f\x8b", "gzip, although nothing packed was asked for"),
        (rb"pk\x03\x04", "a ZIP archive"),
        (rb"[\t\n\r -~]+$", "plain text"),
    )
)
_PICTURES = frozenset(SUFFIXES)


@dataclass(frozen=True)
class Kept:
    """An image on the disk; as the fields of `Record` of the same names."""

    image: str
    bytes: int
    width: int
    height: int
    sha256: str


def keep(body: bytes, root: Path, scratch: Path, max_pixels: float) -> Kept:
    """Writes an image, whole or not at all, if that is what the bytes are.

    Args:
        body: Of an answer.
        root: The data set's folder.
        scratch: A folder on the same disk, for what is not whole yet.
        max_pixels: That the image may have.

    Raises:
        Failure: It is no image, a broken one, or one of too many pixels.
        OSError: It cannot be written.
    """
    header = _checked(body, max_pixels)
    digest = hashlib.sha256(body).hexdigest()
    name = f"{FOLDER}/{digest[:2]}/{digest[:_HASH]}.{SUFFIXES[header.format]}"
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as partial:
        partial.write(body)
    Path(partial.name).chmod(0o644)
    os.replace(partial.name, file)  # noqa: PTH105
    return Kept(name, len(body), header.width, header.height, digest)


def is_name(image: str) -> bool:
    """Whether an image is called as `keep` calls it."""
    return _NAME.fullmatch(image) is not None


def is_intact(root: Path, image: str) -> bool:
    """Whether an image is there, with the bytes that it is named by."""
    try:
        with (root / image).open("rb") as stream:
            return Path(image).stem == hashlib.file_digest(stream, "sha256").hexdigest()[:_HASH]
    except OSError:
        return False


def kind(body: bytes) -> str:
    """What bytes are, as people call it."""
    start = body[:_SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "blanks" if body else "empty"
    return next((kind for pattern, kind in _KINDS if pattern.match(start)), "unknown bytes")


def _checked(body: bytes, max_pixels: float) -> images.Header:
    """The header of an image that decodes."""
    try:
        header = images.header(body)
    except images.HugeImage as error:
        raise Failure(Outcome.TOO_MANY_PIXELS, str(error)) from error
    except images.ImageFault as error:
        told = kind(body)
        if told in _PICTURES:
            raise Failure(Outcome.BROKEN_IMAGE, f"{told}: {error}") from error
        raise Failure(Outcome.NOT_AN_IMAGE, told) from error
    if header.width * header.height > max_pixels:
        raise Failure(Outcome.TOO_MANY_PIXELS, f"{header.width} x {header.height}, {max_pixels:,.0f} allowed")
    try:
        images.load(body)
    except images.ImageFault as error:
        raise Failure(Outcome.BROKEN_IMAGE, f"{header.format}: {error}") from error
    return header
