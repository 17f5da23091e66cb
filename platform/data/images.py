"""Image decoding: any picture file as upright 8-bit RGB, or an `ImageFault` with the reason."""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

# Formats that Pillow may try, whatever the file's name. Its own list is longer, and EPS would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_WIDE_GREY = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

# Pillow warns above this limit and refuses above twice this limit; set to ours, it does not warn about what we accept.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `_refuse_huge` raises instead
Image.init()  # loads all decoders now: `formats` knows only loaded ones, and loading them in several threads is a race


class ImageFault(Exception):  # noqa: N818 (it is a fault of the user's file, as in platform.errors)
    """File that cannot be used as a picture; the message is the reason."""


class HugeImage(ImageFault):
    """Picture of more than MAX_PIXELS."""


class Header(NamedTuple):
    """Header of a picture file: Pillow's name of the format, and the upright size in pixels."""

    format: str
    width: int
    height: int


def load(source: Path | bytes) -> Image.Image:
    """Decode a whole picture, a file or its bytes: the first frame, turned as its EXIF tag says, in RGB.

    Transparent pixels are laid over white, as a viewer shows them; the colour stored under them is arbitrary. 16-bit
    grey keeps its upper eight bits, whatever range the picture uses, so that brightness means the same in each file.

    Raises:
        ImageFault: Not a picture, broken, cut short, floating point, or larger than MAX_PIXELS.
    """
    with _opened(source) as image:
        _refuse_huge(image)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))


def load_or_fault(source: Path | bytes) -> Image.Image | ImageFault:
    """Return `load` of a picture, or the fault that it raises."""
    try:
        return load(source)
    except ImageFault as fault:
        return fault


def size(source: Path | bytes) -> tuple[int, int]:
    """Return the upright (width, height) in pixels, from the header alone.

    Raises:
        ImageFault: As for `load`, as far as the header shows it.
    """
    found = header(source)
    return found.width, found.height


def header(source: Path | bytes) -> Header:
    """Read the header alone.

    Raises:
        ImageFault: As for `load`, as far as the header shows it.
    """
    with _opened(source) as image:
        _refuse_huge(image)
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
        return Header(str(image.format), *((height, width) if sideways else (width, height)))


def orientation(source: Path | bytes) -> int:
    """Return the EXIF orientation as written: 1 … 8, 0 without the tag, -1 for anything but an integer.

    Raises:
        ImageFault: As for `size`.
    """
    with _opened(source) as image:
        written = image.getexif().get(_EXIF_ORIENTATION, 0)
    return written if isinstance(written, int) else -1


def letterbox(image: Image.Image, height: int, width: int) -> tuple[np.ndarray, float]:
    """Fit an RGB picture into the top left of an array, keeping its aspect; zeros fill the rest.

    Returns:
        The pixels, uint8 of shape (3, height, width), and the scale by which box coordinates have to be multiplied.
    """
    scale = min(width / image.width, height / image.height)
    fitted = min(width, max(1, round(image.width * scale))), min(height, max(1, round(image.height * scale)))
    resized = image.resize(fitted, Image.Resampling.BILINEAR)  # Pillow widens the filter when shrinking: antialiased
    pixels = np.zeros((3, height, width), np.uint8)
    pixels[:, : fitted[1], : fitted[0]] = np.asarray(resized).transpose(2, 0, 1)
    return pixels, scale


def content_hash(image: Image.Image) -> str:
    """Return the SHA-256 of the decoded pixels and the size.

    The file is not hashed, because the same picture saved twice, as PNG and as BMP or with other metadata, is one
    picture to a model, and a leak when its copies lie in training and in test.
    """
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with it in the block becomes an ImageFault."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
            yield image
    except ImageFault:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageFault("not a picture in a known format") from error
    except Image.DecompressionBombError as error:
        raise HugeImage(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # on hostile bytes decoders raise nearly anything: OSError, SyntaxError, struct.error …
        raise ImageFault(str(error) or type(error).__name__) from error


def _refuse_huge(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise HugeImage(f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageFault("floating-point pixels have no agreed range")
    if image.mode in _WIDE_GREY:  # Pillow would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
