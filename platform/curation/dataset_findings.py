"""What cleaning found, as the page shows it: what a person has to decide, merges, repairs and copies, with pictures."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from platform import page
from platform.curation.album import Album, Cut
from platform.curation.dataset_data import ASK, LABELS, Dataset, Finding, Label, key
from platform.curation.shown import counted, visible
from platform.data import csv_boxes
from platform.data.annotations import Box
from platform.data.files import inside, is_file

ASKED_SHOWN, KIND_SHOWN, EXAMPLES_SHOWN, PAIRS_SHOWN, GROUPS_SHOWN = 96, 12, 4, 9, 9  # of each, in pictures
LARGE_GROUP, GROUP_SHOWN = 5, 9  # images from which a group is large; shown of a group
MERGES_LISTED = 3000  # rows of a table
WHOLE, SMALL_WHOLE = (248, 150), (160, 100)  # pixels, at most

Group = list[tuple[str, float | None]]  # images that are nearly the same, with their distances


def eye(data: Dataset, album: Album) -> dict[str, Any]:
    """What needs a person's eye, and how to decide it."""
    asked = sorted((each for each in data.labels if each.is_asked), key=lambda each: (-each.boxes, each.label))
    dropped = sorted((each for each in data.labels if not each.name and each.boxes), key=lambda each: -each.boxes)
    kinds = _by_kind(each for each in data.findings if each.action == ASK)
    groups = _groups(data, LARGE_GROUP)
    folder = shlex.quote(str(data.root))
    return {
        "asked": [_asked(data, each, album) for each in asked[:ASKED_SHOWN]],
        "asked_count": len(asked),
        "asked_told": _told(asked),
        "dropped": [_dropped(data, each, album) for each in dropped[:KIND_SHOWN]],
        "dropped_count": len(dropped),
        "dropped_told": _told(dropped),
        "kinds": [
            {"kind": _title(kind), "count": len(found), "shown": _drawn(data, found, album, KIND_SHOWN)}
            for (_, kind), found in kinds.items()
        ],
        "groups": [_strip(data, group, album) for group in groups[:GROUPS_SHOWN]],
        "groups_count": len(groups),
        "large_group": LARGE_GROUP,
        "groups_told": f"{counted(len(groups), 'group', 'groups')} of {LARGE_GROUP} or more",
        "count": len(asked) + len(dropped) + sum(map(len, kinds.values())) + len(groups),
        "source": _source(data),
        "again": f"python -m platform.dataset clean {folder}",
        "decide": f"python -m platform.dataset clean {folder} --decisions {shlex.quote(str(data.root / LABELS))}",
    }


def merges(data: Dataset) -> dict[str, Any]:
    """Which spellings became which class, and why."""
    merged = [each for each in data.labels if each.name and each.label != each.name]
    order = {name: place for place, name in enumerate(data.seen)}
    merged.sort(key=lambda each: (order.get(each.name, len(order)), each.name, -each.boxes, each.label))
    reasons = Counter(visible(each.reason) for each in merged)
    boxes = Counter[str]()
    for each in merged:
        boxes[visible(each.reason)] += each.boxes
    rows = [
        [visible(each.name), visible(each.label), visible(each.reason), each.score, each.boxes, visible(each.matched)]
        for each in merged[:MERGES_LISTED]
    ]
    return {
        "count": len(merged),
        "told": f"{len(merged):,} of {counted(len(data.labels), 'spelling', 'spellings')} became "
        + counted(len({each.name for each in merged}), "class that is", "classes that are")
        + " written otherwise.",
        "reasons": page.table(["reason", "spellings", "boxes"],
                              [[reason, count, boxes[reason]] for reason, count in reasons.most_common()]),
        "table": page.table(["class", "typed as", "reason", "score", "boxes", "matched with"], rows),
        "left_out": len(merged) - len(rows),
    }  # fmt: skip


def repairs(data: Dataset, album: Album) -> dict[str, Any]:
    """What was done to images and boxes, by kind, with examples; copies are told by `copies`."""
    kinds = _by_kind(each for each in data.findings if each.action != ASK and not _other(data, each))
    counts = [[_title(kind), action, len(found)] for (action, kind), found in kinds.items()]
    shown = [
        {"kind": _title(kind), "action": action, "count": len(found), "shown": drawn}
        for (action, kind), found in kinds.items()
        if (drawn := [each for each in _drawn(data, found, album, EXAMPLES_SHOWN) if each["cut"]])
    ]
    unusable = Counter(str(repair.kind) for repair in data.repairs)
    return {
        "table": page.table(["what was found", "what was done", "times"], counts),
        "shown": shown,
        "unusable": page.table(["what reading the annotations found", "times"], [list(i) for i in unusable.items()]),
        "count": sum(map(len, kinds.values())),
    }


