"""HTML page of one data set: decisions for a person, classes with examples, sizes, changes, copies, splits."""

import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from platform.curation.cleaning.findings import Action, Finding
from platform.curation.labels.grouping import DROP, is_merged
from platform.curation.pages.dataset_charts import all_charts
from platform.curation.pages.dataset_data import LABELS, Dataset, Label, visible
from platform.curation.pages.thumbnails import Crop, Thumbnails
from platform.data.detection import csv_boxes
from platform.data.files import inside, is_file
from platform.data.splits import SPLITS
from platform.reporting import html_page

MAX_EXAMPLES, MAX_PER_CLASS, MAX_CLASSES = 1600, 10, 800  # thumbnails of classes
MAX_QUESTIONS, MAX_OF_KIND, MAX_REPAIRS, MAX_GROUPS, MAX_OF_GROUP = 96, 12, 4, 9, 9  # shown of each
LARGE_GROUP = 5  # near duplicates from which a person is asked
MAX_MERGES, MAX_SPELLINGS, MAX_NAMES, MAX_HOSTS = 3000, 4, 200, 10  # listed of each
WHOLE, SMALL_WHOLE = (248, 150), (160, 100)  # largest size of whole images, pixels
STATES = {csv_boxes.FETCHED: "fetched", csv_boxes.CLEANED: "cleaned", csv_boxes.SPLIT: "cleaned and split"}

_Item = TypeVar("_Item")


def html(data: Dataset) -> tuple[str, int]:
    """Return the page of a data set, and how many decisions on it need a person."""
    pictures = _Pictures(data)
    eye, copies = _eye(data, pictures), _copies(data, pictures)
    repaired = [each for each in data.findings if each.action != Action.ASK and not pictures.other(each)]
    repairs = pictures.kinds(repaired, MAX_REPAIRS)
    examples = _examples(data, pictures.thumbnails)  # last: they are left out first where the page becomes too large
    pictures.thumbnails.make()
    text = html_page.render(
        "dataset.html.j2",
        data.root.name,
        all_charts(data),
        title=visible(data.root.name),
        state=STATES.get(data.table or "", data.layout),
        alarms=_alarms(data),
        sections=_sections(data),
        made=f"Made on {time.strftime('%Y-%m-%d %H:%M')} from {data.table or f'the {data.layout} annotations'}.",
        data=data,
        folder=shlex.quote(str(data.root)),
        labels=shlex.quote(str(data.root / LABELS)),
        visible=visible,
        counted=counted,
        first_of=_first,
        thumbnails=pictures.thumbnails,
        eye=eye,
        classes=_class_table(data),
        examples=examples,
        merges=_merges(data),
        repairs=repairs,
        unusable=_count_table("problem", "times", Counter(str(repair.kind) for repair in data.repairs)),
        copies=copies,
        splits=_splits(data),
        fetching=_fetching(data) if data.outcomes else None,
        origin=_origin(data),
    )
    return text, eye["count"]


def counted(n: int, one: str, many: str) -> str:
    """Return a number with its noun, e.g. "1 class", "1,200 classes"."""
    return f"{n:,} {one if n == 1 else many}"


def _alarms(data: Dataset) -> list[str]:
    found = [visible(f"{warning[:1].upper()}{warning[1:]}.", 200) for warning in data.warnings]
    if not data.boxes:
        found.append("There is no usable box: nothing can be trained on this data set.")
    if data.is_cleaned and not data.labels:
        found.append(f"{LABELS} is missing, so the page cannot show how labels were grouped. Run clean again.")
    return found


def _sections(data: Dataset) -> list[tuple[str, str]]:
    """Return (key, title) of the sections that the page has."""
    there = {"eye": data.is_cleaned, "examples": data.boxes_by_class, "sizes": data.boxes, "labels": data.is_cleaned}
    there |= {"copies": data.is_cleaned, "fetching": data.outcomes}
    keys = ("eye", "classes", "examples", "sizes", "labels", "repairs", "copies", "splits", "fetching", "origin")
    return [(key, "Decisions" if key == "eye" else key.capitalize()) for key in keys if there.get(key, True)]


