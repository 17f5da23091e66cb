"""The page that tells of one data set."""

import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from platform.curation.pages import dataset_eye, dataset_findings
from platform.curation.pages.album import Album, Cut
from platform.curation.pages.dataset_charts import all_charts
from platform.curation.pages.dataset_data import Dataset
from platform.curation.shown import counted, visible
from platform.data.detection import csv_boxes
from platform.data.splits import SPLITS
from platform.reporting import html_page

MOST_EXAMPLES, PER_CLASS = 1600, (1, 10)  # pictures of classes in all, and of one
CLASSES_SHOWN = 800  # that have pictures
SPELLINGS = 4  # of a class that its row names
ABSENT = 200  # classes that a line names
HOSTS, OUTCOME_EXAMPLES = 10, 3
TIME = "%Y-%m-%d %H:%M"


def html(data: Dataset) -> tuple[str, dict[str, Any]]:
    """The page, and what on it needs a person's eye."""
    album, by_split = Album(), _by_split(data)
    eye = dataset_eye.eye(data, album)
    merges, repairs = dataset_findings.merges(data), dataset_findings.repairs(data, album)
    copies, examples = dataset_findings.copies(data, album), _examples(data, album)
    album.develop()
    text = html_page.render(
        "dataset.html.j2",
        data.name,
        all_charts(data, by_split),
        title=visible(data.name),
        over=_over(data),
        under=_under(data),
        alarms=_alarms(data),
        sections=_sections(data),
        made=f"Made on {time.strftime(TIME)} from {data.table or f'the {data.layout} annotations'}.",
        album=album,
        figures=_headline(data, merges["count"], eye["count"]),
        steps=_steps(data),
        cleaned=data.is_cleaned,
        eye=eye,
        classes=_classes(data, by_split),
        examples=examples,
        sizes=_sizes(data),
        merges=merges,
        repairs=repairs,
        copies=copies,
        splits=_splits(data, by_split) if data.is_split else None,
        fetched=_fetched(data) if data.outcomes else None,
        origin=_origin(data),
    )
    return text, eye


def _over(data: Dataset) -> str:
    steps = {csv_boxes.FETCHED: "fetched", csv_boxes.CLEANED: "cleaned", csv_boxes.SPLIT: "cleaned and split"}
    return f"data set · {steps.get(data.table or '', data.layout)}"


def _under(data: Dataset) -> str:
    what = ("class", "classes") if data.is_cleaned or not data.table else ("label", "labels as they were typed")
    told = f"{counted(len(data.pictures), 'image', 'images')} with {counted(data.boxes, 'box', 'boxes')}"
    return f"{told} of {counted(len(data.seen), *what)}{_background(data)}."


def _background(data: Dataset) -> str:
    empty = sum(not picture.boxes for picture in data.pictures)
    return f"; {counted(empty, 'image shows', 'images show')} none" if empty else ""


def _sections(data: Dataset) -> list[tuple[str, str]]:
    every = {"eye": "For your eye", "classes": "Classes", "examples": "Examples", "sizes": "Sizes",
             "labels": "Labels", "repairs": "Repairs", "copies": "Copies", "splits": "Splits", "fetched": "Fetching",
             "origin": "Origin"}  # fmt: skip
    absent = set() if data.is_cleaned else {"eye", "labels", "copies"}
    absent |= set() if data.outcomes else {"fetched"}
    absent |= set() if data.seen else {"examples", "sizes"}
    return [(key, name) for key, name in every.items() if key not in absent]


def _alarms(data: Dataset) -> list[str]:
    found = [visible(f"{warning[:1].upper()}{warning[1:]}.", 200) for warning in data.warnings]
    if not data.boxes:
        found.append("There is no box in it that could be used: nothing can be trained on this.")
    if data.is_cleaned and not data.labels:
        found.append("cleaning/labels.csv is gone: what became of the labels cannot be told. Run clean again.")
    return found


