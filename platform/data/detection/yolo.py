"""YOLO: a text file per image with lines "class cx cy w h" relative to the image's size, and a data.yaml."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import (
    absolute,
    class_name,
    image_files_below,
    inside,
    is_file,
    is_folder,
    place,
    printable,
    split_folders,
    split_of,
)
from platform.data.findings import Repair
from platform.data.images import SUFFIXES, ImageFault, size
from platform.data.splits import SPLITS

LAYOUT = "YOLO"
NEEDS = (
    "data.yaml with names, or classes.txt; images/{train,val,test} with labels/{train,val,test}, "
    "{train,valid,test}/images with {train,valid,test}/labels, or images/ with labels/"
)

_NAME_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_DEEPEST = 64  # most nested folders of a file below the root
_NOT_LABELS = frozenset({"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt"})


# images of a split, which is None where there are no splits
_Source = tuple[Iterable[Path], str | None]


class _Plain(yaml.BaseLoader):
    """YAML loader that reads all values as text, so that a class named "no" or "1e3" keeps its name."""


def _refuse(loader: _Plain, suffix: str, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not allowed in data", node.start_mark)


for _prefix in ("!", "tag:yaml.org,2002:python/"):  # BaseLoader would read them as text, and so as a class name
    _Plain.add_multi_constructor(_prefix, _refuse)


def recognise(root: Path) -> bool:
    """Return True if the folder holds a data.yaml with names, a list of class names, or label folders."""
    folders = (root, *(folder for folder, _ in split_folders(root)))
    has_labels = any((folder / "labels").is_dir() for folder in folders)
    return has_labels or any((root / name).is_file() for name in _NAME_LISTS) or _yaml_file(root) is not None


def read(root: Path) -> RawDataset:
    """Read a YOLO data set. An image without a label file is a background image, as in YOLO itself.

    Paths in data.yaml that lead out of `root`, as Roboflow's "../train/images" and other people's absolute paths do,
    are looked up inside it: the longest tail of the path that exists there is used.
    """
    repairs: list[Repair] = []
    root = absolute(root)
    settings = _settings(root, repairs)
    names = _names(root, settings, repairs)
    images: list[RawImage] = []
    used: set[Path] = set()
    sources = _given_sources(root, settings, repairs) or _listed_sources(root, repairs) or _usual_sources(root)
    for files, split in sources:
        for path in files:
            label = _label_file(root, path)
            used.add(label)
            boxes = tuple(_boxes(root, path, label, names, repairs)) if label.is_file() else ()
            images.append(RawImage(path, boxes, split, place(root, label)))
    repairs += [Repair(Kind.MISSING_IMAGE, place(root, label)) for label in _label_files(root) if label not in used]
    return RawDataset(tuple(images), tuple(repairs), tuple(dict.fromkeys(name for _, name in sorted(names.items()))))


def _boxes(root: Path, path: Path, label: Path, names: Mapping[int, str], repairs: list[Repair]) -> Iterable[RawBox]:
    try:
        width, height = size(path)
    except ImageFault:
        return  # the image is left out and reported when all images are decoded
    for number, line in enumerate(_lines(root, label, repairs), start=1):
        where = place(root, label, f"line {number}")
        if not line.strip():
            continue
        try:
            index, x, y, w, h = map(float, line.split())
        except ValueError:
            repairs.append(Repair(Kind.UNREADABLE_ENTRY, where, image=path))
            continue
        name = names.get(index)  # type: ignore[call-overload]  # 0.0 finds 0, and 0.5 or nan find nothing
        if name is None:
            repairs.append(Repair(Kind.UNKNOWN_CLASS, f"{where} class {line.split()[0]}", image=path))
            continue
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        yield RawBox(box, name, where)


def _label_file(root: Path, image: Path) -> Path:
    """Return an image's label file: below labels/ in place of the last images/, else beside the image."""
    parts = image.relative_to(root).with_suffix(".txt").parts
    positions = [position for position, part in enumerate(parts[:-1]) if part == "images"]
    if not positions:
        return root.joinpath(*parts)
    return root.joinpath(*parts[: positions[-1]], "labels", *parts[positions[-1] + 1 :])


def _label_files(root: Path) -> list[Path]:
    folders = [root / "labels", *(folder / "labels" for folder, _ in split_folders(root))]
    return [file for folder in folders for file in sorted(folder.rglob("*.txt")) if file.name not in _NOT_LABELS]


