"""Reading a detection data folder in whichever known layout it has."""

from dataclasses import dataclass
from pathlib import Path

from platform.data.detection import coco, csv_boxes, voc, yolo
from platform.data.detection.annotations import RawDataset
from platform.data.files import absolute, folder_faults
from platform.errors import Fault, InputError, raise_if_any

LAYOUTS = (csv_boxes, voc, coco, yolo)  # in this order: the first that is recognised is read


@dataclass(frozen=True)
class Source:
    """Content of a folder and the layout in which it was read.

    Attributes:
        layout: "CSV", "COCO", "Pascal VOC" or "YOLO".
        table: Name of the table if the layout is CSV, else None.
        raw: Images and boxes as written.
        warnings: One line for each other layout that was ignored.
    """

    layout: str
    table: str | None
    raw: RawDataset
    warnings: tuple[str, ...]


def read(root: Path, before: str | None = None) -> Source:
    """Read a folder in the first layout that it is known to have.

    The tables of `platform.dataset` from the step `before` on, one of csv_boxes.STEPS, are ignored.

    Raises:
        InputError: The folder does not exist, or has no known layout.
    """
    root = absolute(root)
    raise_if_any(folder_faults(root, "the data must be a folder with images and annotations"))
    table = csv_boxes.table_of(root, before)
    found = [layout for layout in LAYOUTS if (table is not None if layout is csv_boxes else layout.recognise(root))]
    if not found:
        needs = "; ".join(f"{layout.LAYOUT}: {layout.NEEDS}" for layout in LAYOUTS)
        there = ", ".join(sorted(path.name for path in root.iterdir())[:10])
        rule = "the data folder must have a known layout"
        raise InputError(Fault(rule, f"{root} with {there}", f"Known layouts are {needs}."))
    first, *others = found
    return Source(
        layout=first.LAYOUT,
        table=table.name if table else None,
        raw=csv_boxes.read_table(root, table) if table else first.read(root),
        warnings=tuple(
            f"the data was read as {first.LAYOUT}; the {other.LAYOUT} annotations beside it are ignored"
            for other in others
        ),
    )