def _headline(data: Dataset, merged: int, for_eye: int) -> list[dict[str, str]]:
    told = [_figure("images", len(data.pictures)), _figure("boxes", data.boxes)]
    typed = f"of {len(data.labels):,} spellings" if data.labels else ""
    told.append(_figure("classes" if data.is_cleaned or not data.table else "labels", len(data.seen), typed))
    if data.outcomes:
        kept = sum(bool(line.get("image")) for line in data.outcomes)
        listed = len({line["url"] for line in data.outcomes if line.get("url")})  # rows may have none, or one's again
        told.append(_figure("addresses fetched", kept, f"of {listed:,} listed"))
    if data.is_cleaned:
        images, boxes = data.before
        boxes = max(0, boxes - data.boxes)
        told.append(
            _figure("images set aside", max(0, images - len(data.pictures)), f"and {counted(boxes, 'box', 'boxes')}")
        )
        told.append(_figure("labels merged", merged))
        told.append(_figure("for your eye", for_eye))
    return told


def _figure(name: str, value: int, more: str = "") -> dict[str, str]:
    return {"name": name, "value": f"{value:,}", "more": more}


def _steps(data: Dataset) -> list[dict[str, str]]:
    """What can be done next."""
    folder, own = shlex.quote(str(data.root)), "python -m platform.dataset"
    steps = []
    if not data.is_cleaned:
        steps.append({"why": "Not cleaned: labels, boxes and images are as they came.", "do": f"{own} clean {folder}"})
    if not data.is_split:
        steps.append({"why": "Not split: training would make its own splits.", "do": f"{own} split {folder}"})
    if data.is_split:
        steps.append({"why": "Ready to train on.", "do": f"python -m platform.tune detector --data {folder}"})
    return steps


def _by_split(data: Dataset) -> dict[str, Counter[str]]:
    """Images by split, for each class, the most frequent class first; those in no split are under ""."""
    return {
        name: Counter({picture.path: picture.split or "" for picture, _ in boxes}.values())
        for name, boxes in data.seen.items()
    }


