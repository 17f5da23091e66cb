"""What becomes of classes that are in too few pictures to be learned: all of them one class, or none at all."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from platform.curation.splitting.together import Item
from platform.data.detection.annotations import RawBox

OTHER = "other"


def pictures(items: Iterable[Item]) -> dict[str, int]:
    """In how many different pictures each class is, in the order of names."""
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        for name in item.classes:
            groups[name].add(item.group)
    return {name: len(groups[name]) for name in sorted(groups)}


def merge(items: Iterable[Item], rare: Collection[str]) -> list[Item]:
    """Gives the boxes of rare classes to the class OTHER."""

    def renamed(box: RawBox) -> RawBox:
        return replace(box, name=OTHER) if box.name in rare else box

    return [
        replace(
            item,
            image=replace(item.image, boxes=tuple(map(renamed, item.image.boxes))),
            classes=frozenset(OTHER if name in rare else name for name in item.classes),
        )
        for item in items
    ]


def drop(items: Iterable[Item], rare: Collection[str]) -> tuple[list[Item], list[Item]]:
    """Leaves the boxes of rare classes out.

    Returns:
        What is kept, and the images that have no other boxes: they show something, and are no background.
    """
    kept, set_aside = [], []
    for item in items:
        left = tuple(box for box in item.image.boxes if box.name not in rare)
        if left or not item.image.boxes:
            kept.append(replace(item, image=replace(item.image, boxes=left), classes=item.classes - set(rare)))
        else:
            set_aside.append(item)
    return kept, set_aside