class _Pictures:
    """Requests of the thumbnails that show findings, labels and near duplicates."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.thumbnails = Thumbnails()

    def image(self, name: str) -> Path | None:
        """Return an image that a table names; only files of the data set are shown."""
        path = inside(self.data.root, self.data.root, name) if name else None
        return path if path and is_file(path) else None

    def other(self, finding: Finding) -> Path | None:
        """Return the second image of a finding about a pair of images."""
        return self.image(finding.other) if finding.image and not finding.box else None

    def kinds(self, findings: Iterable[Finding], most: int) -> list[dict[str, Any]]:
        """Return findings by action and kind, the most frequent first, each with the first ones to be shown."""
        by_kind: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for each in findings:
            by_kind[each.kind, each.action].append(each)
        return [
            {"kind": kind, "action": str(action)} | _shown(found, most, self.finding)
            for (kind, action), found in sorted(by_kind.items(), key=lambda item: -len(item[1]))
        ]

    def finding(self, finding: Finding) -> dict[str, Any]:
        """Return a finding, its image with the box before and after, and the image that it is a copy of."""
        other = self.other(finding)
        used, written = ((box,) if box else () for box in (finding.mended, finding.box))
        size = SMALL_WHOLE if other else WHOLE
        crops = [
            Crop(path, used, written, whole=True, size=size) for path in (self.image(finding.image), other) if path
        ]
        return {"finding": finding, "crops": [*map(self.thumbnails.request, crops)]}

    def question(self, labels: Sequence[Label]) -> dict[str, Any]:
        """Return a label to be decided about, beside an example of the class that is suggested."""
        first = labels[0]
        written = [Crop(path, (box,)) for path, box in self.data.written.get(first.label, [])[:1]]
        of_class = _spread(self.data.boxes_by_class.get(first.suggestion, []), 1)
        suggested = [Crop(picture.path, (box,)) for picture, box in of_class]
        crop, example = (next(map(self.thumbnails.request, shown), None) for shown in (written, suggested))
        boxes = sum(each.boxes for each in labels)
        return {"label": first, "more": len(labels) - 1, "boxes": boxes, "crop": crop, "suggested": example}

    def group(self, group: Sequence[tuple[str, float | None]]) -> dict[str, Any]:
        """Return the images of a group of near duplicates, and the largest of their distances."""
        paths = filter(None, (self.image(name) for name, _ in group[:MAX_OF_GROUP]))
        crops = [self.thumbnails.request(Crop(path, whole=True, size=SMALL_WHOLE)) for path in paths]
        distances = [distance for _, distance in group if distance is not None]
        return {"crops": crops, "count": len(group), "distance": max(distances, default=None)}


def _shown(items: Sequence[_Item], most: int, show: Callable[[_Item], Any]) -> dict[str, Any]:
    """Return the number of items, the first of them as they are shown, and how many are left."""
    return {"count": len(items), "shown": [*map(show, items[:most])], "left": max(0, len(items) - most)}


def _eye(data: Dataset, pictures: _Pictures) -> dict[str, Any]:
    """Return what only a person can decide: labels in doubt or without meaning, findings, large groups of copies."""
    undecided = [each for each in data.labels if not each.decision]
    findings = [each for each in data.findings if each.action == Action.ASK]
    table = csv_boxes.table_of(data.root, before=csv_boxes.CLEANED)
    asked = _questions(each for each in undecided if each.suggestion not in ("", DROP))
    silent = _questions(each for each in undecided if each.suggestion == DROP or not each.name)
    eye: dict[str, Any] = {
        "asked": _shown(asked, MAX_QUESTIONS, pictures.question),
        "silent": _shown(silent, MAX_OF_KIND, pictures.question),
        "kinds": pictures.kinds(findings, MAX_OF_KIND),
        "groups": _shown(_groups(data, lambda size: size >= LARGE_GROUP), MAX_GROUPS, pictures.group),
        "source": table.name if table else "the annotations",
    }
    return eye | {"count": len(asked) + len(silent) + len(findings) + eye["groups"]["count"]}


def _questions(labels: Iterable[Label]) -> list[list[Label]]:
    """Group spellings of one class with one suggestion, the most frequent first."""
    questions: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for each in sorted(labels, key=lambda each: (each.label != each.name, -each.boxes, each.label)):
        questions[each.name or each.label, each.suggestion].append(each)
    return sorted(questions.values(), key=lambda labels: (-sum(each.boxes for each in labels), labels[0].label))


def _copies(data: Dataset, pictures: _Pictures) -> dict[str, Any]:
    """Return images that are the same or nearly so, without the large groups, which a person is asked about."""
    # near duplicates, which are kept, are shown by group
    pairs = [each for each in data.findings if each.action == Action.SET_ASIDE and pictures.other(each)]
    return {
        "kinds": pictures.kinds(pairs, MAX_GROUPS),
        "groups": _shown(_groups(data, lambda size: size < LARGE_GROUP), MAX_GROUPS, pictures.group),
        "images": sum(map(len, data.near_duplicates.values())),
    }


def _groups(data: Dataset, fits: Callable[[int], bool]) -> list[list[tuple[str, float | None]]]:
    """Return the groups of near duplicates whose size fits, the largest first."""
    return sorted((group for group in data.near_duplicates.values() if fits(len(group))), key=len, reverse=True)


def _spread(items: Sequence[_Item], most: int) -> list[_Item]:
    """Return at most so many items, evenly from the whole sequence."""
    return [items[(2 * n + 1) * len(items) // (2 * most)] for n in range(most)] if len(items) > most else list(items)


def _class_table(data: Dataset) -> dict[str, Any]:
    """Return a row for each class: boxes, images in each split, spellings."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for each in sorted(data.labels, key=lambda each: -each.boxes):
        if each.name and each.label != each.name:
            spellings[each.name].append(f"{visible(each.label, 40)} ×{each.boxes}")
    rows = []
    for name, boxes in data.boxes_by_class.items():
        images = [data.images_of(name, split) for split in (None, *data.splits)]
        merged = [len(spellings[name]) + 1, _first(spellings[name], MAX_SPELLINGS)] if data.labels else []
        rows.append([visible(name), len(boxes), *images, *merged])
    more = ["spellings", "merged into it"] if data.labels else []
    return html_page.table(["class", "boxes", "images", *data.splits, *more], rows)