def _classes(data: Dataset, by_split: Mapping[str, Counter[str]]) -> dict[str, Any]:
    """A row for each class."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for each in sorted(data.labels, key=lambda each: -each.boxes):
        if each.name and each.label != each.name:
            spellings[each.name].append(f"{visible(each.label, 40)} ×{each.boxes}")
    there = [split for split in SPLITS if any(counts[split] for counts in by_split.values())]
    columns = ["class", "boxes", "images", *there, *["spellings", "merged into it"] * bool(data.labels)]
    rows = [
        [visible(name), len(boxes), by_split[name].total(), *[by_split[name][split] for split in there],
         *[len(spellings[name]) + 1, _first(spellings[name], SPELLINGS)] * bool(data.labels)]
        for name, boxes in data.seen.items()
    ]  # fmt: skip
    return html_page.table(columns, rows)


def _first(texts: list[str], most: int) -> str:
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def _examples(data: Dataset, album: Album) -> dict[str, Any]:
    """A few pictures of each class; every class its first before any has its second, should there be no room."""
    shown = list(data.seen.items())[:CLASSES_SHOWN]
    few = max(PER_CLASS[0], min(PER_CLASS[1], MOST_EXAMPLES // max(1, len(shown))))
    cuts = {name: [Cut(picture.path, (box,)) for picture, box in dataset_findings.spread(boxes, few)]
            for name, boxes in shown}  # fmt: skip
    for place in range(few):
        for mine in cuts.values():
            for cut in mine[place : place + 1]:
                album.want(cut)
    return {
        "classes": [
            {"name": visible(name), "boxes": len(data.seen[name]), "cuts": mine} for name, mine in cuts.items()
        ],
        "without": len(data.seen) - len(shown),
        "few": few,
    }


def _sizes(data: Dataset) -> str:
    """COCO's three sizes of boxes, and the images' if they have but one."""
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for picture in data.pictures for b in (one.box for one in picture.boxes)]
    if not areas:
        return ""
    small, large = sum(area < 32**2 for area in areas), sum(area > 96**2 for area in areas)
    shares = [f"{count / len(areas):.0%} {name}" for name, count in
              (("small", small), ("medium", len(areas) - small - large), ("large", large))]  # fmt: skip
    told = f"As COCO counts: {', '.join(shares)}; small is less than 32 × 32 px, large more than 96 × 96 px."
    sizes = {(picture.width, picture.height) for picture in data.pictures}
    return told + "".join(f" All images have {width} × {height} px." for width, height in sizes if len(sizes) == 1)


def _splits(data: Dataset, by_split: Mapping[str, Counter[str]]) -> dict[str, Any]:
    there = [split for split in SPLITS if any(picture.split == split for picture in data.pictures)]
    rows, absent = [], []
    for split in there:
        mine = [picture for picture in data.pictures if picture.split == split]
        names = [name for name, counts in by_split.items() if not counts[split]]
        rows.append([split, len(mine), f"{len(mine) / len(data.pictures):.1%}", sum(len(p.boxes) for p in mine),
                     len(by_split) - len(names), len(names)])  # fmt: skip
        few = sum(by_split[name].total() < len(there) for name in names)
        if names:
            absent.append({"split": split, "count": len(names), "few": few,
                           "names": _first([visible(name, 40) for name in names], ABSENT)})  # fmt: skip
    lines = [f"There is no {split} split." for split in SPLITS if split not in there]
    rare = sorted(set(data.unsplit or {}) - set(data.seen))
    if rare:
        boxes = sum((data.unsplit or {})[name] for name in rare)
        told = f"{counted(len(rare), 'rare class', 'rare classes')} with {counted(boxes, 'box', 'boxes')}"
        shown = _first([visible(name, 40) for name in rare], ABSENT)
        lines.append(f"Without a class of its own after the split: {told}: {shown}.")
    columns = ["split", "images", "share", "boxes", "classes", "classes it lacks"]
    return {"table": html_page.table(columns, rows), "lines": lines, "absent": absent, "splits": len(there)}


def _fetched(data: Dataset) -> dict[str, Any]:
    by_outcome: dict[str, list[dict[str, Any]]] = defaultdict(list)
    hosts, failed = Counter[str](), Counter[str]()
    for line in data.outcomes:
        by_outcome[str(line.get("outcome", ""))].append(line)
        host = _host(str(line.get("url") or ""))
        hosts[host] += 1
        failed[host] += not line.get("image")
    order = sorted(by_outcome.items(), key=lambda item: -len(item[1]))
    examples = [
        [visible(outcome), visible(str(line.get("url") or ""), 120), visible(str(line.get("detail") or ""), 120)]
        for outcome, lines in order
        for line in lines[:OUTCOME_EXAMPLES]
    ]
    worst = [[visible(host), hosts[host], count] for host, count in failed.most_common(HOSTS) if count]
    return {
        "outcomes": html_page.table(["outcome", "addresses"], [[visible(name), len(lines)] for name, lines in order]),
        "examples": html_page.table(["outcome", "address", "detail"], examples),
        "hosts": html_page.table(["host", "addresses", "failed"], worst),
    }


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "none"
    except ValueError:
        return "none"


def _origin(data: Dataset) -> dict[str, Any]:
    told = {
        "folder": str(data.root),
        "layout": data.layout,
        "table": data.table or "the annotations as they were found",
    }
    told |= _flat("cleaning", data.summary) | _flat("split", data.split_facts)
    return html_page.pairs({visible(key): visible(str(value), 200) for key, value in told.items()})


def _flat(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and texts of nested facts; long tables are in their files."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            found |= _flat(f"{name}, {key}", value) if len(value) <= 20 else {}
        elif isinstance(value, int | float | str):
            found[f"{name}, {key}"] = value
        elif isinstance(value, list) and len(value) <= 5:
            found[f"{name}, {key}"] = ", ".join(map(str, value))
    return found
