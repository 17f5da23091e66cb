"""Pascal VOC: one XML file per image, split by the lists in ImageSets/Main or by folder."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from defusedxml import ElementTree  # the standard library's expands entities without bound

from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.files import absolute, class_name, image_files, inside, is_file, place, printable, split_folders
from platform.data.findings import Repair
from platform.data.images import SUFFIXES
from platform.data.splits import SPLITS

LAYOUT = "Pascal VOC"
NEEDS = "Annotations/*.xml with JPEGImages/, or *.xml beside the images"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_USUAL = {"", "0", "Unspecified"}  # values of pose, truncated and difficult that carry no information
_DIGITS = 9  # most digits of an image's side; Python refuses to read numbers with thousands of digits


@dataclass(frozen=True)
class _Folder:
    """Folder of XML files, the folders of their images, and the split that its name gives."""

    annotations: Path
    images: tuple[Path, ...]
    split: str | None


def recognise(root: Path) -> bool:
    """Return True if the folder holds VOC annotations, even ones that cannot be parsed."""
    return bool(_folders(root))


def read(root: Path) -> RawDataset:
    """Read all VOC annotations below `root`.

    xmin … ymax are taken as edges, as labelImg and its successors write them, not as VOC2007's inclusive pixels counted
    from one. Objects marked difficult are kept. An image that no list names has no split.
    """
    images: list[RawImage] = []
    repairs: list[Repair] = []
    root = absolute(root)
    lists = _lists(root, repairs)
    found: set[Path] = set()
    annotated: set[Path] = set()
    beyond: Counter[str] = Counter()
    for folder in _folders(root):
        beside = [path for base in folder.images for path in image_files(base)]
        by_stem = {path.stem: path for path in reversed(beside)}
        found.update(beside)
        for file in _annotation_files(folder.annotations):
            splits: list[str | None] = [*lists.pop(file.stem, [])] or [folder.split]
            try:
                path, boxes, size = _read_file(root, folder, by_stem, file, repairs, beyond)
            except _FileError as error:
                repairs.append(error.repair)
                annotated.add(by_stem.get(file.stem, file))
                continue
            annotated.add(path)
            images += [RawImage(path, boxes, split, place(root, file), size) for split in splits]
    listed = [f"{stem} in {' and '.join(splits)}.txt" for stem, splits in lists.items()]
    unlisted = [path for path in sorted(found - annotated) if path.stem not in lists]
    repairs += [Repair(Kind.NO_ANNOTATION, where) for where in [*listed, *(place(root, path) for path in unlisted)]]
    return RawDataset(tuple(images), tuple(repairs), beyond=beyond)


class _FileError(Exception):
    """Raised for an annotation file that is left out as a whole."""

    def __init__(self, kind: Kind, where: str) -> None:
        super().__init__(kind, where)
        self.repair = Repair(kind, where)


def _read_file(
    root: Path, folder: _Folder, by_stem: dict[str, Path], file: Path, repairs: list[Repair], beyond: Counter[str]
) -> tuple[Path, tuple[RawBox, ...], tuple[int, int] | None]:
    """Return the image, its boxes and the size given for it; boxes that cannot be read are added to `repairs`."""
    where = place(root, file)
    try:
        annotation = ElementTree.parse(file).getroot()
    except (OSError, SyntaxError, ValueError, LookupError) as error:  # ParseError is a SyntaxError
        raise _FileError(Kind.UNREADABLE_FILE, printable(f"{where} ({error})")) from error
    if annotation.tag != "annotation":
        raise _FileError(Kind.UNREADABLE_FILE, printable(f"{where} (<{annotation.tag}> is not <annotation>)"))
    name = (annotation.findtext("filename") or "").strip()
    candidates = [inside(root, base, name) for base in folder.images]
    if not any(candidates):
        raise _FileError(Kind.ESCAPING_PATH, f"{where} {name}")
    # The stem comes first: renamed images keep the old name in <filename>, which may now belong to another image.
    named = next((path for path in candidates if path is not None and is_file(path)), None)
    path = by_stem.get(file.stem, named)
    if path is None:
        raise _FileError(Kind.MISSING_IMAGE, f"{where} {name}")
    boxes = []
    for number, entry in enumerate(annotation.findall("object"), start=1):
        try:
            boxes.append(_box(entry, f"{where} object {number}"))
            beyond.update(_passed_over(entry))
        except ValueError:
            repairs.append(Repair(Kind.UNREADABLE_ENTRY, f"{where} object {number}", image=path))
    return path, tuple(boxes), _size(annotation)


def _box(entry: Element, where: str) -> RawBox:
    x1, y1, x2, y2 = (float(entry.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS)
    return RawBox((x1, y1, x2, y2), class_name(entry.findtext("name")), where)


def _passed_over(entry: Element) -> list[str]:
    more = [child for child in entry if child.tag not in ("name", "bndbox")]
    return [printable(child.tag) for child in more if len(child) or (child.text or "").strip() not in _USUAL]


def _size(annotation: Element) -> tuple[int, int] | None:
    width, height = (annotation.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    readable = all(side.isdecimal() and len(side) <= _DIGITS for side in (width, height))
    return (int(width), int(height)) if readable else None


def _folders(root: Path) -> list[_Folder]:
    folders = [
        _Folder(root / "Annotations", (root / "JPEGImages", root / "images", root), None),
        _Folder(root, (root, root / "JPEGImages", root / "images"), None),
        *(_Folder(folder, (folder,), split) for folder, split in split_folders(root)),
    ]
    return [folder for folder in folders if _has_annotations(folder.annotations)]


def _has_annotations(folder: Path) -> bool:
    return any(folder.name == "Annotations" or _mentions_annotation(file) for file in _annotation_files(folder))


def _annotation_files(folder: Path) -> list[Path]:
    """Return the XML files in a folder, without pipes of such a name, as reading them would never end."""
    return [file for file in sorted(folder.glob("*.xml")) if is_file(file)]


def _mentions_annotation(file: Path) -> bool:
    try:
        return b"<annotation" in file.read_bytes()
    except OSError:  # reported when the file is read
        return True


def _lists(root: Path, repairs: list[Repair]) -> dict[str, list[str]]:
    """Return the splits, usually one, that ImageSets/Main gives to each stem."""
    main = root / "ImageSets" / "Main"
    # VOC's trainval is train and val together; it is used only if the two are not given separately.
    files = {split: main / f"{split}.txt" for split in SPLITS}
    if not files["train"].is_file() and not files["val"].is_file():
        files["train"] = main / "trainval.txt"
    splits: defaultdict[str, list[str]] = defaultdict(list)
    for split, file in files.items():
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file.is_file() else []
        except OSError as error:
            repairs.append(Repair(Kind.UNREADABLE_FILE, place(root, file, f"({error.strerror})")))
            continue
        for stem in dict.fromkeys(_stem(line) for line in lines if line.strip()):
            splits[stem].append(split)
    return splits


def _stem(line: str) -> str:
    name = PurePosixPath(line.strip())
    return name.stem if name.suffix.lower() in SUFFIXES else str(name)
