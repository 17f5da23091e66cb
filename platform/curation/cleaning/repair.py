"""Repair of images and boxes for training, with a finding for each change.

Every box that was read is either in the result or set aside by a finding, its own or that of its image.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from platform.curation.cleaning import duplicates, frames, rules
from platform.curation.cleaning.duplicates import NearDuplicate
from platform.curation.cleaning.findings import Action, Finding, of_box, of_image
from platform.curation.cleaning.frames import Frame
from platform.curation.cleaning.looks import ImageFeatures
from platform.curation.cleaning.rules import Limits, UsableBox, settle
from platform.curation.labels.grouping import DECIDED, LabelDecision
from platform.data.detection import yolo
from platform.data.detection.annotations import Kind, RawBox, RawDataset, RawImage
from platform.data.detection.layouts import Source
from platform.data.files import is_utf8, printable
from platform.data.splits import SPLITS

EXACT, NEAR, NEAR_APART = "exact duplicate", "near duplicate", "near duplicates in different splits"
SEVERAL_SPLITS, NOT_UTF8 = "image in several splits", "file name that is not UTF-8"
DROPPED, NO_CLASS = "label dropped by decision", "label that names no class"
CONFLICT = "two classes in one place"
LEFT_EMPTY, LOST_SOME = "image left without its boxes", "image that lost some of its boxes"


@dataclass
class Picture:
    """Image during the repair."""

    path: Path
    name: str  # path from the data set's folder
    where: str  # first annotation that named it
    look: ImageFeatures
    splits: list[str] = field(default_factory=list)  # given by the data; there should be at most one
    raw: list[RawImage] = field(default_factory=list)  # annotations with their boxes, each box once
    placed: list[UsableBox] = field(default_factory=list)  # boxes that are usable so far
    written: int = 0  # annotated boxes, with the unreadable ones
    lost: int = 0  # of these, the ones that are unusable although they show something
    dropped: int = 0  # and those that a person dropped

    def finding(self, kind: str, action: Action, detail: str = "", other: str = "") -> Finding:
        """Return a finding about the whole image."""
        return of_image(kind, action, self.name, self.where, detail, other)

    @property
    def split(self) -> str | None:
        """Split that counts: test before validation before training, so that no test image is trained on."""
        return max(self.splits, key=SPLITS.index, default=None)


class RepairResult(NamedTuple):
    """Result of the repair."""

    images: list[RawImage]  # ordered by path
    near: list[NearDuplicate]  # pairs of near duplicates among them
    groups: dict[Path, int]  # number, from 1, of each image in such a pair; connected pairs are one group
    findings: list[Finding]


def repair(
    root: Path,
    source: Source,
    looks: Mapping[Path, ImageFeatures],
    verdicts: Iterable[LabelDecision],
    limits: Limits,
    least: int,
) -> RepairResult:
    """Apply all rules; no file is read or written.

    `root` is absolute, and `least` the fewest pixels of an image's shorter side.
    """
    pictures = _pictures(root, source.raw, looks)
    findings = [*_unread(root, source.raw, pictures)]
    pictures = [picture for picture in pictures if _is_usable(root, picture, least, findings)]
    by_label = {verdict.label: verdict for verdict in verdicts}
    for picture in pictures:
        _place(picture, by_label, limits, source.layout != yolo.LAYOUT, findings)
    pictures = _one_of_each(pictures, findings)
    for picture in pictures:
        _settle(picture, findings)
    kept = [picture for picture in pictures if _is_kept(picture, findings)]
    findings += _split_findings(kept)
    near = duplicates.near({picture.path: picture.look for picture in kept})
    pairs = [(pair.one, pair.other) for pair in near]
    joined = duplicates.joined(sorted({path for pair in pairs for path in pair}), pairs)
    groups = {path: number + 1 for path, number in joined.items()}
    findings += _near_findings(near, {picture.path: picture for picture in kept}, groups)
    images = []
    for picture in kept:
        boxes = tuple(RawBox(each.box, each.name, each.raw.where) for each in picture.placed)
        images.append(RawImage(picture.path, boxes, picture.split, picture.where))
    return RepairResult(images, near, groups, findings)


def _pictures(root: Path, raw: RawDataset, looks: Mapping[Path, ImageFeatures]) -> list[Picture]:
    """Return each image once, by path, with all of its annotations."""
    found: dict[Path, Picture] = {}
    for image in sorted(raw.images, key=lambda image: image.path.relative_to(root).as_posix()):
        name = printable(image.path.relative_to(root).as_posix())
        picture = found.setdefault(image.path, Picture(image.path, name, image.where, looks[image.path]))
        known = {box for other in picture.raw for box in other.boxes}  # VOC repeats boxes in each of an image's splits
        picture.raw.append(replace(image, boxes=tuple(box for box in image.boxes if box not in known)))
        picture.splits += [image.split] if image.split and image.split not in picture.splits else []
    for picture in found.values():
        picture.written = sum(len(image.boxes) for image in picture.raw)
    return list(found.values())


def _unread(root: Path, raw: RawDataset, pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Yield a finding for everything that the reader could not use."""
    by_path = {picture.path: picture for picture in pictures}
    empty: dict[Path, str] = {}
    for repair in raw.repairs:
        name = printable(repair.image.relative_to(root).as_posix()) if repair.image else ""
        yield of_image(repair.kind, Action.SET_ASIDE, name, repair.where)
        if repair.image in by_path:
            by_path[repair.image].written += 1
            by_path[repair.image].lost += 1
        elif repair.image:
            empty.setdefault(repair.image, name)
    for name in empty.values():
        yield of_image(LEFT_EMPTY, Action.SET_ASIDE, name)


