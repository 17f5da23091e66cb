"""Pictures as the models want them: any file decoded to 8-bit RGB the right way up, or refused with a reason."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

# What we ask Pillow to try, whatever the file's name says: its list is longer, and EPS would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_WIDE_GREY = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

# Pillow warns above its own limit and refuses above twice that: with ours in its place it is silent on what we accept.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # what is too large is refused, and told
Image.init()  # `formats` knows only the decoders already loaded, and loading them from several threads is a race


class ImageFault(Exception):  # noqa: N818 (it is a fault of the user's file, as in platform.errors)
    """A file that cannot be used as a picture; the message is the reason."""


class HugeImage(ImageFault):
    """A picture of more than MAX_PIXELS."""


class Header(NamedTuple):
    """What a picture's first bytes say: Pillow's name of the format, and the size in pixels, the right way up."""

    format: str
    width: int
    height: int


def load(source: Path | bytes) -> Image.Image:
    """Decodes a whole picture: the first frame, turned as its EXIF tag says, in RGB.

    Transparent pixels are laid over white, as a viewer shows them: the colour stored under them is arbitrary. 16-bit
    grey keeps its upper eight bits, whatever the picture's own range, so that brightness means the same in each file.

    Args:
        source: A file, or the bytes of one.

    Raises:
        ImageFault: Not a picture, broken, cut short, floating point, or larger than MAX_PIXELS.
    """
    try:
        with _opened(source) as image:
            _refuse_huge(image)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageFault:
        raise
    except Exception as error:  # on hostile bytes decoders raise nearly anything: OSError, SyntaxError, struct.error …
        raise ImageFault(_reason(error)) from error


def size(source: Path | bytes) -> tuple[int, int]:
    """Returns (width, height) in pixels, the right way up, from the header alone.

    Raises:
        ImageFault: As for `load`, as far as the header tells.
    """
    told = header(source)
    return told.width, told.height


def header(source: Path | bytes) -> Header:
    """Reads the header alone.

    Raises:
        ImageFault: As for `load`, as far as the header tells.
    """
    try:
        with _opened(source) as image:
            _refuse_huge(image)
            width, height = image.size
            sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
            return Header(str(image.format), *((height, width) if sideways else (width, height)))
    except ImageFault:
        raise
    except Image.DecompressionBombError as error:
        raise HugeImage(_reason(error)) from error
    except Exception as error:
        raise ImageFault(_reason(error)) from error


def orientation(source: Path | bytes) -> int:
    """Returns the EXIF tag that says how a picture is to be turned, as written: 1 … 8, 0 for none, or nonsense.

    Raises:
        ImageFault: As for `size`.
    """
    try:
        with _opened(source) as image:
            written = image.getexif().get(_EXIF_ORIENTATION, 0)
    except Exception as error:
        raise ImageFault(_reason(error)) from error
    return written if isinstance(written, int) else -1


def letterbox(image: Image.Image, height: int, width: int) -> tuple[np.ndarray, float]:
    """Fits a picture into a canvas, at the top left, keeping its aspect; zeros fill the rest.

    Returns:
        The canvas, uint8 of shape (3, height, width), and the scale: box coordinates times it are canvas coordinates.
    """
    scale = min(width / image.width, height / image.height)
    fitted = (
        min(width, max(1, round(image.width * scale))),
        min(height, max(1, round(image.height * scale))),
    )
    resized = image.resize(fitted, Image.Resampling.BILINEAR)  # Pillow widens the filter when shrinking: antialiased
    canvas = np.zeros((3, height, width), np.uint8)
    canvas[:, : fitted[1], : fitted[0]] = np.asarray(resized).transpose(2, 0, 1)
    return canvas, scale


def content_hash(image: Image.Image) -> str:
    """Returns the SHA-256 of the decoded pixels and the size.

    Of the pixels and not of the file: the same picture saved twice, as PNG and as BMP or with other metadata, is one
    picture to a model, and a leak when its copies lie in training and in test.
    """
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def _opened(source: Path | bytes) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)


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


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    return str(error) or type(error).__name__
