"""The layouts that boxes come in, and reading a folder in whichever it is."""

from dataclasses import dataclass
from pathlib import Path

from platform.data.detection import coco, csv_boxes, voc, yolo
from platform.data.detection.annotations import RawDataset
from platform.data.files import absolute, folder_faults
from platform.errors import Fault, InputError, raise_if_any

LAYOUTS = (csv_boxes, voc, coco, yolo)  # the first that is recognised is read


@dataclass(frozen=True)
class Source:
    """What a folder was read as.

    Attributes:
        layout: "CSV", "COCO", "Pascal VOC" or "YOLO".
        table: The table's name, where the layout is CSV.
        raw: What is in it.
        warnings: Other layouts that were passed over, a line each.
    """

    layout: str
    table: str | None
    raw: RawDataset
    warnings: tuple[str, ...]


def read(root: Path, before: str | None = None) -> Source:
    """Read a folder in the first layout that it is known to have.

    Args:
        root: The folder.
        before: One of csv_boxes.STEPS: of the tables of `platform.dataset`, only what that step is made from.

    Raises:
        InputError: No such folder, or no known layout.
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
            f"read as {first.LAYOUT}; the {other.LAYOUT} annotations beside it are ignored" for other in others
        ),
    )