def _is_usable(root: Path, picture: Picture, least: int, findings: list[Finding]) -> bool:
    """Return whether a table can name an image, and a model be trained on it."""
    lost = f", with {picture.written} boxes" if picture.written else ""
    if not is_utf8(str(picture.path.relative_to(root))):
        where, detail = printable(picture.where), f"rename the file{lost}"
        findings.append(of_image(NOT_UTF8, Action.SET_ASIDE, picture.name, where, detail))
        return False
    usable = True
    for kind, action, detail in rules.check_image(picture.look, least):
        usable &= action != Action.SET_ASIDE
        detail += "" if usable else lost
        findings.append(picture.finding(kind, action, detail))
    return usable


def _place(
    picture: Picture, verdicts: Mapping[str, LabelDecision], limits: Limits, pixels: bool, findings: list[Finding]
) -> None:
    """Give the boxes their classes and their coordinates in the upright image."""
    look = picture.look
    for image in picture.raw:
        frame = Frame(look.width, look.height, look.orientation, image.size, pixels)
        boxes = {raw: raw.box for raw in image.boxes if rules.countable(raw.box)}
        repaired = None
        for reading in frames.read(list(boxes.values()), frame):
            if reading.action == Action.ASK:
                findings.append(of_image(reading.kind, reading.action, picture.name, image.where, reading.detail))
            else:
                repaired, boxes = reading, dict(zip(boxes, reading.boxes, strict=True))
        for raw in image.boxes:
            verdict = verdicts[raw.name]
            if verdict.cls is None:
                decided = verdict.reason == DECIDED
                kind, detail = (DROPPED, "") if decided else (NO_CLASS, verdict.reason)
                findings.append(of_box(kind, Action.SET_ASIDE, picture.name, raw, detail))
                picture.dropped += decided
                picture.lost += not decided
                continue
            box, broken = rules.check_box(boxes.get(raw, raw.box), look.width, look.height, limits)
            if repaired and raw in boxes and box is not None:
                findings.append(of_box(repaired.kind, repaired.action, picture.name, raw, repaired.detail, box))
            findings += [of_box(kind, action, picture.name, raw, became=box) for kind, action in broken]
            if box is None:
                picture.lost += 1
            else:
                picture.placed.append(UsableBox(box, verdict.cls, raw, picture.path))