def _first(texts: Sequence[str], most: int = MAX_NAMES) -> str:
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def _examples(data: Dataset, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return crops of each class; each class gets its first before any gets its second, should the page be full."""
    shown = list(data.boxes_by_class.items())[:MAX_CLASSES]
    few = max(1, min(MAX_PER_CLASS, MAX_EXAMPLES // max(1, len(shown))))
    crops = {name: [Crop(picture.path, (box,)) for picture, box in _spread(boxes, few)] for name, boxes in shown}
    for place in range(few):
        for of_class in crops.values():
            for crop in of_class[place : place + 1]:
                thumbnails.request(crop)
    return {"crops": crops, "left": len(data.boxes_by_class) - len(shown), "few": few}


def _merges(data: Dataset) -> dict[str, Any]:
    """Return which spellings became which class, and why."""
    order = {name: place for place, name in enumerate(data.boxes_by_class)}
    merged = [each for each in data.labels if is_merged(each.label, each.name, each.reason)]
    merged.sort(key=lambda each: (order.get(each.name, len(order)), each.name, -each.boxes, each.label))
    rows = [
        [visible(each.name), visible(each.label), visible(each.reason), each.score, each.boxes, visible(each.matched)]
        for each in merged[:MAX_MERGES]
    ]
    table = html_page.table(["class", "typed as", "reason", "score", "boxes", "matched with"], rows)
    classes = len({each.name for each in merged})
    return {"count": len(merged), "classes": classes, "table": table, "left": len(merged) - len(rows)}


def _count_table(name: str, number: str, counts: Counter[str], most: int | None = None) -> dict[str, Any]:
    return html_page.table([name, number], [list(item) for item in counts.most_common(most)])


def _splits(data: Dataset) -> dict[str, Any]:
    """Return the size of each split, the classes that are missing from it, and the classes that were too rare."""
    rows, missing = [], {}
    for split in data.splits:
        pictures = [picture for picture in data.pictures if picture.split == split]
        lacking = [visible(name, 40) for name in data.boxes_by_class if not data.images_of(name, split)]
        boxes, share = sum(len(picture.boxes) for picture in pictures), f"{len(pictures) / len(data.pictures):.1%}"
        rows.append([split, len(pictures), share, boxes, len(data.boxes_by_class) - len(lacking), len(lacking)])
        if lacking:
            missing[split] = lacking
    rare = {visible(name, 40): boxes for name, boxes in data.split_facts.get("rare", {}).get("boxes", {}).items()}
    columns = ["split", "images", "share", "boxes", "classes", "missing classes"]
    absent = [split for split in SPLITS if split not in data.splits]
    return {"table": html_page.table(columns, rows), "absent": absent, "missing": missing, "rare": rare}


def _fetching(data: Dataset) -> dict[str, Any]:
    """Return the addresses by outcome, and the hosts that failed most."""
    outcomes = Counter(visible(str(line.get("outcome", ""))) for line in data.outcomes)
    failed = Counter(visible(_host(str(line.get("url") or ""))) for line in data.outcomes if not line.get("image"))
    return {
        "listed": len({line["url"] for line in data.outcomes if line.get("url")}),
        "fetched": sum(bool(line.get("image")) for line in data.outcomes),
        "outcomes": _count_table("outcome", "addresses", outcomes),
        "hosts": _count_table("host", "failed addresses", failed, MAX_HOSTS),
    }


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "none"
    except ValueError:
        return "none"


def _origin(data: Dataset) -> dict[str, Any]:
    """Return the table of the page's source, and of the settings of cleaning and split."""
    facts = {"folder": data.root, "layout": data.layout, "table": data.table or "the annotations"}
    facts |= {f"cleaning, {key}": value for key, value in data.summary.get("thresholds", {}).items()}
    facts |= {f"split, {key}": data.split_facts[key] for key in ("seed", "shares") if key in data.split_facts}
    return html_page.pairs({visible(key): visible(str(value), 200) for key, value in facts.items()})