def copies(data: Dataset, album: Album) -> dict[str, Any]:
    """Images that are the same or nearly so."""
    pairs = [(each, other) for each in data.findings if each.action != ASK and (other := _other(data, each))]
    kinds = _by_kind(each for each, _ in pairs)
    groups = [group for group in _groups(data) if len(group) < LARGE_GROUP]
    others = {id(each): other for each, other in pairs}
    shown = [
        {
            "kind": _title(kind),
            "action": action,
            "count": len(found),
            "pairs": [_pair(data, each, others[id(each)], album) for each in found[:PAIRS_SHOWN]],
        }
        for (action, kind), found in kinds.items()
    ]
    return {
        "kinds": shown,
        "groups": [_strip(data, group, album) for group in groups[:GROUPS_SHOWN]],
        "groups_count": len(groups),
        "grouped": f"{sum(map(len, data.groups.values())):,} images in {counted(len(data.groups), 'group', 'groups')}",
        "all_groups": len(data.groups),
    }


def _asked(data: Dataset, label: Label, album: Album) -> dict[str, Any]:
    """A label whose class a person is asked for, beside the class that is suggested."""
    theirs = data.seen.get(label.suggestion, [])
    return {
        "label": visible(label.label),
        "suggestion": visible(label.suggestion),
        "score": label.suggestion_score,
        "boxes": _boxes(label),
        "reason": visible(label.reason),
        "mine": next((album.want(Cut(path, (box,))) for path, box in _seen(data, label)), None),
        "theirs": next((album.want(Cut(picture.path, (box,))) for picture, box in spread(theirs, 1)), None),
    }


def _dropped(data: Dataset, label: Label, album: Album) -> dict[str, Any]:
    cut = next((album.want(Cut(path, (box,))) for path, box in _seen(data, label)), None)
    return {"label": visible(label.label), "boxes": _boxes(label), "reason": visible(label.reason), "cut": cut}


def _boxes(label: Label) -> str:
    return counted(label.boxes, "box", "boxes")


def _told(labels: Sequence[Label]) -> str:
    boxes = sum(each.boxes for each in labels)
    return f"{counted(len(labels), 'label', 'labels')}, {counted(boxes, 'box', 'boxes')}"


def _seen(data: Dataset, label: Label) -> Sequence[tuple[Path, Box]]:
    return data.raw.get(key(label.label), [])


def _drawn(data: Dataset, findings: Sequence[Finding], album: Album, most: int) -> list[dict[str, Any]]:
    """The first findings of a kind, each with its image where there is one, and its box before and after."""
    shown = []
    for each in findings[:most]:
        path = _image(data, each.image)
        mended = each.mended
        written = (each.box,) if each.box else ()
        cut = Cut(path, (mended,) if mended else (), written, whole=True, size=WHOLE) if path else None
        shown.append({
            "cut": album.want(cut) if cut else None,
            "text": visible(each.detail or each.label or each.where, 160),
            "label": visible(each.label) if each.label else "",
            "where": visible(each.image or each.where, 120),
        })  # fmt: skip
    return shown


def _pair(data: Dataset, finding: Finding, other: Path, album: Album) -> dict[str, Any]:
    path = _image(data, finding.image)
    cuts = [Cut(each, whole=True, size=SMALL_WHOLE) for each in (path, other) if each]
    return {"cuts": [album.want(cut) for cut in cuts], "text": visible(finding.detail, 160)}


def _strip(data: Dataset, group: Group, album: Album) -> dict[str, Any]:
    """A group of images that are nearly the same."""
    paths = [path for name, _ in group[:GROUP_SHOWN] if (path := _image(data, name))]
    cuts = [album.want(Cut(path, whole=True, size=SMALL_WHOLE)) for path in paths]
    distances = [distance for _, distance in group if distance is not None]
    return {"cuts": cuts, "count": len(group), "more": len(group) - len(cuts), "distance": max(distances, default=None)}


def _groups(data: Dataset, least: int = 2) -> list[Group]:
    """Near duplicates, the largest group first."""
    return sorted((group for group in data.groups.values() if len(group) >= least), key=lambda group: -len(group))


def _by_kind(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Findings by (action, kind), the most frequent first."""
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for each in findings:
        found[each.action, each.kind].append(each)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _other(data: Dataset, finding: Finding) -> Path | None:
    """The other image of a pair."""
    return _image(data, finding.other) if finding.image and finding.other and not finding.box else None


def _image(data: Dataset, name: str) -> Path | None:
    """A file of the data set that a table names; no other file."""
    path = inside(data.root, data.root, name) if name else None
    return path if path and is_file(path) else None


def spread(boxes: Sequence[Any], most: int) -> list[Any]:
    """Some of a list, evenly from all of it."""
    return [boxes[(2 * n + 1) * len(boxes) // (2 * most)] for n in range(most)] if len(boxes) > most else list(boxes)


def _source(data: Dataset) -> str:
    """The table that cleaning reads, for who corrects a box there."""
    file = csv_boxes.table_of(data.root, before=csv_boxes.CLEANED)
    return file.name if file else "the annotations"


def _title(kind: str) -> str:
    text = visible(kind)
    return text[:1].upper() + text[1:]