def _one_of_each(pictures: Sequence[Picture], findings: list[Finding]) -> list[Picture]:
    """Keep one of the images with equal pixels, with the boxes of all: the first in the split that counts most."""
    by_path = {picture.path: picture for picture in pictures}
    gone = set()
    for paths in duplicates.exact({picture.path: picture.look for picture in pictures}):
        same = [by_path[path] for path in paths]
        best = max(same, key=lambda picture: SPLITS.index(picture.split) if picture.split else -1)
        for copy in same:
            if copy is best:
                continue
            detail = f"{copy.written} boxes united with those of the other"
            if copy.split != best.split:
                detail += f"; it was in {copy.split or 'no split'}, the other is in {best.split}"
            findings.append(copy.finding(EXACT, Action.SET_ASIDE, detail, best.name))
            best.placed += copy.placed
            best.written, best.lost = best.written + copy.written, best.lost + copy.lost
            best.dropped += copy.dropped
            gone.add(copy.path)
    return [picture for picture in pictures if picture.path not in gone]


def _settle(picture: Picture, findings: list[Finding]) -> None:
    """Keep one of the boxes in the same place, or none if their classes differ."""
    settled = settle(picture.placed)
    for box, first, overlap in settled.again:
        if box.file == first.file:  # otherwise the finding of the copy covers it
            detail = f"of {first.raw.where}, intersection over union {overlap:.2f}"
            findings.append(of_box(Kind.DUPLICATE, Action.SET_ASIDE, picture.name, box.raw, detail))
    for box, other in settled.conflicts:
        detail = f"set aside; {other.raw.where} says {other.name}"
        findings.append(of_box(CONFLICT, Action.ASK, picture.name, box.raw, detail))
    picture.lost += len(settled.conflicts)
    picture.placed = settled.kept


def _is_kept(picture: Picture, findings: list[Finding]) -> bool:
    """Return whether an image is kept; one that lost all of its boxes would be trained on as background."""
    if picture.written and not picture.placed:
        findings.append(picture.finding(LEFT_EMPTY, Action.SET_ASIDE, f"{picture.written} boxes"))
        return False
    if picture.lost:
        detail = f"{picture.lost} of {picture.written} lost: what they showed counts as background"
        findings.append(picture.finding(LOST_SOME, Action.ASK, detail))
    return True


def _split_findings(pictures: Sequence[Picture]) -> Iterator[Finding]:
    given = any(picture.splits for picture in pictures)
    for picture in pictures:
        if len(picture.splits) > 1:
            detail = f"{' and '.join(sorted(picture.splits))}; kept in {picture.split}"
            yield picture.finding(SEVERAL_SPLITS, Action.REPAIRED, detail)
        if given and not picture.splits:
            detail = "left out of training as it is; platform.dataset split gives every image a split"
            yield picture.finding(Kind.NO_SPLIT, Action.ASK, detail)


def _near_findings(
    near: Sequence[NearDuplicate], pictures: Mapping[Path, Picture], groups: Mapping[Path, int]
) -> Iterator[Finding]:
    for path, (distance, closest) in nearest(near).items():
        detail = f"group {groups[path]}, distance {distance:.3f}"
        yield pictures[path].finding(NEAR, Action.KEPT, detail, pictures[closest].name)
    for pair in near:
        one, other = pictures[pair.one], pictures[pair.other]
        if one.split and other.split and one.split != other.split:
            detail = f"{one.split} and {other.split}, distance {pair.distance:.3f}"
            yield one.finding(NEAR_APART, Action.ASK, detail, other.name)


def nearest(near: Iterable[NearDuplicate]) -> dict[Path, tuple[float, Path]]:
    """Return the distance and path of the nearest other image, for each image in a pair, ordered by path."""
    best: dict[Path, tuple[float, Path]] = {}
    for pair in sorted(near, key=lambda pair: (pair.distance, pair.one, pair.other)):
        best.setdefault(pair.one, (pair.distance, pair.other))
        best.setdefault(pair.other, (pair.distance, pair.one))
    return dict(sorted(best.items()))
