"""What cleaning did, as the page shows it: merged labels, repairs and copies, with pictures."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from platform.curation.cleaning.findings import Action, Finding
from platform.curation.labels.grouping import is_merged
from platform.curation.pages.album import Album, Cut
from platform.curation.pages.dataset_data import Dataset
from platform.curation.shown import counted, visible
from platform.data.files import inside, is_file
from platform.reporting import html_page

EXAMPLES_SHOWN, PAIRS_SHOWN, GROUPS_SHOWN = 4, 9, 9  # of each, in pictures
LARGE_GROUP, GROUP_SHOWN = 5, 9  # images from which a group is large; shown of a group
MERGES_LISTED = 3000  # rows of a table
WHOLE, SMALL_WHOLE = (248, 150), (160, 100)  # pixels, at most

Group = list[tuple[str, float | None]]  # images that are nearly the same, with their distances


def merges(data: Dataset) -> dict[str, Any]:
    """Which spellings became which class, and why."""
    merged = [each for each in data.labels if is_merged(each.label, each.name, each.reason)]
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
        "reasons": html_page.table(["reason", "spellings", "boxes"],
                              [[reason, count, boxes[reason]] for reason, count in reasons.most_common()]),
        "table": html_page.table(["class", "typed as", "reason", "score", "boxes", "matched with"], rows),
        "left_out": len(merged) - len(rows),
    }  # fmt: skip


def repairs(data: Dataset, album: Album) -> dict[str, Any]:
    """What was done to images and boxes, by kind, with examples; copies are told by `copies`."""
    kinds = by_kind(each for each in data.findings if each.action != Action.ASK and not _other(data, each))
    counts = [[titled(kind), action, len(found)] for (action, kind), found in kinds.items()]
    shown = [
        {"kind": titled(kind), "action": action, "count": len(found), "shown": examples}
        for (action, kind), found in kinds.items()
        if (examples := [each for each in drawn(data, found, album, EXAMPLES_SHOWN) if each["cut"]])
    ]
    unusable = Counter(str(repair.kind) for repair in data.repairs)
    return {
        "table": html_page.table(["what was found", "what was done", "times"], counts),
        "shown": shown,
        "unusable": html_page.table(
            ["what reading the annotations found", "times"], [list(i) for i in unusable.items()]
        ),
        "count": sum(map(len, kinds.values())),
    }


def copies(data: Dataset, album: Album) -> dict[str, Any]:
    """Images that are the same or nearly so."""
    pairs = [(each, other) for each in data.findings if each.action != Action.ASK and (other := _other(data, each))]
    kinds = by_kind(each for each, _ in pairs)
    groups = [group for group in groups_of(data) if len(group) < LARGE_GROUP]
    others = {id(each): other for each, other in pairs}
    shown = [
        {
            "kind": titled(kind),
            "action": action,
            "count": len(found),
            "pairs": [_pair(data, each, others[id(each)], album) for each in found[:PAIRS_SHOWN]],
        }
        for (action, kind), found in kinds.items()
    ]
    return {
        "kinds": shown,
        "groups": [strip(data, group, album) for group in groups[:GROUPS_SHOWN]],
        "groups_count": len(groups),
        "grouped": f"{sum(map(len, data.groups.values())):,} images in {counted(len(data.groups), 'group', 'groups')}",
        "all_groups": len(data.groups),
    }


def drawn(data: Dataset, findings: Sequence[Finding], album: Album, most: int) -> list[dict[str, Any]]:
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


def strip(data: Dataset, group: Group, album: Album) -> dict[str, Any]:
    """A group of images that are nearly the same."""
    paths = [path for name, _ in group[:GROUP_SHOWN] if (path := _image(data, name))]
    cuts = [album.want(Cut(path, whole=True, size=SMALL_WHOLE)) for path in paths]
    distances = [distance for _, distance in group if distance is not None]
    return {"cuts": cuts, "count": len(group), "more": len(group) - len(cuts), "distance": max(distances, default=None)}


def groups_of(data: Dataset, least: int = 2) -> list[Group]:
    """Near duplicates, the largest group first."""
    return sorted((group for group in data.groups.values() if len(group) >= least), key=lambda group: -len(group))


def by_kind(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
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


def titled(kind: str) -> str:
    text = visible(kind)
    return text[:1].upper() + text[1:]
