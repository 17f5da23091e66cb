"""Image store: responses are recognized by their bytes, checked, and kept under the hash of their bytes."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from platform.curation.fetching.download import Failure, Outcome
from platform.data import images
from platform.storage import atomic

FOLDER = "images"
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}
SUFFIXES |= {"MPO": "jpg"}  # a JPEG that contains further images
_HASH = 32  # hex digits of the SHA-256 that a file is named by
_NAME = re.compile(
    rf"{FOLDER}/([0-9a-f]{{2}})/(\1[0-9a-f]{{{_HASH - 2}}})\.({'|'.join(sorted(set(SUFFIXES.values())))})"
)

_SNIFFED = 512  # bytes
# First bytes of a file, in lower case and without blanks, with the kind of file; the first match counts.
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
        (rb"\x1f\x8b", "gzip, although no compression was accepted"),
        (rb"pk\x03\x04", "a ZIP archive"),
        (rb"[\t\n\r -~]+$", "plain text"),
    )
)


@dataclass(frozen=True)
class StoredImage:
    """Stored image, with the fields of `Record` of the same names."""

    image: str
    bytes: int
    width: int
    height: int
    sha256: str


def keep(body: bytes, root: Path, scratch: Path, max_pixels: float) -> StoredImage:
    """Check that the bytes of a response are an image, and store it atomically below the data set's folder.

    `scratch` is a folder on the same disk for partial files.

    Raises:
        Failure: The bytes are no image, a broken one, or one with too many pixels.
    """
    header = _checked(body, max_pixels)
    digest = hashlib.sha256(body).hexdigest()
    name = f"{FOLDER}/{digest[:2]}/{digest[:_HASH]}.{SUFFIXES[header.format]}"
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(file, scratch) as partial:
        partial.write_bytes(body)
    return StoredImage(name, len(body), header.width, header.height, digest)


def is_name(image: str) -> bool:
    """Return whether a path is one that `keep` gives to images."""
    return _NAME.fullmatch(image) is not None


def is_intact(root: Path, image: str) -> bool:
    """Return whether an image exists and has the bytes that its name is a hash of."""
    try:
        with (root / image).open("rb") as stream:
            return Path(image).stem == hashlib.file_digest(stream, "sha256").hexdigest()[:_HASH]
    except OSError:
        return False


def kind(body: bytes) -> str:
    """Return the kind of file for people, e.g. "an HTML page"."""
    start = body[:_SNIFFED].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "blanks" if body else "empty"
    return next((kind for pattern, kind in _KINDS if pattern.match(start)), "unknown bytes")


def _checked(body: bytes, max_pixels: float) -> images.Header:
    """Decode an image and return its header; raise a Failure if that is not possible."""
    try:
        header = images.header(body)
    except images.HugeImage as error:
        raise Failure(Outcome.TOO_MANY_PIXELS, str(error)) from error
    except images.ImageFault as error:
        found = kind(body)
        if found in SUFFIXES:
            raise Failure(Outcome.BROKEN_IMAGE, f"{found}: {error}") from error
        raise Failure(Outcome.NOT_AN_IMAGE, found) from error
    if header.width * header.height > max_pixels:
        raise Failure(Outcome.TOO_MANY_PIXELS, f"{header.width} x {header.height}, {max_pixels:,.0f} allowed")
    try:
        images.load(body)
    except images.ImageFault as error:
        raise Failure(Outcome.BROKEN_IMAGE, f"{header.format}: {error}") from error
    return header
