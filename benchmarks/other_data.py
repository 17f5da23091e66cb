"""Make data sets similar to the embedded ones, for measurements on a second data set.

python -m benchmarks.other_data objects FOLDER            a third of the images, with other photographs and digits
python -m benchmarks.other_data digits FOLDER MNIST       2,000 digits of MNIST's idx files, reduced to 8 × 8 pixels
"""

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np

OBJECTS = {"train": 200, "val": 200, "test": 50}
DIGITS = {"train": 1800, "t10k": 200}


def main() -> None:
    """Write the data set."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.other_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("what", choices=("objects", "digits"))
    p.add_argument("folder", type=Path)
    p.add_argument("mnist", type=Path, nargs="?", help="folder of MNIST's four idx .gz files")
    options = p.parse_args()
    if options.what == "objects":
        from platform.data.embedded import scenes

        scenes.write_objects(options.folder, seed=7, counts=OBJECTS, size=64)
        return
    if options.mnist is None:
        p.error("digits needs the folder of MNIST as a third argument")
    options.folder.mkdir(parents=True, exist_ok=True)
    for split, count in DIGITS.items():
        images = _read(options.mnist / f"{split}-images-idx3-ubyte.gz")[:count]
        labels = _read(options.mnist / f"{split}-labels-idx1-ubyte.gz")[:count]
        small = images[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean((2, 4)).round().astype(np.uint8)
        _write(options.folder / f"{split}-images-idx3-ubyte.gz", small)
        _write(options.folder / f"{split}-labels-idx1-ubyte.gz", labels)


def _read(file: Path) -> np.ndarray:
    raw = gzip.decompress(file.read_bytes())
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _write(file: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


if __name__ == "__main__":
    main()