def _settings(root: Path, repairs: list[Repair]) -> dict[str, Any]:
    file = _yaml_file(root)
    if file is None:
        return {}
    try:
        settings = yaml.load(_text(file), Loader=_Plain)
        if not isinstance(settings, dict):
            raise ValueError("it is not a mapping")
    except (OSError, yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        repairs.append(Repair(Kind.UNREADABLE_FILE, place(root, file, f"({' '.join(str(error).split())})")))
        return {}
    return {key: value for key, value in settings.items() if isinstance(key, str)}


def _yaml_file(root: Path) -> Path | None:
    files = sorted(file for file in root.iterdir() if file.suffix in {".yaml", ".yml"} and file.is_file())
    files = [file for file in files if file.stem == "data" or _has_names(file)]
    return min(files, key=lambda file: file.stem != "data", default=None)


def _has_names(file: Path) -> bool:
    try:
        # [ \t] and not \s, which would start again at each of many empty lines and take quadratic time
        return re.search(r"^[ \t]*names[ \t]*:", _text(file), re.MULTILINE) is not None
    except OSError:
        return False


def _names(root: Path, settings: dict[str, Any], repairs: list[Repair]) -> dict[int, str]:
    given = settings.get("names")
    if not isinstance(given, list | dict):
        file = next((root / name for name in _NAME_LISTS if (root / name).is_file()), None)
        given = [line for line in _lines(root, file, repairs) if line.strip()] if file else []
    names = {}
    for index, name in given.items() if isinstance(given, dict) else enumerate(given):
        try:
            names[int(index)] = class_name(name)
        except (TypeError, ValueError):
            repairs.append(Repair(Kind.UNREADABLE_ENTRY, printable(f"name of class {index}")))
    return names


def _given_sources(root: Path, settings: dict[str, Any], repairs: list[Repair]) -> list[_Source]:
    given = [(split_of(key), value) for key, value in settings.items() if key.lower() in {*SPLITS, "valid"} and value]
    base = settings["path"] if isinstance(settings.get("path"), str) else ""
    sources: list[_Source] = []
    for split, value in given:
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                repairs.append(Repair(Kind.UNREADABLE_ENTRY, f"data.yaml {split}"))
                continue
            target = _find(root, f"{base}/{text}") or _find(root, text)
            if target is None:
                repairs.append(Repair(Kind.MISSING_FOLDER, printable(f"data.yaml {split}: {text}")))
            elif is_folder(target):
                sources.append((image_files_below(target), split))
            else:
                sources.append((_listed_files(root, target, repairs), split))
    return sources


def _listed_sources(root: Path, repairs: list[Repair]) -> list[_Source]:
    """Return the images named in darknet's lists, one path a line."""
    files = [root / f"{name}.txt" for name in ("train", "val", "valid", "test")]
    return [(_listed_files(root, file, repairs), split_of(file.stem)) for file in files if file.is_file()]


def _usual_sources(root: Path) -> list[_Source]:
    images = root / "images"
    by_split: list[tuple[Path, str | None]] = [*split_folders(images)]
    by_split += [(folder / "images", split) for folder, split in split_folders(root) if (folder / "images").is_dir()]
    by_split = by_split or [(images if images.is_dir() else root, None)]
    return [(image_files_below(folder), split) for folder, split in by_split]


def _listed_files(root: Path, file: Path, repairs: list[Repair]) -> list[Path]:
    files = []
    for number, line in enumerate(_lines(root, file, repairs), start=1):
        path = _find(root, line.strip()) if line.strip() else None
        if path is not None and path.suffix.lower() in SUFFIXES and is_file(path):
            files.append(path)
        elif line.strip():
            repairs.append(Repair(Kind.MISSING_IMAGE, place(root, file, f"line {number}")))
    return files


def _find(root: Path, text: str) -> Path | None:
    """Return the longest tail of a path that exists inside the root, or None."""
    parts = PurePosixPath(text.replace("\\", "/")).parts[-_DEEPEST:]
    for start in range(len(parts)):
        path = inside(root, root, "/".join(parts[start:]))
        if path is not None and path != root and (is_file(path) or is_folder(path)):
            return path
    return None


def _lines(root: Path, file: Path, repairs: list[Repair]) -> list[str]:
    try:
        return _text(file).splitlines()
    except OSError as error:
        repairs.append(Repair(Kind.UNREADABLE_FILE, place(root, file, f"({error.strerror})")))
        return []


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="replace")
